"""A node's stores without the node: opened and recovered as `raftkv serve` does it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from raftkv.kv.limits import Limits
from raftkv.node.config import NodeConfig, NodeStores
from raftkv.node.recovery import Recovered, recover
from raftkv.raft.entry import Address, Membership
from raftkv.raft.ready import RaftConfig
from raftkv.storage.directory import DataDirectory, open_directory
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.ports import LogStore, RecoveredLog
from raftkv.storage.state_storage import RocksStateStorage
from raftkv.versions import SUPPORTED
from raftkv.wire.membership import encode_membership

NODE_ID = 1
PEER_ID = 2
MEMBERSHIP = encode_membership(
    Membership(
        voters=frozenset({NODE_ID, PEER_ID}),
        addresses={
            NODE_ID: Address("127.0.0.1:1", "127.0.0.1:2"),
            PEER_ID: Address("127.0.0.1:3", "127.0.0.1:4"),
        },
    )
)
_CLUSTER_NAME = "power-cuts"
_CONFIG = NodeConfig(
    raft=RaftConfig(),
    tick_s=0.05,
    limits=Limits(),
    submissions_in_flight_max=4096,
    uncommitted_bytes_max=64 << 20,
    log_retained_bytes=32 << 10,
    log_compaction_bytes=64 << 10,
)


@dataclass(slots=True)
class StoredNode:
    """The open stores of one data directory, and what recovery has made of them.

    `found` is the log as it was before recovery.
    """

    directory: DataDirectory
    log: LogStore
    state: RocksStateStorage
    found: RecoveredLog
    recovered: Recovered

    async def close(self) -> None:
        """Release everything, as at a clean stop."""
        await self.state.close()
        await self.log.close()
        self.directory.close()


class LogWrapper:
    """Wraps the log store on which a node is recovered: production's, unless a subclass notes."""

    def wrapped(self, log: RocksLogStore) -> LogStore:
        return log

    def member(self) -> None:
        """The identity that makes this node a member is on the disk."""


async def open_node(path: Path, rng: Random, wrapper: LogWrapper) -> StoredNode:
    """Open and recover the node in `path`; an empty directory becomes a founder's.

    Raises `StorageError`.
    """
    directory = open_directory(path, _CLUSTER_NAME, NODE_ID, rng.getrandbits(64), free_bytes_min=0)
    opened: list[RocksLogStore | RocksStateStorage] = []
    try:
        identity = directory.load()
        if identity is None:
            identity = _founder()
            directory.save(identity)
        rocks_log = RocksLogStore(directory.log_path)
        opened.append(rocks_log)
        log = wrapper.wrapped(rocks_log)
        state = RocksStateStorage(directory.state_path)
        opened.append(state)
        found = log.recover()
        stores = NodeStores(directory, log, state)
        recovered = await recover(identity, _CONFIG, stores, rng)
        if identity.stage is not Stage.MEMBER:
            directory.save(replace(identity, stage=Stage.MEMBER, membership=b""))
        wrapper.member()
    except BaseException:
        for store in reversed(opened):
            await store.close()
        directory.close()
        raise
    return StoredNode(directory, log, state, found, recovered)


def _founder() -> DirectoryIdentity:
    return DirectoryIdentity(
        cluster_id=7,
        node_id=NODE_ID,
        disk_id=11,
        cluster_name=_CLUSTER_NAME,
        incarnation=13,
        membership=MEMBERSHIP,
        version=SUPPORTED.maximum,
    )

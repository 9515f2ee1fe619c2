"""A node that was removed from its cluster finds out and stops, whatever it was doing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from raftkv.errors import RemovedFromCluster
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.node.config import NodeConfig, NodeStores
from raftkv.node.node import Node
from raftkv.peer.ports import Frame, PeerHandler
from raftkv.raft.entry import Address, Entry, EntryKind, HardState, Membership, encode_version
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.ready import RaftConfig
from raftkv.storage.identity import DirectoryIdentity, MemoryIdentityStore, Stage
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import Checkpoint, Start
from raftkv.versions import SUPPORTED
from raftkv.wire.membership import encode_membership

CONFIG = NodeConfig(
    raft=RaftConfig(),
    tick_s=0.05,
    limits=Limits(),
    submissions_in_flight_max=16,
    uncommitted_bytes_max=1 << 20,
    log_retained_bytes=1 << 20,
    log_compaction_bytes=1 << 20,
)


class NoLinks:
    """Links to no peer: no other node can be reached."""

    connected: frozenset[int] = frozenset()

    def start(self, handler: PeerHandler, start: Start) -> None: ...
    def set_peers(self, addresses: Mapping[int, str]) -> None: ...
    def send(self, to: int, frame: Frame) -> None: ...
    async def send_snapshot(
        self, to: int, message: InstallSnapshot, checkpoint: Checkpoint
    ) -> None: ...
    async def close(self) -> None: ...


async def restarted_after_its_removal(
    directory: Path, *, applied: int, later: Sequence[Entry] = ()
) -> BaseException | None:
    """Why the node stops. Its log has the removal as entry 2, and is committed to its end."""
    addresses = {each: Address(f"n{each}:1", f"n{each}:2") for each in (1, 2, 3)}
    before = Membership(voters=frozenset({1, 2, 3}), addresses=addresses)
    after = replace(before, voters=frozenset({2, 3}), removed=frozenset({1}))
    entries = [
        Entry(1, index, EntryKind.MEMBERSHIP, encode_membership(each))
        for index, each in enumerate((before, after), start=1)
    ] + list(later)
    log, state = MemoryLogStore(), MemoryStateStorage(directory)
    await log.append(HardState(current_term=1, commit_index=len(entries)), entries)
    StateMachine(state.store, Limits()).apply(entries[:applied])
    identities = MemoryIdentityStore(DirectoryIdentity(7, 1, 1, incarnation=5, stage=Stage.MEMBER))
    identity = identities.load()
    assert identity is not None
    stores = NodeStores(identities, log, state)
    node = Node(identity, addresses[1], CONFIG, stores, NoLinks(), Random(1))
    await node.start()
    async with asyncio.timeout(10):
        reason = await node.stopped
    await node.stop()
    return reason


async def test_a_node_that_crashed_after_it_applied_its_removal_still_stops(tmp_path: Path) -> None:
    # jepsen-lite seed 4038: no node contacts a removed node, which is no voter and starts no
    # election. So a node that restarts with its removal applied must read it from its own state.
    reason = await restarted_after_its_removal(tmp_path, applied=2)
    assert isinstance(reason, RemovedFromCluster)


async def test_a_removed_node_stops_as_removed_although_the_cluster_was_upgraded_since(
    tmp_path: Path,
) -> None:
    upgrade = Entry(1, 3, EntryKind.VERSION, encode_version(SUPPORTED.maximum + 1))
    reason = await restarted_after_its_removal(tmp_path, applied=1, later=[upgrade])
    assert isinstance(reason, RemovedFromCluster)

"""Three nodes on a wire in memory, for tests on virtual time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from raftkv.errors import InvalidRequest, RaftkvError, Unavailable
from raftkv.kv.limits import Limits
from raftkv.kv.state_hash import MARK_ENTRIES
from raftkv.node.config import NodeConfig, NodeStores
from raftkv.node.node import Node
from raftkv.node.scrub import INTERVAL_S
from raftkv.peer.ports import Frame, PeerHandler
from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.entry import Address, Membership
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.ready import RaftConfig
from raftkv.storage.identity import DirectoryIdentity, MemoryIdentityStore, Stage
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import Checkpoint, Start
from raftkv.wire.membership import encode_membership

LATENCY_S = 0.001
STEP_S = 0.005
CLUSTER, INCARNATION = 7, 0xF00D


class Wire:
    """The network between the nodes. A node that is `cut_off` sends and receives nothing, and one
    that was never started does not answer.
    """

    def __init__(self, directory: Path, rng: Random, config: NodeConfig) -> None:
        self._directory = directory
        self._rng = rng
        self._config = config
        self.nodes: dict[int, Node] = {}
        self.links: dict[int, WireLinks] = {}
        self.identities: dict[int, MemoryIdentityStore] = {}
        self.logs: dict[int, MemoryLogStore] = {}
        self.states: dict[int, MemoryStateStorage] = {}
        self.cut_off: set[int] = set()
        self.snapshots_sent: list[tuple[int, int]] = []
        """By whom to whom, taken or not."""
        self.snapshot_arrives: Callable[[Path], None] = _unchanged
        self.refused: list[tuple[int, int, Exception]] = []
        """Whose frame was refused by whom, and why."""

    def carry(self, sender: int, to: int, frame: Frame) -> None:
        if to in self.nodes and not {sender, to} & self.cut_off:
            try:
                self.nodes[to].peer_handler.receive(sender, frame)
            except (InvalidRequest, ProtocolBreach) as error:
                self.refused.append((sender, to, error))

    async def start(self, node_id: int, initial: Membership | None = None) -> Node:
        """Start a node with empty disks; without `initial` it waits to be made a member."""
        self.identities[node_id] = MemoryIdentityStore(identity_of(node_id, initial))
        self.logs[node_id] = MemoryLogStore()
        self.states[node_id] = MemoryStateStorage(self._directory / str(node_id))
        return await self._run(node_id)

    async def restart(self, node_id: int) -> Node:
        """Kill the node and start it on what is on its disks."""
        await self.kill(node_id)
        return await self.restart_killed(node_id)

    async def restart_killed(self, node_id: int) -> Node:
        """Start a killed node on what is on its disks."""
        self.logs[node_id] = self.logs[node_id].crash()
        self.states[node_id] = self.states[node_id].crash()
        return await self._run(node_id)

    async def kill(self, node_id: int) -> None:
        """End the process: nothing that it does from now on reaches another node."""
        node = self.nodes.pop(node_id)
        self.links.pop(node_id).dead = True
        node.driver.finish(None)
        await node.stop()

    async def _run(self, node_id: int) -> Node:
        identity = self.identities[node_id].load()
        assert identity is not None
        self.links[node_id] = WireLinks(self, node_id)
        node = self.nodes[node_id] = Node(
            identity,
            address_of(node_id),
            self._config,
            NodeStores(self.identities[node_id], self.logs[node_id], self.states[node_id]),
            self.links[node_id],
            Random(self._rng.getrandbits(64)),
        )
        await node.start()
        return node


class WireLinks:
    def __init__(self, wire: Wire, node_id: int) -> None:
        self._wire = wire
        self._node_id = node_id
        self.connected: frozenset[int] = frozenset()
        self.addresses: Mapping[int, str] = {}
        self.dead = False
        self.start_of_node = Start()

    def start(self, handler: PeerHandler, start: Start) -> None:
        self.start_of_node = start

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        self.addresses = dict(addresses)

    def send(self, to: int, frame: Frame) -> None:
        if not self.dead:
            loop = asyncio.get_running_loop()
            loop.call_later(LATENCY_S, self._wire.carry, self._node_id, to, frame)

    async def send_snapshot(
        self, to: int, message: InstallSnapshot, checkpoint: Checkpoint
    ) -> None:
        if {self._node_id, to} & self._wire.cut_off:
            raise Unavailable("the wire is cut")
        self._wire.snapshots_sent.append((self._node_id, to))
        receiver = self._wire.nodes[to].peer_handler
        try:
            received = receiver.begin_snapshot(message)
            shutil.copytree(checkpoint.path, received, dirs_exist_ok=True)
            self._wire.snapshot_arrives(received)
            await receiver.finish_snapshot(message, received)
        except RaftkvError as error:
            raise Unavailable(f"node {to} did not take the snapshot: {error.message}") from error

    async def close(self) -> None: ...


LOG_BYTES = 1 << 20
"""Longer logs are compacted, and half of it stays."""


def config_of(
    *,
    leader_lease: bool,
    scrub_interval_s: float = INTERVAL_S,
    log_bytes: int = LOG_BYTES,
    mark_entries: int = MARK_ENTRIES,
) -> NodeConfig:
    return NodeConfig(
        raft=RaftConfig(leader_lease=leader_lease),
        tick_s=0.05,
        limits=Limits(),
        submissions_in_flight_max=16,
        uncommitted_bytes_max=1 << 20,
        log_retained_bytes=log_bytes // 2,
        log_compaction_bytes=log_bytes,
        scrub_interval_s=scrub_interval_s,
        mark_entries=mark_entries,
    )


def address_of(node_id: int) -> Address:
    return Address(f"n{node_id}:1", f"n{node_id}:2")


def members_of(*voters: int) -> Membership:
    """The first membership of these founders, each on its disk."""
    return Membership(
        voters=frozenset(voters),
        addresses={each: address_of(each) for each in voters},
        disk_ids={each: each for each in voters},
    )


def identity_of(node_id: int, initial: Membership | None) -> DirectoryIdentity:
    """Of a founder whose cluster is founded, or without `initial` of a node that has joined."""
    return DirectoryIdentity(
        CLUSTER,
        node_id,
        disk_id=node_id,
        incarnation=INCARNATION,
        stage=Stage.JOINING if initial is None else Stage.FOUNDING,
        membership=b"" if initial is None else encode_membership(initial),
    )


def _unchanged(_: Path) -> None:
    """A snapshot arrives as it was sent."""


@asynccontextmanager
async def cluster_of(
    directory: Path,
    seed: int,
    *,
    leader_lease: bool,
    scrub_interval_s: float = INTERVAL_S,
    log_bytes: int = LOG_BYTES,
    mark_entries: int = MARK_ENTRIES,
    config: NodeConfig | None = None,
) -> AsyncIterator[tuple[Wire, Node]]:
    """The wire and the first leader. The other settings do not matter if there is a `config`."""
    config = config or config_of(
        leader_lease=leader_lease,
        scrub_interval_s=scrub_interval_s,
        log_bytes=log_bytes,
        mark_entries=mark_entries,
    )
    wire = Wire(directory, Random(seed), config)
    for node_id in (1, 2, 3):
        await wire.start(node_id, members_of(1, 2, 3))
    await until(lambda: all(node.ready for node in wire.nodes.values()))
    (leader,) = leaders(wire)
    yield wire, leader
    wire.cut_off.clear()
    for node in wire.nodes.values():
        node.driver.finish(None)
        await node.stop()


async def raise_version(wire: Wire, leader: Node, version: int) -> None:
    """Nodes of a wire do not introduce themselves, so their leader does not do it by itself."""
    for each in range(1, version + 1):
        leader.driver._raft.propose_version(each)
    nodes = wire.nodes.values()
    await until(lambda: all(node.machine.cluster_version == version for node in nodes))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 - on virtual time a look costs nothing
            await asyncio.sleep(STEP_S)


def leaders(wire: Wire, but: Node | None = None) -> list[Node]:
    return [node for node in wire.nodes.values() if node.core.leads and node is not but]


def soon() -> float:
    return asyncio.get_running_loop().time() + 10.0

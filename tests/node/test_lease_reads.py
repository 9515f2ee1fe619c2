"""Three nodes on a wire in memory and on virtual time: who reads on a lease, and when not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import async_solipsism
import pytest

from raftkv.errors import RaftkvError, Unavailable
from raftkv.kv.limits import Limits
from raftkv.node.driver import NodeConfig
from raftkv.node.node import Node
from raftkv.raft.entry import Address, Membership
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.ready import RaftConfig
from raftkv.rpc import kv_pb2
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import Checkpoint
from raftkv.transport.ports import Frame, PeerHandler

LATENCY_S = 0.001
STEP_S = 0.005


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual-time": async_solipsism.EventLoop}


class Wire:
    """What the nodes hear of each other; one that is `cut_off` hears and says nothing."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.cut_off: set[int] = set()

    def carry(self, sender: int, to: int, frame: Frame) -> None:
        if not {sender, to} & self.cut_off:
            self.nodes[to].driver.receive(sender, frame)


class WireLinks:
    def __init__(self, wire: Wire, node_id: int) -> None:
        self._wire = wire
        self._node_id = node_id
        self.connected: frozenset[int] = frozenset()

    def start(self, handler: PeerHandler) -> None: ...
    def set_peers(self, addresses: Mapping[int, str]) -> None: ...
    def send(self, to: int, frame: Frame) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(LATENCY_S, self._wire.carry, self._node_id, to, frame)

    async def send_snapshot(
        self, to: int, message: InstallSnapshot, checkpoint: Checkpoint
    ) -> None:
        raise Unavailable("no snapshots on this wire")

    async def close(self) -> None: ...


def config_of(leader_lease: bool) -> NodeConfig:
    return NodeConfig(
        raft=RaftConfig(leader_lease=leader_lease),
        tick_s=0.05,
        limits=Limits(),
        submissions_in_flight_max=16,
        uncommitted_bytes_max=1 << 20,
        log_retained_bytes=1 << 20,
        log_compaction_bytes=1 << 20,
    )


@asynccontextmanager
async def cluster_of(
    directory: Path, seed: int, *, leader_lease: bool = True
) -> AsyncIterator[tuple[Wire, Node]]:
    """The wire and the first leader."""
    wire, rng = Wire(), Random(seed)
    addresses = {each: Address(f"n{each}:1", f"n{each}:2") for each in (1, 2, 3)}
    initial = Membership(voters=frozenset(addresses), addresses=addresses)
    for node_id in addresses:
        wire.nodes[node_id] = Node(
            node_id,
            7,
            config_of(leader_lease),
            MemoryLogStore(),
            MemoryStateStorage(directory / str(node_id)),
            WireLinks(wire, node_id),
            Random(rng.getrandbits(64)),
            initial,
        )
    for node in wire.nodes.values():
        await node.start()
    await until(lambda: all(node.ready for node in wire.nodes.values()))
    (leader,) = leaders(wire)
    yield wire, leader
    wire.cut_off.clear()
    for node in wire.nodes.values():
        node.driver.finish(None)
        await node.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 - on virtual time a look costs nothing
            await asyncio.sleep(STEP_S)


def leaders(wire: Wire, but: Node | None = None) -> list[Node]:
    return [node for node in wire.nodes.values() if node.driver.raft.leads and node is not but]


def soon() -> float:
    return asyncio.get_running_loop().time() + 10.0


def leased(node: Node) -> bool:
    """Whether a read would be answered here at once. The barrier of one that isn't is dropped."""
    barrier = node.lease_barrier(soon())
    if barrier is not None:
        barrier.cancel()
    return barrier is None


async def put(node: Node, value: bytes) -> None:
    command = kv_pb2.Command(put=kv_pb2.Put(key=b"k", value=value))
    await node.submit(kv_pb2.CommandBatch(commands=[command]).SerializeToString(), soon())


def value_at(node: Node) -> bytes:
    result = kv_pb2.Result()
    node.machine.get(b"k", result)
    return result.range.kvs[0].value


async def test_a_leader_in_use_reads_on_its_lease_without_a_pause(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1) as (wire, leader):
        await until(lambda: leased(leader))
        for _ in range(400):
            await asyncio.sleep(STEP_S)
            assert leased(leader)
        assert not any(leased(node) for node in wire.nodes.values() if node is not leader)


async def test_without_the_setting_nobody_reads_on_a_lease(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (_, leader):
        for _ in range(100):
            await asyncio.sleep(STEP_S)
            assert not leased(leader)


@pytest.mark.parametrize("seed", range(5))
async def test_a_leader_that_is_cut_off_has_lost_its_lease_before_another_leads(
    tmp_path: Path, seed: int
) -> None:
    async with cluster_of(tmp_path, seed) as (wire, deposed):
        await until(lambda: leased(deposed))
        wire.cut_off = {deposed.node_id}
        assert leased(deposed)
        while not leaders(wire, but=deposed):
            leased(deposed)
            await asyncio.sleep(STEP_S)
        while deposed.driver.raft.leads:
            assert not leased(deposed)
            await asyncio.sleep(STEP_S)


async def test_a_leader_that_wakes_from_a_pause_reads_nothing_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(tmp_path, 1) as (wire, paused):
        await put(paused, b"old")
        await until(lambda: leased(paused))
        wire.cut_off = {paused.node_id}
        with monkeypatch.context() as while_paused:
            while_paused.setattr(paused.driver.raft, "tick", lambda: None)
            await until(lambda: bool(leaders(wire, but=paused)))
            (new,) = leaders(wire, but=paused)
            await put(new, b"new")
        assert paused.driver.raft.leads  # it has not heard of anything yet
        barrier = paused.lease_barrier(soon())
        assert barrier is not None
        wire.cut_off.clear()
        await barrier
        assert value_at(paused) == b"new"


async def test_a_lease_read_waits_for_what_is_committed_and_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node may have applied and acknowledged it already."""
    async with cluster_of(tmp_path, 1) as (wire, leader):
        await until(lambda: leased(leader))
        follower = next(node for node in wire.nodes.values() if node is not leader)
        monkeypatch.setattr(leader.driver, "_apply_paused", True)
        await put(follower, b"new")
        barrier = leader.lease_barrier(soon())
        assert barrier is not None
        await asyncio.sleep(STEP_S)
        assert not barrier.done()
        monkeypatch.setattr(leader.driver, "_apply_paused", False)
        leader.driver.wake()
        await barrier
        assert value_at(leader) == b"new"


async def test_a_leader_that_is_giving_leadership_away_does_not_read_on_its_lease(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1) as (wire, leader):
        await until(lambda: leased(leader))
        heir = next(each for each in wire.nodes if each != leader.node_id)
        transfer = asyncio.ensure_future(leader.transfer_leader(heir, soon()))
        await asyncio.sleep(0)
        assert leader.driver.raft.leads
        assert not leased(leader)
        await transfer


async def test_a_node_that_has_stopped_has_no_lease(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1) as (_, leader):
        await until(lambda: leased(leader))
        leader.driver.finish(None)
        with pytest.raises(RaftkvError, match="stopping"):
            await leader.lease_barrier(soon())  # type: ignore[misc]

"""Three nodes on a wire in memory and on virtual time: who reads on a lease, and when not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.errors import RaftkvError
from raftkv.node.node import Node
from raftkv.rpc.v1 import kv_pb2
from tests.node.wire import STEP_S, cluster_of, leaders, soon, until


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
    async with cluster_of(tmp_path, 1, leader_lease=True) as (wire, leader):
        await until(lambda: leased(leader))
        for _ in range(400):
            await asyncio.sleep(STEP_S)
            assert leased(leader)
        assert not any(leased(node) for node in wire.nodes.values() if node is not leader)


async def test_without_the_setting_no_read_uses_a_lease(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (_, leader):
        for _ in range(100):
            await asyncio.sleep(STEP_S)
            assert not leased(leader)


@pytest.mark.parametrize("seed", range(5))
async def test_a_leader_that_is_cut_off_has_lost_its_lease_before_another_leads(
    tmp_path: Path, seed: int
) -> None:
    async with cluster_of(tmp_path, seed, leader_lease=True) as (wire, deposed):
        await until(lambda: leased(deposed))
        wire.cut_off = {deposed.node_id}
        assert leased(deposed)
        while not leaders(wire, but=deposed):
            leased(deposed)
            await asyncio.sleep(STEP_S)
        while deposed.core.leads:
            assert not leased(deposed)
            await asyncio.sleep(STEP_S)


async def test_a_leader_that_wakes_from_a_pause_reads_nothing_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=True) as (wire, paused):
        await put(paused, b"old")
        await until(lambda: leased(paused))
        wire.cut_off = {paused.node_id}
        with monkeypatch.context() as while_paused:
            while_paused.setattr(paused.core, "tick", lambda: None)
            await until(lambda: bool(leaders(wire, but=paused)))
            (new,) = leaders(wire, but=paused)
            await put(new, b"new")
        assert paused.core.leads  # it has received no message yet
        barrier = paused.lease_barrier(soon())
        assert barrier is not None
        wire.cut_off.clear()
        await barrier
        assert value_at(paused) == b"new"


async def test_a_lease_read_waits_for_what_is_committed_and_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node may have applied and acknowledged it already."""
    async with cluster_of(tmp_path, 1, leader_lease=True) as (wire, leader):
        await until(lambda: leased(leader))
        follower = next(node for node in wire.nodes.values() if node is not leader)
        monkeypatch.setattr(leader.driver._applier, "_paused", True)
        await put(follower, b"new")
        barrier = leader.lease_barrier(soon())
        assert barrier is not None
        await asyncio.sleep(STEP_S)
        assert not barrier.done()
        monkeypatch.setattr(leader.driver._applier, "_paused", False)
        leader.driver._run.wake()
        await barrier
        assert value_at(leader) == b"new"


async def test_a_leader_does_not_read_on_its_lease_during_a_leadership_transfer(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=True) as (wire, leader):
        await until(lambda: leased(leader))
        heir = next(each for each in wire.nodes if each != leader.node_id)
        transfer = asyncio.ensure_future(leader.transfer_leader(heir, soon()))
        await asyncio.sleep(0)
        assert leader.core.leads
        assert not leased(leader)
        await transfer


async def test_a_node_that_has_stopped_has_no_lease(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=True) as (_, leader):
        await until(lambda: leased(leader))
        leader.driver.finish(None)
        with pytest.raises(RaftkvError, match="stopping"):
            await leader.lease_barrier(soon())  # type: ignore[misc]

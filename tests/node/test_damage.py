"""A node with damaged data hands leadership on, leaves service, and passes none of it on."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from random import Random

import pytest

from raftkv.errors import DamagedData, OutcomeUnknown, OutOfService, ShuttingDown
from raftkv.kv.meta import META_KEY
from raftkv.kv.store import Family
from raftkv.node.node import Node
from raftkv.raft.entry import Membership
from raftkv.rpc.v1 import kv_pb2
from raftkv.versions import SUPPORTED
from tests.node.wire import Wire, address_of, cluster_of, config_of, leaders, soon, until

ELECTION_TIMEOUT_S_MAX = 20 * 0.05
SCRUB_S = 10.0


async def put(node: Node, value: bytes, key: bytes = b"k") -> None:
    command = kv_pb2.Command(put=kv_pb2.Put(key=key, value=value))
    await node.submit(kv_pb2.CommandBatch(commands=[command]).SerializeToString(), soon())


def value_at(node: Node, key: bytes = b"k") -> bytes:
    result = kv_pb2.Result()
    node.machine.get(key, result)
    return result.range.kvs[0].value if result.range.kvs else b""


async def damage(wire: Wire, node: Node, key: bytes = b"k") -> None:
    """The row of the key rots on the node's disk."""
    state = wire.states[node.node_id]
    await state.sync()
    state.damage(Family.CURRENT, key, 3)


async def end_of(node: Node) -> OutOfService:
    async with asyncio.timeout(2 * SCRUB_S):
        reason = await asyncio.shield(node.stopped)
    assert isinstance(reason, OutOfService), reason
    return reason


async def test_a_leader_whose_scrub_finds_damage_transfers_leadership_and_leaves_service(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False, scrub_interval_s=SCRUB_S) as (
        wire,
        leader,
    ):
        await put(leader, b"1")
        lead_by_then: list[Node] = []
        leader.stopped.add_done_callback(lambda _: lead_by_then.extend(leaders(wire)))
        await damage(wire, leader)
        reason = await end_of(leader)
        (successor,) = lead_by_then
        assert successor is not leader
        await put(successor, b"2")
        said = reason.message
        assert said.startswith("the row b'k' ")
        assert "(family current) is damaged; nothing of it was served" in said
        assert f"`raftkv member replace {leader.node_id} NEW`" in said
        assert "only after the replacement has caught up" in said


async def test_a_follower_whose_scrub_finds_damage_leaves_service_at_once(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False, scrub_interval_s=SCRUB_S) as (
        wire,
        leader,
    ):
        await put(leader, b"1")
        follower = next(node for node in wire.nodes.values() if node is not leader)
        await until(lambda: value_at(follower) == b"1")
        await damage(wire, follower)
        await end_of(follower)
        assert leaders(wire) == [leader]
        await put(leader, b"2")


async def test_a_withdrawing_node_serves_nothing_and_then_fails_what_is_pending(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=True) as (wire, leader):
        await put(leader, b"1")
        wire.cut_off = {leader.node_id}
        under_way = leader.submit(b"", soon())
        reading = leader.read_barrier(soon())
        await asyncio.sleep(0.01)
        leader.fail(DamagedData("a block is damaged"))
        assert not leader.driver.dead
        with pytest.raises(ShuttingDown):
            await reading
        assert not leader.driver.dead
        for refused in (
            leader.submit(b"", soon()),
            leader.read_barrier(soon()),
            leader.lease_barrier(soon()),
        ):
            assert refused is not None
            with pytest.raises(ShuttingDown):
                await refused
        with pytest.raises(ShuttingDown):
            leader.require_running()
        await end_of(leader)
        with pytest.raises(OutcomeUnknown):
            await under_way


async def test_a_withdrawal_without_a_successor_takes_two_election_timeouts_at_most(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        wire.cut_off = {leader.node_id}
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        leader.fail(DamagedData("a block is damaged"))
        await end_of(leader)
        assert loop.time() - began_s <= 2 * ELECTION_TIMEOUT_S_MAX + 0.1


async def test_a_write_that_meets_damage_is_applied_by_the_others(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        await put(leader, b"1")
        await damage(wire, leader)
        with pytest.raises((OutcomeUnknown, ShuttingDown)):
            await put(leader, b"2")
        await end_of(leader)
        await until(lambda: bool(leaders(wire)))
        others = [node for node in wire.nodes.values() if node is not leader]
        await until(lambda: all(value_at(node) == b"2" for node in others))


async def test_a_damaged_checkpoint_is_never_sent_and_the_next_leader_sends_a_whole_one(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        behind = next(node for node in wire.nodes.values() if node is not leader)
        wire.cut_off = {behind.node_id}
        await put(leader, b"1")
        for node in wire.nodes.values():
            if node is not behind:
                await until(lambda node=node: value_at(node) == b"1")  # type: ignore[misc]
                node.core.compact(node.core.last_applied)
        await damage(wire, leader)
        leader.core.unreachable(behind.node_id)
        wire.cut_off = set()
        await end_of(leader)
        await until(lambda: value_at(behind) == b"1")
        assert {sender for sender, _ in wire.snapshots_sent}.isdisjoint({leader.node_id})
        assert (leaders(wire)[0].node_id, behind.node_id) in wire.snapshots_sent


async def test_a_damaged_snapshot_is_refused_and_its_receiver_stays_in_service(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        await put(leader, b"1")
        behind = next(node for node in wire.nodes.values() if node is not leader)
        await until(lambda: value_at(behind) == b"1")
        wire.cut_off = {behind.node_id}
        await put(leader, b"2")
        leader.core.compact(leader.core.last_applied)
        leader.core.unreachable(behind.node_id)
        arrived: list[bytes] = []

        def harm(received: Path) -> None:
            (file,) = received.iterdir()
            content = file.read_bytes()
            arrived.append(content)
            if len(arrived) < 3:
                file.write_bytes(content.replace(b"2", b"3"))
            assert value_at(behind) == b"1"

        wire.snapshot_arrives = harm
        wire.cut_off = set()
        await until(lambda: value_at(behind) == b"2")
        assert len(arrived) == 3
        assert not behind.driver.dead


async def test_a_single_node_with_damage_gets_the_advice_to_keep_its_disk(tmp_path: Path) -> None:
    wire = Wire(tmp_path, Random(1), config_of(leader_lease=False, scrub_interval_s=SCRUB_S))
    alone = Membership(voters=frozenset({1}), addresses={1: address_of(1)}, disk_ids={1: 1})
    node = await wire.start(1, alone)
    state = wire.states[1]
    # What the raising writes would repair the row.
    await until(lambda: node.status().cluster_version == SUPPORTED.maximum)
    await state.sync()
    state.damage(Family.META, META_KEY, 3)
    said = (await end_of(node)).message
    assert "keep the data directory" in said
    assert not re.search("replace|delete", said, re.IGNORECASE)
    await node.stop()

"""A batch whose way to the leader fails, or whose leader fails, is proposed again by its origin."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.errors import OutcomeUnknown
from raftkv.node.node import Node
from raftkv.rpc.v1 import kv_pb2
from tests.node.wire import Wire, cluster_of, leaders, soon, until


def put(key: bytes, **session: int) -> bytes:
    command = kv_pb2.Command(put=kv_pb2.Put(key=key, value=b"v"))
    return kv_pb2.CommandBatch(commands=[command], **session).SerializeToString()


def followers(wire: Wire, leader: Node) -> list[Node]:
    return [node for node in wire.nodes.values() if node is not leader]


async def test_a_forward_that_is_lost_is_sent_again_to_the_same_leader(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower, _ = followers(wire, leader)
        term = leader.term
        wire.cut_off = {follower.node_id}
        batch = follower.submit(put(b"k"), soon())
        await asyncio.sleep(0.01)
        wire.cut_off = set()
        await batch
        assert (leader.term, leader.machine.revision) == (term, 2)


async def test_a_batch_for_a_leader_that_fails_is_applied_once_by_the_next(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower, _ = followers(wire, leader)
        before = follower.submit(put(b"before"), soon())
        await asyncio.sleep(0.0015)  # the leader has it, and has sent it to nobody
        wire.cut_off = {leader.node_id}
        lost = follower.submit(put(b"lost"), soon())
        await asyncio.gather(before, lost)
        assert leader.term < follower.term
        assert follower.machine.revision == 3


async def test_a_leader_that_is_replaced_has_its_own_batch_applied_by_the_next(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        wire.cut_off = {leader.node_id}
        batch = leader.submit(put(b"k"), soon())
        await until(lambda: bool(leaders(wire, but=leader)))
        wire.cut_off = set()
        await batch
        assert not leader.core.leads
        assert leader.machine.revision == 2


@pytest.mark.parametrize("in_session", [False, True])
async def test_a_batch_that_a_snapshot_may_include_is_unknown_or_found_in_its_session(
    tmp_path: Path, in_session: bool
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        follower, _ = followers(wire, leader)
        grant = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=60_000, lease=5))
        await leader.submit(kv_pb2.CommandBatch(commands=[grant]).SerializeToString(), soon())
        fields = {"session": 5, "sequence": 1} if in_session else {}
        await asyncio.sleep(0.1)
        written = follower.submit(put(b"k", **fields), soon())
        await asyncio.sleep(0.0015)  # the leader has it
        wire.cut_off = {follower.node_id}
        await until(lambda: leader.machine.revision == 2)
        leader.core.compact(leader.core.last_applied)
        leader.core.unreachable(follower.node_id)
        wire.cut_off = set()
        began_s = asyncio.get_running_loop().time()
        if in_session:
            result = kv_pb2.BatchResult.FromString(await written)
            assert result.results[0].revision == 2
        else:
            with pytest.raises(OutcomeUnknown, match="snapshot"):
                await written
        assert asyncio.get_running_loop().time() < began_s + 5.0, "before its deadline"
        assert wire.snapshots_sent
        assert leader.machine.revision == 2

"""Giving leadership to a node that does not take it: three nodes on a wire in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.errors import MembershipRefused, Unavailable
from raftkv.node.membership_changes import require_caught_up
from raftkv.raft.progress import Progress
from raftkv.rpc.v1 import kv_pb2
from tests.node.wire import STEP_S, cluster_of, until


def put() -> bytes:
    command = kv_pb2.Command(put=kv_pb2.Put(key=b"k"))
    return kv_pb2.CommandBatch(commands=[command]).SerializeToString()


@pytest.mark.parametrize("patience_s", [0.1, 10.0])
async def test_a_failed_transfer_reports_the_present_leader(
    tmp_path: Path, patience_s: float
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        dead = next(each for each in wire.nodes if each != leader.node_id)
        wire.cut_off = {dead}
        said = f"^node {dead} did not take over; node {leader.node_id} still leads$"
        with pytest.raises(Unavailable, match=said):
            await leader.transfer_leader(dead, asyncio.get_running_loop().time() + patience_s)


async def test_a_batch_that_is_submitted_during_a_failed_transfer_is_applied_after_it(
    tmp_path: Path,
) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        dead, other = (each for each in wire.nodes if each != leader.node_id)
        wire.cut_off = {dead}
        until_s = asyncio.get_running_loop().time() + 5.0
        transfer = asyncio.ensure_future(leader.transfer_leader(dead, until_s))
        await until(lambda: leader.core.transferee == dead)
        last_index = leader.core.log.last_index
        batches = [wire.nodes[each].submit(put(), until_s) for each in (leader.node_id, other)]
        while leader.core.transferee:
            assert leader.core.log.last_index == last_index, "nothing is proposed meanwhile"
            await asyncio.sleep(STEP_S)
        await asyncio.gather(*batches)
        with pytest.raises(Unavailable):
            await transfer
        assert leader.core.leads


def test_the_refusal_of_a_lagging_learner_has_its_lag() -> None:
    with pytest.raises(MembershipRefused, match=r"it lacks 788 entries; try again when it has$"):
        require_caught_up(4, Progress(1, messages_max=1, bytes_max=1), 788, acknowledging=True)

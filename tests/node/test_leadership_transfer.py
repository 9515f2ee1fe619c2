"""Giving leadership to a node that does not take it: three nodes on a wire in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftkv.errors import MembershipRefused, Unavailable
from raftkv.node.membership_changes import require_caught_up
from raftkv.raft.progress import Progress
from tests.node.wire import cluster_of


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


def test_the_refusal_of_a_lagging_learner_has_its_lag() -> None:
    with pytest.raises(MembershipRefused, match=r"it lacks 788 entries; try again when it has$"):
        require_caught_up(4, Progress(1, messages_max=1, bytes_max=1), 788, acknowledging=True)

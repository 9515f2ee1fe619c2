"""The simulator's peer links exist, and answer, where production's do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jepsen_lite.faults.kinds import BitFlip, MemberChange
from jepsen_lite.sim.plan import draw_plan
from jepsen_lite.sim.run import run

pytestmark = pytest.mark.usefixtures("quiet_nodes")


def test_a_node_that_catches_up_answers_a_leader_its_members_do_not_name_yet() -> None:
    """Seed 8, reduced: it passed only because each datagram counted as a call."""
    schedule = (
        BitFlip(at_s=19.498, for_s=0.275, node="node-3"),
        MemberChange(at_s=19.521, for_s=0.0, remove="node-1", add=True, add_first=True),
    )
    outcome = run(replace(draw_plan(8, seconds=30.0), schedule=schedule, seconds=30.0))
    assert not outcome.problems

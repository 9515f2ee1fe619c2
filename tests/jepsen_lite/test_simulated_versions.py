"""Nodes that do not support a raised cluster version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jepsen_lite.faults.kinds import MemberChange, SlowDisk, Stop
from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("quiet_nodes")


def test_a_node_removed_just_before_a_version_that_it_can_not_follow_stops_as_removed() -> None:
    """It still gets entries for an election timeout; this one is no reason of its own to stop."""
    last_of_the_older = MemberChange(3.5, 0.0, "node-3", add=False, add_first=False)
    schedule = (
        *(Stop(at_s, 0.3, name) for at_s, name in ((1.0, "node-1"), (2.0, "node-2"))),
        SlowDisk(3.0, 4.0, ("node-3",), 0.1),  # it applies its removal and the version together
        last_of_the_older,
    )
    older = SCENARIOS["older-programs"](1)
    outcome = run(replace(older, schedule=schedule, seconds=6.0, think_s=0.3))
    assert outcome.faults["MemberChange"] == 1
    assert not outcome.problems

"""Nodes that do not support a raised cluster version."""

from __future__ import annotations

import pytest

from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("quiet_nodes")


def test_a_node_removed_just_before_a_version_that_it_can_not_follow_stops_as_removed() -> None:
    """It still gets entries for an election timeout; this one is no reason of its own to stop."""
    assert not run(SCENARIOS["memberships"](20)).problems

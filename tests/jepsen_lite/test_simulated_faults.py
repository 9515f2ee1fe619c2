"""A fault counts when it took effect, not when it was tried; and every drawn
plan has one that will.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from jepsen_lite.faults.kinds import (
    LEADER,
    TRIGGERING_NODE,
    Compaction,
    DirectRemoval,
    Fault,
    FullDisk,
    Isolate,
    Kill,
    MemberChange,
    NetworkConditions,
    PoorNetwork,
    RollingFault,
    SlowDisk,
    SlowLink,
    Split,
    Transfer,
    Trigger,
    TriggeredFault,
    WallClockJump,
    takes_effect,
)
from jepsen_lite.sim.plan import draw_plan
from jepsen_lite.sim.run import Outcome, run
from jepsen_lite.sim.scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("quiet_nodes")

DOWN = Kill(0.2, 3.0, ("node-2",), power=True)


def under(*faults: Fault) -> Outcome:
    plan = replace(SCENARIOS["relays"](1), schedule=faults, seconds=2.0, workloads=("register",))
    outcome = run(plan)
    assert not outcome.problems
    return outcome


ON_NODE_2 = (
    Isolate(0.5, 1.0, "node-2", deaf=True, mute=True, clients_too=False),
    Split(0.5, 1.0, ("node-2",), "", one_way=False),
    FullDisk(0.5, 1.0, "node-2"),
    SlowDisk(0.5, 1.0, ("node-2",), 0.1),
    SlowLink(0.5, 1.0, "node-1", "node-2", 0.1),
    TriggeredFault(0.5, 1.0, Trigger.COMMITTED, 1, Kill(0.0, 0.1, ("node-2",), power=True)),
)


def test_a_fault_on_a_node_that_is_down_has_no_effect() -> None:
    assert under(DOWN, *ON_NODE_2).faults == {"Kill": 1}


@pytest.mark.parametrize("fault", ON_NODE_2, ids=lambda fault: type(fault).__name__)
def test_the_same_fault_on_a_node_that_runs_has_an_effect(fault: Fault) -> None:
    assert type(fault).__name__ in under(fault).faults


def test_a_triggered_fault_counts_when_it_strikes_and_not_when_it_is_armed() -> None:
    trap = Isolate(0.0, 0.1, TRIGGERING_NODE, deaf=True, mute=True, clients_too=False)
    assert not under(TriggeredFault(0.5, 1.0, Trigger.LEADER, 1, trap)).faults
    sprung = under(TriggeredFault(0.5, 1.0, Trigger.COMMITTED, 2, trap)).faults
    assert sprung == {"TriggeredFault": 1, "Isolate": 2}


def test_a_rolling_fault_counts_when_its_first_step_has_struck() -> None:
    assert not under(RollingFault(0.5, 1.0, ((Trigger.MEMBERSHIP, 0.0),), crash=False)).faults
    struck = under(RollingFault(0.5, 1.0, ((Trigger.COMMITTED, 0.0),), crash=False)).faults
    assert struck == {"RollingFault": 1, "RollingIsolation": 1}


def test_a_request_that_a_node_refuses_has_no_effect() -> None:
    # A node that is cut off can transfer no leadership, remove no member and commit nothing.
    alone = Isolate(0.5, 1.2, LEADER, deaf=True, mute=True, clients_too=True)
    leader = under(alone).fault_records[0].target
    others = sorted({"node-1", "node-2", "node-3"} - {leader})
    asked = (
        Transfer(0.6, 0.0, others[0]),
        DirectRemoval(0.6, 0.0, leader, others[1]),
        Compaction(0.6, 0.0),
    )
    assert under(alone, *asked).faults == {"Isolate": 1}
    assert under(Transfer(0.6, 0.0, others[0])).faults == {"Transfer": 1}
    assert under(DirectRemoval(0.6, 0.0, leader, others[1])).faults == {"DirectRemoval": 1}
    assert under(Compaction(0.6, 0.0)).faults == {"Compaction": 1}


def test_a_forced_removal_does_not_wait_for_acknowledgements() -> None:
    leader = under(WallClockJump(0.5, 0.0, LEADER, 1.0)).fault_records[0].target
    down, other = sorted({"node-1", "node-2", "node-3"} - {leader})

    def removals(*, force: bool) -> int:
        away = Kill(0.5, 0.7, (down,), power=True)
        return under(away, DirectRemoval(0.6, 0.0, LEADER, other, force)).faults["DirectRemoval"]

    assert removals(force=True) == 1
    assert removals(force=False) == 0


def test_a_change_of_membership_counts_when_the_members_have_changed() -> None:
    changed = under(MemberChange(0.5, 0.0, "", True, add_first=True))
    assert changed.faults == {"MemberChange": 1}
    assert changed.members_changed == 1
    assert not under(MemberChange(0.5, 0.0, "", False, add_first=False)).faults


def test_unchanged_network_conditions_are_no_fault() -> None:
    assert not under(PoorNetwork(0.5, 1.0, NetworkConditions())).faults
    assert under(PoorNetwork(0.5, 1.0, NetworkConditions(loss=0.1))).faults


def test_a_run_whose_only_fault_has_no_observable_effect_is_vacuous() -> None:
    outcome = under(WallClockJump(0.5, 0.0, "node-1", 60.0))
    assert outcome.faults == {"WallClockJump": 1}
    assert outcome.vacuous == "no fault took effect"
    assert not under(DOWN).vacuous


@pytest.mark.parametrize("seconds", [0.5, 5.0, 10.0, 30.0])
def test_every_drawn_plan_has_a_fault_that_is_certain_to_take_effect(seconds: float) -> None:
    for seed in range(1, 1001):
        schedule = draw_plan(seed, seconds).schedule
        assert any(takes_effect(fault) and fault.at_s < seconds for fault in schedule), seed


def test_a_plan_that_was_drawn_without_one_gets_it_and_is_not_vacuous() -> None:
    plan = draw_plan(1, 0.5)
    assert len(plan.schedule) == 1
    assert not run(plan).vacuous

"""Marks of short simulated runs: of crashes, disks, snapshots, clients and watches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from jepsen_lite.faults.kinds import (
    LEADER,
    Fault,
    FullDisk,
    Isolate,
    Kill,
    MemberChange,
    Pause,
    SlowDisk,
    Stop,
)
from jepsen_lite.sim.injection.operator_schedule import draw_operator
from jepsen_lite.sim.net.client_conditions import ClientConditions
from jepsen_lite.sim.plan import Plan
from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet_nodes")]


PLAN = replace(SCENARIOS["relays"](1), schedule=(), seconds=2.0, workloads=("register",))


def marks_of(
    *faults: Fault, plan: Plan = PLAN, workloads: tuple[str, ...] = PLAN.workloads
) -> Counter[str]:
    outcome = run(replace(plan, schedule=faults, workloads=workloads))
    assert not outcome.problems
    return outcome.marks


COORDINATION = ("lock", "watch")


@pytest.fixture(scope="module")
def coordinating() -> Counter[str]:
    return marks_of(workloads=COORDINATION)


@pytest.fixture(scope="module")
def calm() -> Counter[str]:
    return marks_of()


@pytest.mark.parametrize(
    ("fault", "reached"),
    [
        (
            Kill(0.8, 0.5, (LEADER,), power=True),
            {
                "crash: power cut of a leader",
                "replication: replicate while the leader crashes",
                "a node starts again",
                "a node starts again with its vote of the term",
                "a client's stream breaks with batches in flight",
            },
        ),
        (Pause(0.5, 1.5, LEADER), {"a paused leader goes on beside a later one"}),
        (Pause(0.5, 0.1, LEADER), {"a leader goes on"}),
        (SlowDisk(0.5, 1.0, ("node-2",), 0.1), {"a sync is slow"}),
        (FullDisk(0.5, 1.0, "node-2"), {"a write finds the disk full"}),
        (
            Isolate(0.5, 1.2, LEADER, deaf=True, mute=True, clients_too=False),
            {"a leader without a majority steps down", "a write is not applied in time"},
        ),
        (
            MemberChange(0.5, 0.0, "", True, add_first=True),
            {
                "membership: AddLearner done",
                "membership: Claim done",
                "a joint configuration is entered",
                "a joint configuration is left",
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set) else "",
)
def test_a_fault_reaches_its_marks_and_a_calm_run_does_not(
    fault: Fault, reached: set[str], calm: Counter[str]
) -> None:
    assert reached - marks_of(fault).keys() == set()
    assert reached & calm.keys() == set()


def test_what_happens_after_the_run_is_not_counted(calm: Counter[str]) -> None:
    """In the end all processes are killed, which is no crash that the run has survived."""
    assert not [name for name in calm if name.startswith("crash: ")]


def test_a_node_that_stops_ends_watches_and_waits(coordinating: Counter[str]) -> None:
    reached = {
        "a live watch moves to another node",
        "a stopping node ends a wait for a lock",
        "a stopping node ends a watch",
    }
    plan = replace(PLAN, seconds=3.0)
    found = marks_of(Stop(1.0, 0.5, LEADER), plan=plan, workloads=COORDINATION)
    assert reached - found.keys() == set()
    assert reached & coordinating.keys() == set()
    assert "a watch catches up" in coordinating


def test_a_slow_answer_renews_a_lease_late(coordinating: Counter[str]) -> None:
    slow = ClientConditions(slow_answers=0.5, slow_answer_s_max=1.0)
    plan = replace(PLAN, seconds=3.0, client_conditions=slow)
    assert "a lease is renewed with a late answer" in marks_of(plan=plan, workloads=COORDINATION)
    assert "a lease is renewed with a late answer" not in coordinating


AWAY = replace(
    SCENARIOS["snapshots"](1), schedule=(Kill(0.5, 1.5, ("node-2",), power=True),), seconds=3.0
)
"""Node 2 is down while the others compact their logs."""

SNAPSHOTS = {
    "a snapshot is sent",
    "a snapshot is installed",
    "message: InstallSnapshot at a follower",
    "replication: probe to snapshot",
    "replication: snapshot while the peer installs a snapshot",
    "a log is compacted",
}


def test_a_node_that_was_away_reaches_the_marks_of_snapshots() -> None:
    assert SNAPSHOTS - run(AWAY).marks.keys() == set()


def test_only_the_marks_show_that_a_scenario_has_lost_its_point() -> None:
    """With a long log no snapshot is sent: all checks pass, and prove nothing about snapshots."""
    outcome = run(replace(AWAY, tuning=replace(AWAY.tuning, log_compaction_bytes=64 << 20)))
    assert not outcome.problems
    assert not outcome.vacuous
    assert SNAPSHOTS & outcome.marks.keys() == set()


def test_the_state_machine_refuses_for_each_reason() -> None:
    reached = marks_of(plan=replace(PLAN, seconds=4.0), workloads=("refusals",))
    reasons = "REVISION_IN_FUTURE", "TOO_LARGE", "LEASE_EXISTS", "KEY_NOT_FOUND", "TOO_MANY_KEYS"
    assert {f"command refused: {reason}" for reason in (*reasons, "REFUSED")} <= reached.keys()
    assert "an acquire does not join: the lock is held" in reached
    assert "a queue's cached length is forgotten" in reached


def test_addresses_change_learners_leave_and_impostors_are_refused() -> None:
    schedule = draw_operator(Random(3), PLAN.node_names, 8.0)
    reached = marks_of(*schedule, plan=replace(PLAN, seconds=8.0))
    assert {
        "membership: UpdateAddress done",
        "a learner is removed",
        "a change is refused: leadership is being transferred",
        "peer refused: WRONG_VERSION",
        "peer refused: OTHER_DISK",
    } <= reached.keys()


@pytest.mark.slow
def test_snapshots_meet_watches_waits_and_crashes() -> None:
    outcome = run(SCENARIOS["snapshots-beside-readers"](3))
    assert not outcome.problems
    reached = outcome.marks
    assert {
        "a snapshot is installed beside a live watch",
        "a snapshot is installed beside a wait for a lock",
        "a snapshot of a former leader is installed",
        "a node crashes while it sends a snapshot",
        "a node crashes while it installs a snapshot",
    } <= reached.keys()

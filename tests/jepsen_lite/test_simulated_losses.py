"""A holder whose key or lease is removed reports its loss in time, where no fault interferes."""

from __future__ import annotations

from jepsen_lite.checkers.losses import NOTICED_S, SETTLED_S, SLACK_S, check_losses
from jepsen_lite.faults.record import FaultRecord
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Finding
from tests.jepsen_lite.checkers.histories import SECOND, assert_valid, only_problem, operation

REMOVED_AT = 20 * SECOND
IN_TIME = REMOVED_AT + int((NOTICED_S + SLACK_S) * SECOND)


def judged(ended_at: int, function: str = "lost", *fault_records: FaultRecord) -> Finding:
    history: list[Operation] = [
        operation(1, SECOND, SECOND, "acquire", None, {"token": 5}),
        operation(2, REMOVED_AT, REMOVED_AT, "remove", [5, "lease"]),
        operation(1, ended_at, ended_at, function),
    ]
    return check_losses(history, "acquire", "release", fault_records)


def fault(began_s: float, ended_s: float | None) -> FaultRecord:
    ended_ns = None if ended_s is None else round(ended_s * SECOND)
    return FaultRecord("Pause", "node-1", round(began_s * SECOND), ended_ns, took_effect=True)


def test_a_holder_that_reports_its_loss_in_time_or_released_is_valid() -> None:
    for function in ("lost", "release"):
        found = judged(IN_TIME, function)
        assert_valid(found)
        assert found.statistics["removals"] == 1


def test_a_holder_that_reports_its_loss_too_late_is_found() -> None:
    problem = only_problem(judged(IN_TIME + 1))
    assert "token 5, whose lease was removed" in problem
    only_problem(judged(IN_TIME + 1, "keep"))


def test_removals_beside_a_fault_or_soon_after_it_are_not_judged() -> None:
    removed_s = REMOVED_AT / SECOND
    for beside in (
        fault(removed_s + 0.5, removed_s + 0.6),
        fault(1.0, None),
        fault(1.0, removed_s - SETTLED_S + 0.1),
    ):
        found = judged(IN_TIME + 1, "lost", beside)
        assert_valid(found)
        assert found.statistics["removals"] == 0
    only_problem(judged(IN_TIME + 1, "lost", fault(1.0, removed_s - SETTLED_S - 0.1)))

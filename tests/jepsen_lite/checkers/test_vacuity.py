"""A run that proved nothing does not pass, and numbers about a run are right."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_lite.checkers import statistics, vacuity
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import FAIL, INFO, SECOND, operation


def fault(began_s: float, ended_s: float | None, took_effect: bool = True) -> dict[str, Any]:
    ended_ns = None if ended_s is None else int(ended_s * SECOND)
    return {
        "name": "kill",
        "began_ns": int(began_s * SECOND),
        "ended_ns": ended_ns,
        "took_effect": took_effect,
    }


def busy(until_s: int, function: str = "write", **changed: Any) -> list[Operation]:
    """Two operations in each second."""
    half = SECOND // 2
    return [
        operation(1, n * half, n * half + half // 2, function, **changed)
        for n in range(2 * until_s)
    ]


def test_a_run_with_faults_and_successes_at_once_is_not_vacuous() -> None:
    finding = vacuity.check(busy(10), [fault(5, 6)], ["kill"], ok_per_s_min=2)
    assert finding.validity is Validity.VALID, finding.problems


def test_a_run_that_was_to_have_no_fault_needs_none() -> None:
    assert vacuity.check(busy(1), []).validity is Validity.VALID


@pytest.mark.parametrize(
    ("expected", "history", "faults", "minimum"),
    [
        ("no operation was ever invoked", [], [fault(1, 2)], 0),
        (
            "none of 2 operations read of workload w succeeded",
            [*busy(9), *busy(1, "read", kind=FAIL)],
            [fault(1, 2)],
            0,
        ),
        ("no fault was begun", busy(9), [], 0),
        ("none of 1 faults took effect", busy(9), [fault(1, 2, False)], 0),
        ("no operation was under way", busy(2), [fault(5, None)], 0),
        ("before the first fault 2 operations per second", busy(9), [fault(5, 6)], 3),
    ],
)
def test_each_reason_for_a_vacuous_run_is_reported(
    expected: str, history: list[Operation], faults: list[dict[str, Any]], minimum: float
) -> None:
    finding = vacuity.check(history, faults, ["kill"], minimum)
    assert finding.validity is Validity.VACUOUS
    (problem,) = finding.problems
    assert expected in problem.text


def test_an_operation_of_unknown_outcome_is_no_success() -> None:
    finding = vacuity.check(busy(1, kind=INFO), [])
    assert finding.validity is Validity.VACUOUS


def test_counts_latencies_rates_and_gaps_are_reported() -> None:
    history = [*busy(10), operation(2, 15 * SECOND, 20 * SECOND, "read")]
    returned = statistics.check([*history, operation(3, 0, 1, "read", kind=FAIL)]).statistics
    assert returned["counts"] == {"read": {"ok": 1, "fail": 1}, "write": {"ok": 20}}
    assert returned["latency_ms"]["write"]["p50"] == 250
    assert returned["latency_ms"]["read"]["p99"] == 5_000
    assert returned["ok_per_s"] == 1.05
    assert returned["longest_gaps_s"][0] == {"from": 9.75, "length": 10.25}


def test_an_empty_history_has_statistics_too() -> None:
    assert statistics.check([]).statistics["ok_per_s"] == 0

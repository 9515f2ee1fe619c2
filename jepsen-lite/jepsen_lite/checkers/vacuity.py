"""Vacuous runs: no fault took effect, no operation succeeded, or the two never overlapped.

Expects all operations of a run and its faults as they stand in `faults.jsonl`: {"name", "began_ns",
"ended_ns", "took_effect"}, on the clock of the history; "ended_ns" null if it lasted to the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jepsen_lite.checkers.statistics import rate_per_s
from jepsen_lite.history import NEVER_NS, Kind, Operation, began_ns, ended_ns
from jepsen_lite.verdicts import Finding, Problem, Validity, listed

Fault = Mapping[str, Any]


def check(
    operations: Sequence[Operation],
    faults: Sequence[Fault],
    nemeses_asked: Sequence[str] = (),
    ok_per_s_min: float = 0.0,
) -> Finding:
    """VACUOUS or VALID. `nemeses_asked` are the names of the faults that the run was to have."""
    effective = [fault for fault in faults if fault["took_effect"]]
    texts = [
        *_without_success(operations),
        *_without_fault(faults, effective, nemeses_asked),
        *_never_both(operations, effective),
        *_too_slow(operations, effective, ok_per_s_min),
    ]
    statistics = {
        "operations": len(operations),
        "faults": len(faults),
        "faults_that_took_effect": len(effective),
    }
    validity = Validity.VACUOUS if texts else Validity.VALID
    return Finding("vacuity", validity, tuple(Problem(text) for text in texts), statistics)


def _without_success(operations: Sequence[Operation]) -> Iterator[str]:
    """No kind of operation may only have failed."""
    if not operations:
        yield "no operation was ever invoked"
    asked = Counter((each.invocation.workload, each.invocation.function) for each in operations)
    succeeded = {
        (each.invocation.workload, each.invocation.function)
        for each in operations
        if each.kind is Kind.OK
    }
    for workload, function in sorted(asked.keys() - succeeded):
        times = asked[workload, function]
        yield f"none of {times} operations {function} of workload {workload} succeeded"


def _without_fault(
    faults: Sequence[Fault], effective: Sequence[Fault], asked: Sequence[str]
) -> Iterator[str]:
    if asked and not effective:
        tried = f"none of {len(faults)} faults took effect" if faults else "no fault was begun"
        yield f"the nemesis was to cause {listed(asked)}, but {tried}"


def _never_both(operations: Sequence[Operation], effective: Sequence[Fault]) -> Iterator[str]:
    """Some operation must have been under way while a fault was."""
    spans = [(began_ns(each), _last_seen_ns(each)) for each in operations]
    overlap = any(
        began <= _fault_end_ns(fault) and fault["began_ns"] <= ended
        for fault in effective
        for began, ended in spans
    )
    if effective and operations and not overlap:
        yield f"no operation was under way during any of {len(effective)} faults"


def _last_seen_ns(operation: Operation) -> float:
    # The caller waited until then, whatever the outcome.
    return NEVER_NS if operation.completion is None else operation.completion.time_ns


def _fault_end_ns(fault: Fault) -> float:
    ended: float | None = fault["ended_ns"]
    return NEVER_NS if ended is None else ended


def _too_slow(
    operations: Sequence[Operation], effective: Sequence[Fault], ok_per_s_min: float
) -> Iterator[str]:
    """A system that does next to nothing in peace cannot show much under faults."""
    if not effective or not operations:
        return
    began = min(began_ns(each) for each in operations)
    first_fault = min(fault["began_ns"] for fault in effective)
    done = sum(each.kind is Kind.OK and ended_ns(each) < first_fault for each in operations)
    rate = rate_per_s(done, first_fault - began)
    if rate < ok_per_s_min:
        yield (
            f"before the first fault {rate:g} operations per second succeeded, less than"
            f" {ok_per_s_min:g}"
        )

"""The part of a run that the report shows in full: around the failure, or around a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from jepsen_lite.history import Operation
from jepsen_lite.report.record import RunRecord
from jepsen_lite.verdicts import Problem, Validity

OPERATIONS_MAX = 240
MARGIN_NS_MAX = 30_000_000_000


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A problem with its operations, in the order of their invocations."""

    checker: str
    problem: Problem
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Focus:
    """The part of a run that is drawn in full, and `why` this one, as the end of a sentence."""

    began_ns: int
    ended_ns: int
    operations: tuple[Operation, ...]
    why: str
    counterexample: Counterexample | None = None
    failed_ns: int | None = None
    """When the failure was seen: the last moment of the counterexample, if there is one."""
    moment_ns: int = 0
    """What it is drawn around: the failure, or the fault if nothing failed."""

    @cached_property
    def numbers(self) -> Mapping[int, int]:
        """From `invoked_at` to the number that an operation of the counterexample has."""
        if self.counterexample is None:
            return {}
        named = self.counterexample.operations
        return {each.invoked_at: number for number, each in enumerate(named, 1)}


def counterexamples(record: RunRecord) -> list[Counterexample]:
    """Those of invalid findings first; problems that name no event have none."""
    at: dict[int, Operation] = {}
    for operation in record.operations:
        at[operation.invoked_at] = operation
        if operation.completed_at >= 0:
            at[operation.completed_at] = operation
    found = []
    for finding in sorted(record.findings, key=lambda each: each.validity != Validity.INVALID):
        for problem in finding.problems:
            named = {at[event].invoked_at: at[event] for event in problem.events if event in at}
            if named:
                ordered = tuple(named[position] for position in sorted(named))
                found.append(Counterexample(finding.checker, problem, ordered))
    return found


def find_focus(record: RunRecord, found: list[Counterexample]) -> Focus:
    """The first counterexample's end; without one when something broke inside, or the last
    fault; a short run is shown whole.
    """
    focus = _found_focus(record, found)
    effective = [fault.began_ns for fault in record.faults if fault.took_effect]
    moment_ns = max(effective, default=record.began_ns)
    return replace(focus, moment_ns=moment_ns if focus.failed_ns is None else focus.failed_ns)


def _found_focus(record: RunRecord, found: list[Counterexample]) -> Focus:
    first = found[0] if found else None
    operations = record.operations
    ended_ns = _last_moment_ns(first, record.ended_ns) if first else record.failed_ns
    if len(operations) <= OPERATIONS_MAX:
        return Focus(record.began_ns, record.ended_ns, operations, "the whole run", first, ended_ns)
    if first is not None and ended_ns is not None:
        began_ns = min(each.invocation.time_ns for each in first.operations)
        if len(_within(operations, began_ns, ended_ns)) > OPERATIONS_MAX:
            # Too long to show whole: the end is where it was seen to be wrong.
            began_ns = max(each.invocation.time_ns for each in first.operations)
        why = "around the counterexample"
        return replace(_around(operations, began_ns, ended_ns, why, first), failed_ns=ended_ns)
    if ended_ns is not None:
        why = "around what broke inside"
        return replace(_around(operations, ended_ns, ended_ns, why), failed_ns=ended_ns)
    effective = [fault.began_ns for fault in record.faults if fault.took_effect]
    if effective:
        last_ns = max(effective)
        return _around(operations, last_ns, last_ns, "around the last fault")
    return _around(operations, record.began_ns, record.began_ns, "the run's beginning")


def _last_moment_ns(found: Counterexample, run_ended_ns: int) -> int:
    ends = [
        each.completion.time_ns if each.completion is not None else each.invocation.time_ns
        for each in found.operations
    ]
    return min(max(ends), run_ended_ns)


def _around(
    operations: tuple[Operation, ...],
    began_ns: int,
    ended_ns: int,
    why: str,
    found: Counterexample | None = None,
) -> Focus:
    """As much on both sides as can be read."""
    distances = sorted(_distance_ns(each, began_ns, ended_ns) for each in operations)
    margin_ns = min(distances[OPERATIONS_MAX] - 1, MARGIN_NS_MAX)
    low_ns, high_ns = began_ns - max(margin_ns, 0), ended_ns + max(margin_ns, 0)
    low_ns = max(low_ns, operations[0].invocation.time_ns)
    shown = _within(operations, low_ns, high_ns)[:OPERATIONS_MAX]
    return Focus(low_ns, high_ns, shown, why, found)


def _within(
    operations: tuple[Operation, ...], began_ns: int, ended_ns: int
) -> tuple[Operation, ...]:
    """Those that were open at some moment of the window."""
    return tuple(each for each in operations if _distance_ns(each, began_ns, ended_ns) <= 0)


def _distance_ns(operation: Operation, began_ns: int, ended_ns: int) -> int:
    """How far an operation lies from a window; 0 if it was open within it."""
    invoked_ns = operation.invocation.time_ns
    completion = operation.completion
    # An unanswered operation is drawn where it began; else it would be in every window.
    completed_ns = completion.time_ns if completion is not None else invoked_ns
    return max(0, invoked_ns - ended_ns, began_ns - completed_ns)

"""A queue that is swept: each added element is there until exactly one sweep removes it.

Expects operations of one workload with
- "add": value the element, each added once;
- "sweep": value how many elements it may take; returns {"gone": those it took, "more": whether
  there were others};
- "read": returns the list of all elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jepsen_lite.history import (
    Kind,
    Operation,
    answered,
    asked,
    before,
    began_ns,
    ended_ns,
    returned,
)
from jepsen_lite.verdicts import Finding, Problem, at, finding, listed, problem, unknown, who

_NAME = "queue"


def check(operations: Sequence[Operation]) -> Finding:
    """Elements that two sweeps took, that a sweep took beyond its limit or left behind unsaid, that
    are there after they were taken, were never added, or are lost.
    """
    adds = {each.invocation.value: each for each in asked(operations, "add")}
    sweeps = sorted(answered(operations, "sweep"), key=began_ns)
    reads = sorted(answered(operations, "read"), key=began_ns)
    unknown_sweeps = [each for each in asked(operations, "sweep") if each.kind is Kind.INFO]
    statistics = {
        "adds": len(adds),
        "sweeps": len(sweeps),
        "swept": sum(len(returned(each)["gone"]) for each in sweeps),
        "reads": len(reads),
        "unknown_sweeps": len(unknown_sweeps),
    }
    if not reads:
        return unknown(_NAME, "the queue was never read", statistics)
    taken_by, problems = _taken(sweeps)
    problems += _never_added(adds, sweeps, reads)
    problems += _come_back(taken_by, reads)
    problems += _left_behind(adds, taken_by, sweeps, reads[-1])
    for read in reads:
        problems += _lacking(adds, taken_by, unknown_sweeps, read)
    return finding(_NAME, problems, statistics)


def _taken(sweeps: Sequence[Operation]) -> tuple[dict[Any, Operation], list[Problem]]:
    """The sweep that took each element, and sweeps that took what they must not."""
    problems: list[Problem] = []
    taken_by: dict[Any, Operation] = {}
    for sweep in sweeps:
        gone, limit = returned(sweep)["gone"], sweep.invocation.value
        if len(gone) > limit:
            text = f"{who(sweep)} swept {len(gone)} elements, more than its limit of {limit}"
            problems.append(problem(text, sweep))
        for element in gone:
            first = taken_by.setdefault(element, sweep)
            if first is not sweep:
                text = f"swept twice: {who(first)} and {who(sweep)} both took {element}"
                problems.append(problem(text, first, sweep))
    return taken_by, problems


def _never_added(
    adds: dict[Any, Operation], sweeps: Sequence[Operation], reads: Sequence[Operation]
) -> list[Problem]:
    return [
        problem(f"never added: {who(each)} observed {element}, which was never added", each)
        for each in (*sweeps, *reads)
        for element in (returned(each) if each in reads else returned(each)["gone"])
        if element not in adds or began_ns(adds[element]) > ended_ns(each)
    ]


def _come_back(taken_by: dict[Any, Operation], reads: Sequence[Operation]) -> list[Problem]:
    return [
        problem(
            f"came back: {who(taken_by[element])} took {element}, and {who(read)}'s read that"
            f" began {at(began_ns(read))} shows it",
            taken_by[element],
            read,
        )
        for read in reads
        for element in returned(read)
        if element in taken_by and before(taken_by[element], read)
    ]


def _left_behind(
    adds: dict[Any, Operation],
    taken_by: dict[Any, Operation],
    sweeps: Sequence[Operation],
    last_read: Operation,
) -> list[Problem]:
    """A sweep that said that there were no more, though something was there before and after it."""
    problems: list[Problem] = []
    left = set(returned(last_read))
    for sweep in sweeps:
        if returned(sweep)["more"]:
            continue
        behind = [
            element
            for element, add in adds.items()
            if before(add, sweep)
            and (element in left if element not in taken_by else before(sweep, taken_by[element]))
        ]
        if behind:
            text = f"left behind: {who(sweep)} observed that no more was there than it took, but"
            problems.append(problem(f"{text} {listed(behind)} were", sweep))
    return problems


def _lacking(
    adds: dict[Any, Operation],
    taken_by: dict[Any, Operation],
    unknown_sweeps: Sequence[Operation],
    read: Operation,
) -> list[Problem]:
    """Elements that were added before the read began and are missing from it, if they are more than
    sweeps of unknown outcome can have taken.
    """
    shown = set(returned(read))
    lacking = [
        element
        for element, add in adds.items()
        if add.kind is Kind.OK
        and before(add, read)
        and element not in shown
        and (element not in taken_by or before(read, taken_by[element]))
    ]
    may_have_taken = sum(
        each.invocation.value for each in unknown_sweeps if began_ns(each) <= ended_ns(read)
    )
    if len(lacking) <= may_have_taken:
        return []
    text = (
        f"lost: {who(read)}'s read that began {at(began_ns(read))} lacks {listed(lacking)}, and"
        f" sweeps of unknown outcome can have taken {may_have_taken} at most"
    )
    return [problem(text, read, *(adds[element] for element in lacking))]

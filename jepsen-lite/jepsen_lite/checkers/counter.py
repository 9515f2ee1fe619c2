"""A counter whose increments must each take effect exactly once, however often they are retried.

Expects operations of one workload on one key with
- "increment": value a unique one; returns [value, revision];
- "read": returns how many increments the counter holds;
- "trace" (after everything is healed): returns every version that the counter ever had, from the
  last to the first, each as [version, value, revision]; version n is the n-th increment. Where
  the first ones are compacted, it returns {"left": the others}.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Any

from jepsen_lite.history import Kind, Operation, answered, asked, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "counter"


def check(operations: Sequence[Operation]) -> Finding:
    """Judge the last trace against what was acknowledged, every read by its bounds, and all that
    has a place among the counter's versions against time.
    """
    increments = {
        each.invocation.value: each
        for each in operations
        if each.invocation.function == "increment"
    }
    traces = list(answered(operations, "trace"))
    outcomes = [each.kind for each in increments.values()]
    statistics = {
        "increments": len(increments),
        "acknowledged": outcomes.count(Kind.OK),
        "unknown": outcomes.count(Kind.INFO),
    }
    problems, reads = _judge_bounds(operations)
    problems += _judge_order(reads, increments, traces)
    if not traces and not problems:
        return unknown(_NAME, "the counter's history was never read", statistics)
    if traces:
        problems = _judge_trace(traces[-1], increments) + problems
        statistics["took_effect"] = max((version for version, _, _ in _left(traces[-1])), default=0)
    return finding(_NAME, problems, statistics)


def _left(trace: Operation) -> list[tuple[int, Any, int]]:
    """The versions that are not compacted."""
    found = returned(trace)
    return [tuple(each) for each in (found["left"] if isinstance(found, dict) else found)]


def _judge_trace(trace: Operation, increments: dict[Any, Operation]) -> list[Problem]:
    left = _left(trace)
    versions = [version for version, _, _ in left]
    revision_of = {value: revision for _, value, revision in left}
    first, first_revision = 1, 0
    if isinstance(returned(trace), dict) and left:
        first, _, first_revision = left[-1]
    problems = [
        problem(
            f"{value} took effect {times} times",
            *([increments[value]] if value in increments else []),
            trace,
        )
        for value, times in Tally(value for _, value, _ in left).items()
        if times > 1
    ]
    if versions != list(range(first + len(versions) - 1, first - 1, -1)):
        problems.append(problem(f"the counter's versions have a gap: {versions}", trace))
    compacted = {
        value: each
        for value, each in increments.items()
        if value not in revision_of and _may_be_before(each, first_revision)
    }
    problems += _judge_compacted(trace, first - 1, list(compacted.values()))
    for value, each in increments.items():
        if value in compacted:
            continue
        wrong = _misreported(value, each, revision_of)
        if wrong:
            problems.append(problem(wrong, each, trace))
    return problems + [
        problem(f"{value} took effect, but was never written", trace)
        for value in revision_of
        if value not in increments
    ]


def _may_be_before(increment: Operation, revision: int) -> bool:
    """Whether an increment took effect before that revision, as far as its caller knows."""
    if increment.kind is Kind.OK:
        return bool(returned(increment)[1] < revision)
    return increment.kind is Kind.INFO


def _judge_compacted(
    trace: Operation, count: int, increments: Sequence[Operation]
) -> list[Problem]:
    """As many increments as the compacted versions had must be found among those that may have been
    before the versions that are left.
    """
    certain = sum(each.kind is Kind.OK for each in increments)
    if not count or certain <= count <= len(increments):
        return []
    text = f"{count} versions are compacted, where {certain} to {len(increments)} were possible"
    return [problem(text, trace)]


def _misreported(value: Any, increment: Operation, revision_of: dict[Any, int]) -> str:
    """Where the trace contradicts the answer to the caller; an unknown outcome allows either."""
    took_effect = revision_of.get(value)
    if increment.kind is Kind.FAIL and took_effect is not None:
        return f"{value} took effect, but {who(increment)} observed that it failed"
    if increment.kind is not Kind.OK:
        return ""
    revision = returned(increment)[1]
    if took_effect is None:
        return f"{value} was acknowledged to {who(increment)} {at(ended_ns(increment))} and is lost"
    if took_effect != revision:
        return (
            f"{value} took effect at revision {took_effect}, but {who(increment)} observed"
            f" {revision}"
        )
    return ""


def _judge_bounds(operations: Sequence[Operation]) -> tuple[list[Problem], list[Operation]]:
    """A read counts all that was acknowledged before it began, and nothing begun after its end.

    Also returns the reads that do.
    """
    ended = sorted(ended_ns(each) for each in answered(operations, "increment"))
    begun = sorted(began_ns(each) for each in asked(operations, "increment"))
    problems: list[Problem] = []
    possible: list[Operation] = []
    for read in answered(operations, "read"):
        least, most = bisect_left(ended, began_ns(read)), bisect_right(begun, ended_ns(read))
        if least <= returned(read) <= most:
            possible.append(read)
            continue
        text = (
            f"{who(read)} read {returned(read)} {at(began_ns(read))}, where {least} to {most} were"
            " possible"
        )
        problems.append(problem(text, read))
    return problems, possible


def _judge_order(
    reads: Sequence[Operation], increments: dict[Any, Operation], traces: Sequence[Operation]
) -> list[Problem]:
    """What began after another one was over has no earlier version; nor an earlier revision, where
    no trace has the versions.
    """
    counted = [(each, returned(each)) for each in reads]
    if not traces:
        acknowledged = answered(increments.values(), "increment")
        return _gone_back(counted) + _gone_back(
            [(each, returned(each)[1]) for each in acknowledged]
        )
    version_of = {value: version for version, value, _ in _left(traces[-1])}
    happened = asked(increments.values(), "increment")
    return _gone_back(
        counted
        + [
            (each, version_of[each.invocation.value])
            for each in happened
            if each.invocation.value in version_of
        ]
    )


def _gone_back(placed: Sequence[tuple[Operation, int]]) -> list[Problem]:
    """Each operation against the one with the highest place of those that were over before it.

    Each increment has a version of its own.
    """
    by_end = sorted(placed, key=lambda step: ended_ns(step[0]))
    over = 0
    highest: tuple[Operation, int] | None = None
    problems: list[Problem] = []
    for each, place in sorted(placed, key=lambda step: began_ns(step[0])):
        while ended_ns(by_end[over][0]) < began_ns(each):
            if highest is None or by_end[over][1] > highest[1]:
                highest = by_end[over]
            over += 1
        is_increment = each.invocation.function == "increment"
        if highest is not None and place < highest[1] + is_increment:
            earlier, reached = highest
            text = (
                f"{who(each)}'s {each.invocation.function} that began {at(began_ns(each))} is at"
                f" {place}, though {who(earlier)}'s {earlier.invocation.function} was at {reached}"
                " and over before"
            )
            problems.append(problem(text, earlier, each))
    return problems

"""Findings in sentences, with the events that prove them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Finding, Problem, Validity

PROBLEMS_LISTED_MAX = 20


def finding(
    checker: str, problems: Sequence[Problem], statistics: Mapping[str, Any] | None = None
) -> Finding:
    """VALID without a problem, else INVALID. It lists the first problems and counts all."""
    counted = {**(statistics or {}), "problems": len(problems)}
    validity = Validity.INVALID if problems else Validity.VALID
    return Finding(checker, validity, tuple(problems[:PROBLEMS_LISTED_MAX]), counted)


def unknown(checker: str, text: str, statistics: Mapping[str, Any] | None = None) -> Finding:
    """What was needed to judge is missing."""
    return Finding(checker, Validity.UNKNOWN, (Problem(text),), statistics or {})


def problem(text: str, *operations: Operation) -> Problem:
    """`operations` prove it, all of their events."""
    return Problem(text, events_of(operations))


def events_of(operations: Iterable[Operation]) -> tuple[int, ...]:
    """Their positions in the history, in order."""
    positions = {at for each in operations for at in (each.invoked_at, each.completed_at)}
    return tuple(sorted(positions - {-1}))


def who(operation: Operation) -> str:
    return f"process {operation.invocation.process}"


def at(time_ns: float) -> str:
    return f"at {time_ns / 1e9:.6f} s"


def listed(items: Iterable[object], most: int = 8) -> str:
    """Some of many: "a, b and 3 more"."""
    words = [str(item) for item in items]
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[:most])} and {len(words) - most} more"

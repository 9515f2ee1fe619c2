"""Findings of checkers: validity, problems in sentences, statistics and exit codes."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jepsen_lite.history import Operation

PROBLEMS_LISTED_MAX = 20


class Validity(enum.StrEnum):
    """UNKNOWN: a search was given up, or what was needed to judge is missing; never a pass."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    VACUOUS = "vacuous"  # nothing was proved: no fault, no operation, or never both at once


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `text` explains it to a person, in sentences.

    `events` are positions in `History.events`: those of the smallest counterexample, in order.
    """

    text: str
    events: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one checker. `statistics` can be written as JSON."""

    checker: str
    validity: Validity
    problems: tuple[Problem, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)


EXIT_CODES = {
    Validity.VALID: 0,
    Validity.INVALID: 1,
    Validity.UNKNOWN: 2,
    Validity.VACUOUS: 3,
}

_WORST_FIRST = (Validity.INVALID, Validity.UNKNOWN, Validity.VACUOUS, Validity.VALID)


def overall(findings: list[Finding]) -> Validity:
    """The worst of all; nothing checked is vacuous."""
    found = {finding.validity for finding in findings}
    return next((each for each in _WORST_FIRST if each in found), Validity.VACUOUS)


def texts_of(finding: Finding) -> list[str]:
    """Why a finding is no pass, in words; empty if it is one."""
    if finding.validity is Validity.VALID:
        return []
    return [problem.text for problem in finding.problems] or [f"{finding.validity.value}"]


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

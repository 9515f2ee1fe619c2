"""Findings of checkers: validity, problems and statistics."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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

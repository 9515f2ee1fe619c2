"""Builders of histories: one call is one operation, with its times in ns."""

from __future__ import annotations

from typing import Any

from jepsen_lite.history import Event, Kind, Operation
from jepsen_lite.verdicts import Finding, Validity

OK, FAIL, INFO = Kind.OK, Kind.FAIL, Kind.INFO
SECOND = 1_000_000_000


def operation(
    process: int,
    began: int,
    ended: int,
    function: str,
    value: Any = None,
    returned: Any = None,
    kind: Kind = OK,
    key: str = "k",
) -> Operation:
    """Positions in the history are twice its beginning and twice its end plus one."""
    begin = Event(began, process, Kind.INVOKE, "w", function, key, value)
    end = Event(ended, process, kind, "w", function, key, returned)
    return Operation(begin, end, 2 * began, 2 * ended + 1)


def assert_valid(finding: Finding) -> None:
    assert finding.validity is Validity.VALID, finding.problems


def only_problem(finding: Finding) -> str:
    assert finding.validity is Validity.INVALID
    (problem,) = finding.problems
    return problem.text


def texts(finding: Finding) -> str:
    assert finding.validity is Validity.INVALID
    return "\n".join(problem.text for problem in finding.problems)

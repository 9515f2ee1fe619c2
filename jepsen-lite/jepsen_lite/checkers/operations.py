"""Queries on operations that all checkers share, with the meaning of unknown outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from jepsen_lite.history import Kind, Operation

NEVER_NS = float("inf")
SETTLED = "SETTLED"
"""The error of a completion that was derived from the committed history, not observed."""


def asked(operations: Iterable[Operation], *functions: str) -> Iterator[Operation]:
    """Those of these functions that may have happened: all but the failed ones."""
    return (
        each
        for each in operations
        if each.invocation.function in functions and each.kind is not Kind.FAIL
    )


def answered(operations: Iterable[Operation], *functions: str) -> Iterator[Operation]:
    """Those of these functions that certainly happened."""
    return (each for each in asked(operations, *functions) if each.kind is Kind.OK)


def returned(operation: Operation) -> Any:
    """The result of the operation; None if it never completed."""
    return None if operation.completion is None else operation.completion.value


def was_settled(operation: Operation) -> bool:
    """Whether the caller has no answer, and the outcome was derived."""
    return operation.completion is not None and operation.completion.error == SETTLED


def began_ns(operation: Operation) -> int:
    return operation.invocation.time_ns


def ended_ns(operation: Operation) -> float:
    """Until when it may take effect; without end if its outcome is unknown."""
    if operation.completion is None or operation.kind is Kind.INFO:
        return NEVER_NS
    return operation.completion.time_ns


def before(earlier: Operation, later: Operation) -> bool:
    """Whether the first was over when the second began, so that no order can swap them."""
    return ended_ns(earlier) < began_ns(later)

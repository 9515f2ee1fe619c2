"""Commands that ran twice under one key, and answers of other commands, are found."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_lite.checkers import idempotency
from jepsen_lite.checkers.idempotency import REUSED
from jepsen_lite.checkers.lease import ClusterTime
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Finding, Validity
from tests.jepsen_lite.checkers.histories import INFO, OK, SECOND, assert_valid, operation, texts

TTL_S = 2


def put(began_s: float, value: str, answer: Any, kind: Any = OK, process: int = 1) -> Operation:
    began = round(began_s * SECOND)
    asked = [value, TTL_S * SECOND]
    return operation(process, began, began + SECOND // 10, "put", asked, answer, kind)


def versions(*found: list[Any]) -> Operation:
    return operation(9, 90 * SECOND, 91 * SECOND, "versions", None, {"k": list(found)})


def check(history: list[Operation]) -> Finding:
    """Cluster time runs from the first second on to the tenth."""
    writes = [operation(5, s * SECOND, s * SECOND + 1, "write") for s in range(1, 11)]
    return idempotency.check(history, ClusterTime(writes, 2 * SECOND), 0, 0.0)


ONCE = [put(1, "a", [5, None]), put(1.5, "a", [5, None], process=2)]


@pytest.mark.parametrize(
    "history",
    [
        [*ONCE, versions([1, "a", 5])],
        [*ONCE, put(2, "b", REUSED), versions([1, "a", 5])],
        [*ONCE, put(4, "b", [9, "a"]), versions([2, "b", 9], [1, "a", 5])],
        [put(1, "a", None, INFO), versions([1, "a", 5])],
        [put(1, "a", None, INFO), put(1.5, "b", REUSED), versions([1, "a", 5])],
        [*ONCE, put(5, "a", [9, "a"]), versions([2, "a", 9])],
    ],
)
def test_one_execution_while_the_key_is_kept_is_valid(history: list[Operation]) -> None:
    assert_valid(check(history))


@pytest.mark.parametrize(
    ("history", "text"),
    [
        ([*ONCE, put(2, "a", [6, "a"]), versions([2, "a", 6], [1, "a", 5])], "but the key is kept"),
        ([*ONCE, put(2, "b", [5, None]), versions([1, "a", 5])], "which holds a"),
        ([*ONCE, put(1.8, "a", [5, "z"]), versions([1, "a", 5])], "as the value before"),
        ([put(1, "a", [5, None]), versions()], "which holds no version"),
        ([put(1, "a", REUSED), versions()], "never used for another"),
        ([*ONCE, versions([1, "c", 5])], "no request for it did"),
        ([*ONCE, put(8, "a", [5, None]), versions([1, "a", 5])], "had to be forgotten"),
    ],
)
def test_what_can_not_be_is_found(history: list[Operation], text: str) -> None:
    found = check(history)
    assert found.validity is Validity.INVALID
    assert text in texts(found)

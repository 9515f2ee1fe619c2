"""A write under the token of one that does not hold the lock must not be accepted."""

from __future__ import annotations

from typing import Any

from jepsen_lite.checkers import fence_holders
from jepsen_lite.history import Operation
from tests.jepsen_lite.checkers.histories import FAIL, OK, assert_valid, only_problem, operation

ACQUIRE = operation(1, 0, 1, "acquire", None, {"token": 5})
RELEASE = operation(1, 20, 21, "release")


def write(began: int, token: int, kind: Any = OK) -> Operation:
    return operation(2, began, began + 1, "write", [token, began], [token, began], kind)


def test_a_waiter_is_refused_until_it_holds_the_lock() -> None:
    assert_valid(
        fence_holders.check([ACQUIRE, write(3, 5), write(5, 6, FAIL), RELEASE, write(22, 6)])
    )
    # The hold may have ended before the write took effect.
    assert_valid(fence_holders.check([ACQUIRE, write(19, 6), RELEASE]))


def test_a_waiter_that_is_let_in_is_found() -> None:
    text = only_problem(fence_holders.check([ACQUIRE, write(5, 6), RELEASE]))
    assert "under token 6 was accepted while process 1 held it under token 5" in text

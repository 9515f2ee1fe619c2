"""What was done without a right is found, and what was refused in spite of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jepsen_lite.checkers import rights
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import FAIL, INFO, OK, assert_valid, only_problem
from tests.jepsen_lite.checkers.histories import operation as made

GRANT = made(9, 10, 12, "grant", ["a", "role-1", "readwrite"])
WITHDRAW = made(9, 20, 22, "withdraw", ["a", "role-1"])


def put(began: int, ended: int, value: str = "x", **fields: Any) -> Operation:
    return made(1, began, ended, "put", ["a", value, 0], **fields)


def denied(operation: Operation, error: str = rights.DENIED) -> Operation:
    assert operation.completion is not None
    return replace(operation, completion=replace(operation.completion, kind=FAIL, error=error))


REFUSED = denied(put(30, 31, "refused"))


def check(*operations: Operation) -> Any:
    """With a withdrawal and a refusal, without which nothing is proved."""
    return rights.check([GRANT, WITHDRAW, REFUSED, *operations])


def test_rights_hold_from_their_grant_to_their_withdrawal() -> None:
    assert_valid(check(put(13, 14), denied(put(3, 4)), denied(put(25, 26))))


def test_beside_a_grant_or_a_withdrawal_both_is_right() -> None:
    for began, ended in ((9, 11), (11, 13), (19, 21), (21, 30)):
        assert_valid(check(put(began, ended), denied(put(began, ended, "y"))))


@pytest.mark.parametrize(("began", "ended"), [(3, 9), (23, 24)])
def test_what_is_done_without_the_right_is_found(began: int, ended: int) -> None:
    assert "done without the right" in only_problem(check(put(began, ended)))


def test_what_is_refused_in_spite_of_the_right_is_found() -> None:
    assert "in spite of the right" in only_problem(check(denied(put(13, 19))))


def test_a_right_to_read_is_none_to_write() -> None:
    granted = made(9, 32, 33, "grant", ["a", "role-2", "read"])
    assert_valid(check(granted, made(1, 34, 35, "get", ["a", "y", 0])))
    assert "put of k by a" in only_problem(check(granted, put(34, 35)))


def test_a_grant_of_unknown_outcome_may_have_given_the_right() -> None:
    perhaps = made(9, 32, 33, "grant", ["a", "role-2", "write"], kind=INFO)
    assert_valid(check(perhaps, put(34, 35), denied(put(36, 37, "y"))))
    gone = made(9, 40, 41, "withdraw", ["a", "role-2"])
    assert "without the right" in only_problem(check(perhaps, gone, put(42, 43)))


def test_a_put_of_unknown_outcome_that_is_read_needs_the_right_as_well() -> None:
    lost = put(24, 25, "lost", kind=INFO)
    look = made(2, 50, 51, "look", [""], [["k", "lost"]])
    assert "applied without the right" in only_problem(check(lost, look))
    again = made(9, 40, 41, "grant", ["a", "role-2", "write"])
    assert_valid(check(lost, again, look))


def test_a_refused_put_that_is_read_is_found() -> None:
    look = made(2, 50, 51, "look", [""], [["k", "refused"]])
    assert "failed, and was applied" in only_problem(check(look))


@pytest.mark.parametrize("function", sorted(rights.FORBIDDEN))
def test_keys_and_leases_of_others_are_refused_also_to_who_has_rights(function: str) -> None:
    theirs = made(1, 13, 14, function, ["a", "z", 7])
    assert "without the right" in only_problem(check(theirs))
    assert_valid(check(denied(theirs)))


def test_own_leases_need_no_right() -> None:
    renewal = made(1, 25, 26, "renew-lease", ["a", "z", 7])
    assert_valid(check(renewal))
    assert "needs no right" in only_problem(check(denied(renewal)))


def test_while_authentication_is_off_everything_is_allowed() -> None:
    off, on = made(9, 30, 31, "disable", [""]), made(9, 40, 41, "enable", [""])
    assert_valid(check(off, on, put(33, 34), made(1, 35, 36, "intrude", ["a", "z", 0])))
    assert "in spite of the right" in only_problem(check(off, on, denied(put(33, 34))))
    assert "without the right" in only_problem(check(off, on, put(43, 44)))
    perhaps = made(9, 30, 31, "disable", [""], kind=INFO)
    assert_valid(check(perhaps, on, put(33, 34), denied(put(35, 36, "y")), put(43, 44, "z")))


def test_users_are_always_authenticated() -> None:
    assert "UNAUTHENTICATED" in only_problem(check(denied(put(9, 10), rights.UNAUTHENTICATED)))


def test_without_a_refusal_nothing_is_proved() -> None:
    assert rights.check([GRANT, WITHDRAW, put(13, 14, kind=OK)]).validity is Validity.UNKNOWN

"""Requests that were not refused, refused for no cause, or left something behind, are found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jepsen_lite.checkers.refusals import BLOCKED, DONE, EXPECTED, check
from jepsen_lite.clients.protocol import LOCK_NOT_ACQUIRED
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import (
    FAIL,
    INFO,
    OK,
    assert_valid,
    only_problem,
    operation,
)

LEASE = 77


def refuse(began: int, kind: str, answer: Any = "", how: Any = None, asked: Any = "t") -> Operation:
    answer = answer or EXPECTED[kind]
    done = operation(1, began, began + 5, "refuse", asked, answer, OK, key=kind)
    return replace(done, completion=None) if how is INFO else done


def grant(began: int, answer: str, how: Any = None) -> Operation:
    return refuse(began, "granted-lease", answer, how, asked=LEASE)


def fill(began: int, key: str = "large/0", how: Any = None) -> Operation:
    done = operation(2, began, began + 5, "fill", None, began, key=key)
    return replace(done, completion=None) if how is INFO else done


def take(began: int, token: int | str) -> Operation:
    return operation(3, began, began + 5, "take", None, token, key="lock")


def blocked(first: int, last: int, revision: int, taken: int | str) -> Operation:
    returned = [first, last, revision, taken]
    return operation(3, 10, 15, "take-blocked", None, returned, key="lock/1")


def look(began: int, *keys: str) -> Operation:
    return operation(4, began, began + 5, "look", None, list(keys))


ALWAYS = refuse(1, "future-revision")


@pytest.mark.parametrize(
    "history",
    [
        [ALWAYS, refuse(10, "missing-key"), look(20)],
        [ALWAYS, refuse(10, "compacted-revision", DONE), refuse(20, "compacted-revision")],
        [ALWAYS, grant(10, DONE), grant(20, "LEASE_EXISTS")],
        [ALWAYS, grant(10, "", INFO), grant(20, "LEASE_EXISTS")],
        [ALWAYS, refuse(10, "large-answer", DONE), look(20, "t")],
        [ALWAYS, fill(10), refuse(20, "large-answer")],
        [ALWAYS, fill(10, how=INFO), refuse(20, "large-answer")],
        [ALWAYS, fill(10), fill(10, "large/1"), refuse(20, "too-many-keys")],
        # A cluster of an older version has no bound yet.
        [ALWAYS, fill(10), fill(10, "large/1"), refuse(20, "too-many-keys", DONE), look(30, "t")],
        [ALWAYS, take(10, 7), take(20, LOCK_NOT_ACQUIRED), take(30, 9)],
        [ALWAYS, blocked(12, 50, 11, BLOCKED)],
        [ALWAYS, blocked(12, 50, 11, 51)],
        [ALWAYS, blocked(12, 50, 14, LOCK_NOT_ACQUIRED)],
        [ALWAYS, operation(5, 10, 20, "sweep", 100, [8, 100])],
    ],
)
def test_refusals_with_a_cause_and_without_an_effect_are_right(history: list[Operation]) -> None:
    assert_valid(check(history))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([refuse(10, "missing-key", DONE)], "was done, not refused"),
        (
            [refuse(10, "compacted-revision", DONE), refuse(20, "compacted-revision", DONE)],
            "was done, not refused",
        ),
        ([grant(20, "LEASE_EXISTS")], "was refused as LEASE_EXISTS"),
        ([fill(10), refuse(20, "large-answer", DONE)], "was done, not refused"),
        ([fill(30), refuse(20, "large-answer")], "was refused as TOO_LARGE"),
        ([fill(10), refuse(20, "too-many-keys")], "was refused as TOO_MANY_KEYS"),
        (
            [
                *(fill(10), fill(10, "large/1")),
                *(refuse(20, "too-many-keys"), refuse(30, "too-many-keys", DONE, asked="u")),
            ],
            "was done, not refused",
        ),
        ([refuse(10, "missing-key"), look(20, "t")], "has left the key t"),
        ([fill(10), refuse(20, "large-answer"), look(30, "t")], "has left the key t"),
        ([take(10, 7), take(20, 7)], "has no higher token"),
        ([blocked(12, 50, 11, 13)], "took the token 13 of a key in use"),
        ([blocked(12, 50, 11, LOCK_NOT_ACQUIRED)], "found a holder, and there was none"),
        ([operation(5, 10, 20, "sweep", 100, [8, 99])], "deleted 99 keys"),
    ],
)
def test_what_is_wrong_is_found(history: list[Operation], expected: str) -> None:
    assert expected in only_problem(check([ALWAYS, *history]))


def test_a_lease_is_not_granted_twice() -> None:
    found = check([ALWAYS, grant(10, DONE), grant(20, DONE)])
    assert any("a second time" in each.text for each in found.problems)


def test_a_refusal_for_another_reason_is_found() -> None:
    failed = operation(1, 10, 20, "refuse", "t", None, FAIL, key="missing-key")
    assert failed.completion is not None
    wrong = replace(failed, completion=replace(failed.completion, error="TOO_LARGE"))
    assert "was refused as TOO_LARGE" in only_problem(check([ALWAYS, wrong]))
    lost = replace(failed, completion=replace(failed.completion, error="DEADLINE_EXCEEDED"))
    assert_valid(check([ALWAYS, lost]))


def test_a_run_without_any_refusal_proves_nothing() -> None:
    assert check([look(1)]).validity is Validity.UNKNOWN

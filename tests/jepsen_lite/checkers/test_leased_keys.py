"""Keys that outlive their lease, go without it, or go one by one, are found."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_lite.checkers import leased_keys
from jepsen_lite.checkers.lease import ClusterTime
from jepsen_lite.checkers.leased_keys import ENDED
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Finding, Validity
from tests.jepsen_lite.checkers.histories import INFO, OK, SECOND, assert_valid, operation, texts

TTL_NS = 2 * SECOND


def at(
    began_s: float, function: str, key: str, value: Any, answer: Any, kind: Any = OK
) -> Operation:
    began = round(began_s * SECOND)
    return operation(1, began, began + SECOND // 100, function, value, answer, kind, key)


def put(began_s: float, key: str, value: str, lease: str | None, answer: Any) -> Operation:
    return at(began_s, "put", key, [value, lease], answer, INFO if answer is None else OK)


def look(began_s: float, revision: int, *rows: tuple[str, str, int, int]) -> Operation:
    return at(began_s, "look", "", None, [revision, [list(row) for row in rows]])


def check(history: list[Operation]) -> Finding:
    writes = [operation(5, s * SECOND, s * SECOND + 1, "write") for s in range(1, 30)]
    return leased_keys.check(history, ClusterTime(writes, 2 * SECOND), 0, 0.0)


GRANT = at(1, "grant", "l", {"ttl_ns": TTL_NS}, {"lease": 7})
TWO = [GRANT, put(1.1, "a", "v1", "l", 2), put(1.2, "b", "v2", "l", 3)]
A, B = ("a", "v1", 2, 7), ("b", "v2", 3, 7)


@pytest.mark.parametrize(
    "history",
    [
        [*TWO, look(2, 3, A, B), look(4, 4)],
        [*TWO, put(1.5, "a", "v3", None, 4), look(4, 5, ("a", "v3", 4, 0))],
        [*TWO, put(1.5, "a", "v3", "l", None), look(2, 3, A, B), look(4, 4)],
        [*TWO, put(3.5, "c", "v3", "l", ENDED), look(4, 3, A, B)],
        [*TWO, at(1.5, "revoke", "l", None, None), look(2, 4)],
        [*TWO, at(3.5, "revoke", "l", None, ENDED), look(4, 3, A, B)],
    ],
)
def test_keys_that_go_with_their_lease_are_valid(history: list[Operation]) -> None:
    assert_valid(check(history))


@pytest.mark.parametrize(
    ("history", "text"),
    [
        ([*TWO, look(4, 4, A)], "are gone with it, and"),
        ([*TWO, look(2, 3)], "too early"),
        ([*TWO, look(20, 3, A, B)], "after it had to be gone"),
        ([*TWO, look(4, 4), look(5, 5, A, B)], "after keys went with it"),
        ([*TWO, put(1.5, "a", "v3", None, 4), look(4, 5)], "which have no lease"),
        ([*TWO, at(1.5, "revoke", "l", None, None), look(2, 4, A, B)], "after it was revoked"),
        ([*TWO, look(2, 3, A, ("b", "v2", 3, 0))], "and it was put on l"),
        ([*TWO, put(1.5, "a", "v3", None, 4), look(2, 4, A, B)], "though it was replaced"),
        ([*TWO, put(2, "c", "v3", "l", ENDED), look(2.1, 3, A, B)], "too early"),
        ([*TWO, at(2, "renew", "l", None, ENDED), look(2.1, 3, A, B)], "too early"),
        ([*TWO, look(2, 3, A, B, ("c", "v9", 3, 7))], "never put"),
    ],
)
def test_what_can_not_be_is_found(history: list[Operation], text: str) -> None:
    found = check(history)
    assert found.validity is Validity.INVALID
    assert text in texts(found)

"""Sessions that go back and reads that are too old are found."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers import session, staleness
from jepsen_lite.history import Kind, Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import (
    FAIL,
    INFO,
    OK,
    assert_valid,
    only_problem,
    operation,
    texts,
)


def read(process: int, began: int, revision: int, value: str | None = None) -> Operation:
    return operation(process, began, began + 1, "read", None, [value, revision])


def write(process: int, began: int, revision: int, value: str = "v", kind: Kind = OK) -> Operation:
    return operation(process, began, began + 1, "write", value, revision, kind)


def test_a_session_that_only_goes_on_is_valid_whatever_others_see() -> None:
    mine = [write(1, 0, 5), read(1, 2, 5, "v"), read(1, 4, 9, "v")]
    assert_valid(session.check([*mine, read(2, 6, 1)]))


@pytest.mark.parametrize(
    ("guarantee", "history"),
    [
        ("read your writes", [write(1, 0, 5), read(1, 2, 4)]),
        ("monotonic reads", [read(1, 0, 5), read(1, 2, 4)]),
        ("monotonic writes", [write(1, 0, 5), write(1, 2, 4, "w")]),
    ],
)
def test_a_session_that_goes_back_is_named(guarantee: str, history: list[Operation]) -> None:
    assert only_problem(session.check(history)).startswith(guarantee)


def test_two_writes_of_a_session_do_not_share_a_revision() -> None:
    assert "monotonic writes" in texts(session.check([write(1, 0, 5), write(1, 2, 5, "w")]))


def test_processes_may_share_a_session() -> None:
    history = [read(1, 0, 5), read(2, 2, 4)]
    assert_valid(session.check(history))
    assert "monotonic reads" in only_problem(session.check(history, lambda _: "the same"))


MAYBE = write(3, 0, 0, "x", INFO)
TWO_WRITES = [write(1, 0, 2, "a"), write(1, 2, 4, "b")]


@pytest.mark.parametrize(
    "history",
    [
        [*TWO_WRITES, read(1, 4, 9, "b"), read(2, 6, 3, "a"), read(3, 8, 1)],
        [*TWO_WRITES, MAYBE, read(2, 6, 3, "x"), read(2, 8, 4, "b")],
        [*TWO_WRITES, MAYBE, read(2, 6, 3, "a"), read(2, 8, 4, "b"), read(2, 10, 5, "x")],
        [MAYBE, read(2, 6, 3), read(2, 8, 4, "x")],
    ],
)
def test_a_key_that_takes_each_value_once_is_valid(history: list[Operation]) -> None:
    assert_valid(session.check(history))


@pytest.mark.parametrize(
    ("expected", "history"),
    [
        ("read a in k at revision 4, though process 1 wrote b", [*TWO_WRITES, read(1, 4, 4, "a")]),
        ("read None in k at revision 9, though", [*TWO_WRITES, read(1, 4, 9)]),
        ("wrote b in k at revision 4, though process 2", [*TWO_WRITES, read(2, 4, 3, "b")]),
        ("read a in k at revision 9, though", [*TWO_WRITES, read(2, 0, 9, "a")]),
        ("read z in k at revision 3, which was never written", [*TWO_WRITES, read(2, 4, 3, "z")]),
        ("which was never written", [write(1, 0, 0, "a", FAIL), read(2, 2, 3, "a")]),
        ("though process 1 wrote b", [*TWO_WRITES, MAYBE, read(2, 4, 4, "x")]),
        (
            "read a in k at revision 3, though process 2 read x in k at revision 3",
            [*TWO_WRITES, MAYBE, read(2, 4, 3, "x"), read(2, 6, 3, "a")],
        ),
        (
            "read x in k at revision 5",
            [*TWO_WRITES, MAYBE, read(2, 4, 3, "x"), read(2, 6, 5, "x")],
        ),
        ("read None in k at revision 4", [MAYBE, read(2, 4, 3, "x"), read(2, 6, 4)]),
    ],
)
def test_a_value_that_was_not_there_at_its_revision_is_found(
    expected: str, history: list[Operation]
) -> None:
    assert expected in only_problem(session.check(history))


@settings(max_examples=100)
@given(st.integers(0, 100_000))
def test_a_store_that_shows_what_it_held_is_never_accused_and_another_value_is(seed: int) -> None:
    rng = Random(seed)
    held: list[str | None] = [None]  # at each revision
    history: list[Operation] = []
    for number in range(20):
        kind = rng.choice([OK, OK, INFO, FAIL])
        if kind is OK or (kind is INFO and rng.random() < 0.5):
            held.append(f"v{number}")
        history.append(write(number, number, len(held) - 1, f"v{number}", kind))
        if rng.random() < 0.2:
            held.append(held[-1])  # a write of another key
    for process in range(30, 50):
        revision = rng.randrange(len(held))
        history.append(read(process, process, revision, held[revision]))
    assert_valid(session.check(history))
    acknowledged = [each for each in history if each.kind is OK and each.invocation.value]
    if acknowledged:
        victim = rng.choice(acknowledged)
        assert victim.completion is not None
        revision = victim.completion.value
        other = rng.choice([each for each in [*held, "v99"] if each != held[revision]])
        assert session.check([*history, read(50, 50, revision, other)]).validity is (
            Validity.INVALID
        )


def put(began: int, value: str, revision: int, kind: Kind = OK) -> Operation:
    return operation(1, began, began + 1, "write", value, revision, kind)


def look(began: int, bound_ns: int | None, value: str | None, revision: int) -> Operation:
    return operation(2, began, began + 1, "read", bound_ns, [value, revision])


OLD, NEW = put(0, "a", 2), put(2, "b", 3)


@pytest.mark.parametrize("seen", [look(8, 5, "a", 2), look(8, None, "a", 2), look(9, 1, "b", 3)])
def test_a_read_within_its_bound_may_be_old(seen: Operation) -> None:
    assert_valid(staleness.check([OLD, NEW, seen]))


def test_a_write_of_unknown_outcome_makes_no_read_too_old() -> None:
    assert_valid(staleness.check([OLD, put(2, "b", 0, INFO), look(90, 1, "a", 2)]))


@pytest.mark.parametrize(
    ("expected", "history"),
    [
        ("more than the bound", [OLD, NEW, look(9, 5, "a", 2)]),
        ("more than the bound", [OLD, look(9, 5, None, 0)]),
        ("which was never written", [OLD, look(9, None, "z", 9)]),
        ("observed that it failed", [put(0, "a", 2, FAIL), look(9, None, "a", 2)]),
        ("before process 1 began to write it", [look(0, None, "a", 2), put(5, "a", 2)]),
        ("observed 2", [OLD, look(9, None, "a", 7)]),
    ],
)
def test_a_read_that_is_too_old_or_invented_is_named(
    expected: str, history: list[Operation]
) -> None:
    assert expected in only_problem(staleness.check(history))


def test_the_newest_write_counts_even_if_an_older_one_was_acknowledged_after_it() -> None:
    newer = operation(1, 0, 1, "write", "b", 3)
    older = operation(3, 0, 5, "write", "a", 2)
    assert_valid(staleness.check([newer, older, look(90, 5, "b", 3)]))
    assert "more than the bound" in only_problem(
        staleness.check([newer, older, look(90, 5, "a", 2)])
    )


@settings(max_examples=60)
@given(st.integers(0, 100_000), st.integers(1, 40))
def test_a_replica_that_lags_is_accused_only_beyond_its_lag(seed: int, lag_ns: int) -> None:
    rng = Random(seed)
    history: list[Operation] = []
    effects: list[tuple[float, str, int]] = []
    for number in range(20):
        began = number * 10
        moment = began + 1 + rng.random() * 6
        effects.append((moment, f"v{number}", number + 1))
        history.append(operation(1, began, began + 8, "write", f"v{number}", number + 1))
    for _ in range(20):
        began = rng.randrange(50, 250)
        held: list[Any] = [None, 0]
        for moment, value, revision in effects:
            if moment <= began - lag_ns:
                held = [value, revision]
        history.append(operation(2, began, began + 1, "read", lag_ns, held))
    assert_valid(staleness.check(history))
    much_older = operation(2, 1_000, 1_001, "read", lag_ns, ["v1", 2])
    assert "more than the bound" in texts(staleness.check([*history, much_older]))


def test_unused_sessions_and_bounds_are_unknown() -> None:
    assert session.check([]).validity is Validity.UNKNOWN
    assert staleness.check([OLD]).validity is Validity.UNKNOWN

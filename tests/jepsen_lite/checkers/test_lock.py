"""Two holders at once, tokens that go back and fenced writes that should be refused are found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepsen_lite.checkers import fencing, lock
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


def acquire(
    process: int, began: int, ended: int, token: int, kind: Kind = OK, place: int = 0
) -> Operation:
    return operation(process, began, ended, "acquire", None, {"token": token, "place": place}, kind)


def release(process: int, began: int, kind: Kind = OK) -> Operation:
    return operation(process, began, began + 1, "release", kind=kind)


def test_holds_that_follow_each_other_are_valid_even_if_a_release_is_unknown() -> None:
    assert_valid(
        lock.check(
            [
                acquire(1, 0, 1, 1),
                release(1, 5, INFO),
                acquire(2, 2, 6, 2),
                operation(2, 8, 8, "lost"),
                acquire(3, 7, 9, 3),
            ]
        )
    )


def test_two_holders_at_once_are_found() -> None:
    history = [acquire(1, 0, 1, 1), acquire(2, 0, 3, 2), release(1, 5), release(2, 6)]
    assert "process 2 got the lock" in only_problem(lock.check(history))


def test_a_hold_within_a_long_one_is_found_also_after_another() -> None:
    history = [
        acquire(1, 0, 1, 1),
        acquire(2, 0, 3, 2),
        release(2, 4),
        acquire(3, 0, 6, 3),
        release(3, 7),
        release(1, 20),
    ]
    assert len(lock.check(history).problems) == 2


def test_an_acquire_of_unknown_outcome_is_no_overlap() -> None:
    assert_valid(lock.check([acquire(1, 0, 1, 0, INFO), acquire(2, 2, 3, 2)]))


def test_a_hold_ends_when_its_process_has_an_unknown_outcome() -> None:
    write = operation(1, 2, 3, "write", kind=INFO)
    assert_valid(lock.check([acquire(1, 0, 1, 1), write, acquire(2, 2, 9, 2)]))
    earlier = lock.check(
        [acquire(1, 0, 3, 1), operation(1, 8, 9, "write", kind=INFO), acquire(2, 2, 5, 2)]
    )
    assert earlier.validity is Validity.INVALID


def test_a_hold_ends_with_its_lease_unless_it_was_renewed() -> None:
    taken_over = [acquire(1, 0, 1, 1), acquire(2, 9, 11, 2)]
    assert_valid(lock.check(taken_over, lease_ns=10))
    renewed = [*taken_over, operation(1, 5, 6, "renew")]
    assert "process 2 got the lock" in only_problem(lock.check(renewed, lease_ns=10))
    assert_valid(lock.check([*taken_over, operation(1, 5, 6, "renew", kind=INFO)], lease_ns=10))


def test_tokens_that_go_back_or_repeat_are_found() -> None:
    first = [acquire(1, 0, 1, 5), release(1, 2)]
    back = lock.check([*first, acquire(2, 4, 5, 4)])
    assert "got token 4, after process 1 had got token 5" in only_problem(back)
    assert "both got token 5" in only_problem(lock.check([*first, acquire(2, 4, 5, 5)]))


def test_a_waiter_that_overtakes_is_found_if_locks_are_queues() -> None:
    history = [
        acquire(2, 1, 2, 1, place=2),
        release(2, 3),
        acquire(1, 0, 5, 2, place=1),
    ]
    assert_valid(lock.check(history))
    assert "process 1 with place 1 got the lock after process 2 with place 2" in only_problem(
        lock.check(history, fifo=True)
    )


def test_a_run_without_holds_is_unknown() -> None:
    assert lock.check([acquire(1, 0, 1, 1, FAIL)]).validity is Validity.UNKNOWN


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6), st.integers(1, 8)), max_size=8))
def test_overlaps_are_found_exactly_when_two_intervals_overlap(
    shapes: list[tuple[int, int, int]],
) -> None:
    history, intervals = [], []
    for number, (began, wait, length) in enumerate(shapes):
        held, until = began + wait, began + wait + length
        history += [
            operation(number, began, held, "acquire", None, {"token": held * 100 + number}),
            operation(number, until, until + 1, "release"),
        ]
        intervals.append((held, until))
    overlap = any(
        a[0] < b[1] and b[0] < a[1]
        for place, a in enumerate(intervals)
        for b in intervals[place + 1 :]
    )
    if history:
        assert (lock.check(history).validity is Validity.INVALID) == overlap


def write(process: int, began: int, token: int, element: str, kind: Kind = OK) -> Operation:
    return operation(process, began, began + 1, "write", [token, element], kind=kind)


def log(began: int, *accepted: tuple[int, str]) -> Operation:
    return operation(9, began, began + 1, "read", None, [list(each) for each in accepted])


def test_a_fenced_resource_that_refuses_old_tokens_is_valid() -> None:
    history = [
        write(1, 0, 1, "a"),
        write(2, 2, 2, "b"),
        write(1, 4, 1, "c", FAIL),
        write(1, 4, 2, "d", INFO),
        log(6, (1, "a"), (2, "b"), (2, "d")),
    ]
    assert_valid(fencing.check(history))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([write(2, 0, 2, "b"), write(1, 2, 1, "a")], "token 1 that began"),
        (
            [write(2, 0, 2, "b"), write(1, 0, 1, "a"), log(3, (2, "b"), (1, "a"))],
            "a with token 1 was accepted after b with token 2",
        ),
        ([write(1, 0, 1, "a"), log(3)], "is missing"),
        (
            [write(1, 0, 1, "a"), write(1, 2, 1, "c", FAIL), log(4, (1, "a"), (1, "c"))],
            "c was refused",
        ),
    ],
)
def test_each_broken_fence_is_named(history: list[Operation], expected: str) -> None:
    assert expected in texts(fencing.check(history))


def test_a_fence_that_accepted_nothing_proves_nothing() -> None:
    assert fencing.check([write(1, 0, 1, "a", FAIL)]).validity is Validity.UNKNOWN


def remove(began: int, token: int, kind: Kind = OK) -> Operation:
    return operation(9, began, began + 1, "remove", [token, "key"], None, kind)


@pytest.mark.parametrize("kind", [OK, INFO])
def test_a_removed_holder_excludes_no_later_holder(kind: Kind) -> None:
    holder, next_one = acquire(1, 0, 1, 1), acquire(2, 0, 5, 2)
    lost, released = operation(1, 7, 7, "lost"), release(2, 8)
    assert_valid(lock.check([holder, remove(3, 1, kind), next_one, lost, released]))
    # An operator who tries again does not give the hold back.
    again = remove(7, 1, kind)
    assert_valid(lock.check([holder, remove(3, 1, kind), next_one, again, lost, released]))
    for other in (remove(3, 1, FAIL), remove(6, 1), remove(3, 7)):
        found = lock.check([holder, other, next_one, lost, released])
        assert "process 2 got the lock" in only_problem(found)

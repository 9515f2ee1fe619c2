"""Unknown outcomes are settled by the committed history, which must agree with all answers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers import outcomes, sets
from jepsen_lite.checkers.linearizable import register
from jepsen_lite.history import Kind, Operation
from jepsen_lite.verdicts import Finding, Validity
from tests.jepsen_lite.checkers.histories import (
    FAIL,
    INFO,
    OK,
    assert_valid,
    only_problem,
    operation,
    texts,
)

LATE = 900


def versions(*entries: tuple[int, Any, int], began: int = LATE) -> Operation:
    """What the history of key "k" is: (version, value, revision) of each put."""
    returned = {"versions": [["k", *entry] for entry in entries]}
    return operation(99, began, began + 10, "history", None, returned)


def settle(*operations: Operation) -> tuple[list[Operation], Finding]:
    return outcomes.settled(operations, register.EFFECTS)


def write(began: int, value: str, revision: int) -> Operation:
    return operation(1, began, began + 5, "write", value, revision)


def lost(began: int, value: str, process: int = 50) -> Operation:
    return operation(process, began, began + 5, "write", value, kind=INFO)


def kinds(operations: Sequence[Operation]) -> list[Kind]:
    return [each.kind for each in operations]


def test_an_unknown_write_happened_if_it_is_committed_and_did_not_if_it_is_not() -> None:
    asked = [lost(0, "a"), lost(0, "b", 51), write(10, "c", 4)]
    known, finding = settle(*asked, versions((1, "a", 3), (2, "c", 4)))
    assert_valid(finding)
    assert kinds(known) == [OK, FAIL, OK]
    assert finding.statistics == {
        "unknown": 2,
        "happened": 1,
        "did_not_happen": 1,
        "stayed_unknown": 0,
        "problems": 0,
    }


def test_a_settled_swap_gets_the_answer_that_it_would_have_got() -> None:
    swap = operation(50, 10, 15, "cas", ["a", "b"], kind=INFO)
    known, _ = settle(write(0, "a", 3), swap, versions((1, "a", 3), (2, "b", 7)))
    assert known[1].completion is not None
    assert known[1].completion.value == [True, "b", 7]
    assert_valid(register.check(known, versioned=True))


def test_settling_an_unknown_write_reveals_a_stale_read() -> None:
    # The write of c at revision 8 proves that b, at 7, was there; the read after that lacks both.
    asked = [
        write(0, "a", 3),
        lost(10, "b"),
        operation(2, 20, 25, "write", "c", 8, key="other"),
        operation(3, 30, 35, "read", None, ["a", 3]),
    ]
    other = operation(
        98, LATE, LATE + 9, "history", None, {"versions": [["o", 1, "c", 8]]}, key="other"
    )
    assert_valid(register.check(asked, versioned=True))
    known, finding = settle(*asked, versions((1, "a", 3), (2, "b", 7)), other)
    assert_valid(finding)
    assert "process 3 read a" in only_problem(register.check(known, versioned=True))


def test_an_element_that_is_committed_and_then_hidden_is_lost() -> None:
    added = operation(50, 0, 5, "add", 1, kind=INFO)
    later = operation(1, 10, 15, "add", 2, 9)
    hidden = operation(2, 20, 25, "read", None, [2])
    returned = {"versions": [["s/1", 1, 1, 7], ["s/2", 1, 2, 9]]}
    read = operation(99, LATE, LATE + 9, "history", None, returned)
    assert_valid(sets.check([added, later, hidden]))
    known, finding = outcomes.settled([added, later, hidden, read], sets.EFFECTS)
    assert_valid(finding)
    assert "lost: process 50 added 1, which was committed" in only_problem(sets.check(known))


def test_an_element_that_was_read_and_never_committed_is_named_so() -> None:
    added = operation(50, 0, 5, "add", 1, kind=INFO)
    dirty = operation(2, 20, 25, "read", None, [1])
    read = operation(99, LATE, LATE + 9, "history", None, {"versions": []})
    known, _ = outcomes.settled([added, dirty, read], sets.EFFECTS)
    assert "which was never committed" in only_problem(sets.check(known))


def test_a_value_that_was_read_and_never_committed_is_named_so() -> None:
    dirty = operation(2, 20, 25, "read", None, ["a", 3])
    known, _ = settle(lost(0, "a"), dirty, versions())
    text = only_problem(register.check(known, versioned=True))
    assert "what process 50 asked for was never committed" in text


@pytest.mark.parametrize(
    ("reads", "because"),
    [
        ([], "did not read the committed history"),
        (
            [operation(99, LATE, LATE + 9, "history", None, {"missing": "compacted up to 8"})],
            "could not be read whole: compacted up to 8",
        ),
        ([operation(99, LATE, LATE + 9, "history", kind=FAIL)], "did not read the committed"),
    ],
)
def test_without_a_complete_history_nothing_is_settled_and_the_verdict_says_so(
    reads: list[Operation], because: str
) -> None:
    known, finding = settle(lost(0, "a"), *reads)
    assert kinds(known) == [INFO]
    assert_valid(finding)
    assert finding.statistics["stayed_unknown"] == 1
    assert because in finding.statistics["because"]


def test_the_history_of_one_key_settles_nothing_of_another() -> None:
    elsewhere = operation(51, 0, 5, "write", "a", kind=INFO, key="other")
    known, _ = settle(lost(0, "a"), elsewhere, versions())
    assert kinds(known) == [FAIL, INFO]


def test_an_absent_effect_stays_unknown_if_a_read_follows_that_of_the_history() -> None:
    late = operation(3, LATE + 20, LATE + 25, "read", None, [None, 0])
    known, finding = settle(lost(0, "a"), versions(), late)
    assert kinds(known) == [INFO, OK]
    assert "may still have happened" in finding.statistics["because"]


@pytest.mark.parametrize(
    ("asked", "history", "expected"),
    [
        (write(0, "a", 3), versions(), "but the committed history lacks it"),
        (write(0, "a", 3), versions((1, "a", 4)), "observed revision 3, but it is committed at 4"),
        (
            operation(1, 0, 5, "write", "a", kind=FAIL),
            versions((1, "a", 4)),
            "observed that it had not happened, but it is committed at 4",
        ),
        (
            operation(1, 0, 5, "cas", ["x", "a"], [False, None, 0]),
            versions((1, "a", 4)),
            "observed that it had not happened",
        ),
        (lost(0, "a"), versions((1, "a", 4), (2, "a", 5)), "took effect 2 times"),
        (
            lost(0, "a"),
            versions((1, "z", 4)),
            "z is committed at revision 4, but was never requested",
        ),
        (lost(0, "a"), versions((2, "a", 4)), "lacks some of 1 to 2"),
        (
            operation(1, 0, 950, "write", "a", 5),
            versions((1, "b", 4), (2, "a", 3)),
            "a later version is of an earlier revision",
        ),
    ],
)
def test_a_committed_history_that_contradicts_acknowledgements_is_refused(
    asked: Operation, history: Operation, expected: str
) -> None:
    known, finding = settle(asked, history)
    assert expected in texts(finding)
    assert known == [asked]


def test_a_write_that_ended_after_the_history_was_read_need_not_be_in_it() -> None:
    _, finding = settle(operation(1, LATE - 5, LATE + 5, "write", "a", 3), versions())
    assert_valid(finding)


def run_of(rng: Random) -> tuple[list[Operation], int]:
    """Two registers in one correct store, with callers that time out; and how many unknown writes
    had happened when its history was read, some way before the end.

    Who has given up may still be served at any time, or never.
    """
    waiting: list[tuple[int, int, Operation]] = []
    for process in range(rng.randint(5, 40)):
        began, patience = rng.randrange(1_000), rng.randrange(1, 300)
        effective = began + rng.randrange(1, 200) * rng.choice((1, 1, 1, 5))
        function = rng.choice(("read", "write", "cas"))
        value: Any = f"v{process}" if function != "read" else None
        if function == "cas":
            value = [rng.choice((None, *(f"v{n}" for n in range(8)))), value]
        ended = effective + rng.randrange(1, 50)
        given_up = ended > began + patience and function != "read"
        each = operation(
            process,
            began,
            began + patience if given_up else ended,
            function,
            value,
            kind=INFO if given_up else OK,
            key=rng.choice("kl"),
        )
        waiting.append((effective, ended, each))
    read_at = rng.choice((rng.randrange(1_000), 5_000))
    return served(sorted(waiting, key=lambda one: one[0]), read_at)


def served(
    waiting: Sequence[tuple[int, int, Operation]], read_at: int
) -> tuple[list[Operation], int]:
    revision, happened = 1, 0
    puts: dict[str, list[tuple[Any, int]]] = {"k": [], "l": []}
    kept = {key: list(found) for key, found in puts.items()}
    operations: list[Operation] = []
    for effective, ended, each in waiting:
        key, function = each.invocation.key, each.invocation.function
        current = puts[key][-1] if puts[key] else (None, 0)
        swaps = function == "cas" and each.invocation.value[0] == current[0]
        if function == "write" or swaps:
            revision += 1
            new = each.invocation.value[1] if swaps else each.invocation.value
            current = (new, revision)
            puts[key].append(current)
            if effective <= read_at:
                kept = {one: list(found) for one, found in puts.items()}
                happened += each.kind is INFO
        returned: Any = {
            "read": list(current),
            "write": current[1],
            "cas": [swaps, *current],
        }[function]
        end = each.completion.time_ns if each.kind is INFO and each.completion else ended
        operations.append(
            operation(
                each.invocation.process,
                each.invocation.time_ns,
                end,
                function,
                each.invocation.value,
                None if each.kind is INFO else returned,
                each.kind,
                key,
            )
        )
    for key, found in kept.items():
        entries = [[key, number, *put] for number, put in enumerate(found, 1)]
        returned = {"versions": entries}
        operations.append(operation(99, read_at, read_at + 5, "history", None, returned, key=key))
    return operations, happened


@settings(max_examples=400)
@given(st.integers(0, 10**9))
def test_a_correct_store_is_valid_after_its_outcomes_are_settled(
    seed: int,
) -> None:
    operations, happened = run_of(Random(seed))
    known, finding = settle(*operations)
    assert_valid(finding)
    assert finding.statistics["happened"] == happened
    assert register.check(known, versioned=True).validity is Validity.VALID

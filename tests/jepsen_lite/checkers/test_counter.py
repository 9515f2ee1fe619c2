"""Lost, doubled and misreported increments are found, and transfers that change the total."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers import bank, counter
from jepsen_lite.history import Kind, Operation, before, returned
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import (
    FAIL,
    INFO,
    OK,
    assert_valid,
    only_problem,
    operation,
)


def increment(began: int, value: str, kind: Kind = OK, revision: int = 0) -> Operation:
    return operation(1, began, began + 1, "increment", value, [value, revision], kind)


def read(began: int, ended: int, count: int) -> Operation:
    return operation(2, began, ended, "read", None, count)


def trace(*versions: tuple[int, str, int]) -> Operation:
    return operation(9, 90, 99, "trace", None, [list(each) for each in versions])


def test_increments_that_took_effect_at_most_once_are_valid() -> None:
    history = [
        increment(0, "a", OK, 2),
        increment(2, "b", INFO),
        increment(4, "c", FAIL),
        increment(6, "d", INFO),
        read(8, 9, 1),
        read(10, 11, 2),
        trace((2, "d", 3), (1, "a", 2)),
    ]
    assert_valid(counter.check(history))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([increment(0, "a", OK, 2), trace()], "acknowledged to process 1"),
        ([increment(0, "a", INFO), trace((2, "a", 3), (1, "a", 2))], "took effect 2 times"),
        ([increment(0, "a", FAIL), trace((1, "a", 2))], "observed that it failed"),
        ([increment(0, "a", OK, 5), trace((1, "a", 2))], "observed 5"),
        ([increment(0, "a", OK, 2), trace((2, "a", 2))], "have a gap"),
        ([trace((1, "z", 2))], "never written"),
        ([increment(0, "a", OK, 2), read(5, 6, 0), trace((1, "a", 2))], "1 to 1 were possible"),
        ([increment(0, "a", INFO), read(5, 6, 2), trace((1, "a", 2))], "0 to 1 were possible"),
        ([read(5, 6, 1), increment(8, "a", OK, 2), trace((1, "a", 2))], "0 to 0 were possible"),
    ],
)
def test_each_way_to_miscount_is_named(history: list[Operation], expected: str) -> None:
    assert expected in only_problem(counter.check(history))


OVERLAPPING = [operation(n, 0, 20, "increment", f"i{n}", [f"i{n}", 2 + n]) for n in range(5)]
TRACE = trace(*((n + 1, f"i{n}", 2 + n) for n in reversed(range(5))))


@pytest.mark.parametrize("last", [[], [TRACE]])
def test_a_read_that_shows_less_than_an_earlier_one_is_found(last: list[Operation]) -> None:
    assert "is at 0, though process 2's read was at 5" in only_problem(
        counter.check([*OVERLAPPING, read(5, 6, 5), read(8, 9, 0), *last])
    )
    assert_valid(counter.check([*OVERLAPPING, read(5, 8, 5), read(8, 9, 0), TRACE]))


@pytest.mark.parametrize("last", [[], [trace((2, "a", 2), (1, "b", 1))]])
def test_increments_out_of_the_order_of_time_are_found(last: list[Operation]) -> None:
    history = [increment(0, "a", OK, 2), increment(2, "b", OK, 1), *last]
    assert "process 1's increment that began" in only_problem(counter.check(history))


def test_a_read_between_two_increments_is_placed_by_the_trace() -> None:
    first = operation(1, 0, 2, "increment", "a", ["a", 2])
    slow = operation(2, 0, 20, "increment", "b", ["b", 3])
    late = operation(3, 6, 8, "increment", "c", ["c", 4])
    in_time = trace((3, "c", 4), (2, "b", 3), (1, "a", 2))
    assert_valid(counter.check([first, slow, late, read(4, 5, 2), in_time]))
    too_late = trace((3, "b", 4), (2, "c", 3), (1, "a", 2))
    slow = operation(2, 0, 20, "increment", "b", ["b", 4])
    late = operation(3, 6, 8, "increment", "c", ["c", 3])
    assert "process 3's increment" in only_problem(
        counter.check([first, slow, late, read(4, 5, 2), too_late])
    )


def has_an_order(history: list[Operation], version_of: dict[str, int]) -> bool:
    """By trying them all."""

    def counts(order: tuple[Operation, ...]) -> bool:
        count = 0
        for each in order:
            if each.invocation.function == "increment":
                count += 1
                if version_of[each.invocation.value] != count:
                    return False
            elif returned(each) != count:
                return False
        return True

    return any(
        counts(order) and not any(before(b, a) for a, b in itertools.combinations(order, 2))
        for order in itertools.permutations(history)
    )


@settings(max_examples=150)
@given(st.integers(0, 1_000_000))
def test_a_counter_is_valid_if_and_only_if_there_is_an_order_of_all(seed: int) -> None:
    rng = Random(seed)
    values = ["a", "b", "c"]
    version_of = {value: place for place, value in enumerate(rng.sample(values, 3), 1)}
    history: list[Operation] = []
    for value in values:
        began, kind = rng.randrange(12), rng.choice([OK, OK, INFO])
        acknowledged = [value, version_of[value]]
        history.append(
            operation(
                1, began, began + rng.randrange(1, 12), "increment", value, acknowledged, kind
            )
        )
    for _ in range(2):
        began = rng.randrange(12)
        history.append(read(began, began + rng.randrange(1, 12), rng.randrange(4)))
    last = trace(*sorted(((version_of[v], v, version_of[v]) for v in values), reverse=True))
    is_valid = counter.check([*history, last]).validity is Validity.VALID
    assert is_valid == has_an_order(history, version_of)


def test_a_counter_without_a_trace_is_unknown() -> None:
    assert counter.check([increment(0, "a", OK, 2)]).validity is Validity.UNKNOWN


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_a_counter_that_counts_is_never_accused(seed: int) -> None:
    rng = Random(seed)
    history: list[Operation] = []
    effects: list[tuple[float, str, int]] = []
    for number in range(30):
        began, length = rng.randrange(100), rng.randrange(1, 20)
        kind = rng.choice([OK, OK, INFO])
        if kind is OK or rng.random() < 0.5:
            effects.append((began + rng.random() * length, f"i{number}", number))
        history.append(
            operation(number, began, began + length, "increment", f"i{number}", None, kind)
        )
    effects.sort()
    revision_of = {value: place + 1 for place, (_, value, _) in enumerate(effects)}
    history = [
        operation(
            each.invocation.process,
            each.invocation.time_ns,
            each.completion.time_ns if each.completion else 0,
            "increment",
            each.invocation.value,
            [each.invocation.value, revision_of.get(each.invocation.value)],
            each.kind,
        )
        for each in history
    ]
    for process in range(5):
        began, moment = rng.randrange(100), rng.random() * 10
        count = sum(effect[0] <= began + moment for effect in effects)
        history.append(operation(50 + process, began, began + 10, "read", None, count))
    last = [(revision_of[value], value, revision_of[value]) for _, value, _ in reversed(effects)]
    assert_valid(counter.check([*history, trace(*last)]))


def bank_read(balances: dict[str, int]) -> Operation:
    return operation(1, 0, 1, "read", None, balances)


def test_a_bank_that_keeps_its_total_is_valid() -> None:
    assert_valid(bank.check([bank_read({"a": 7, "b": 3})], 10, ["a", "b"]))
    assert_valid(bank.check([bank_read({"a": 12, "b": -2})], 10, ["a", "b"], True))


@pytest.mark.parametrize(
    ("balances", "expected"),
    [
        ({"a": 7, "b": 4}, "11 in all where 10 must be"),
        ({"a": 12, "b": -2}, "less than nothing in b"),
        ({"a": 10}, "missing or unexpected accounts: b"),
    ],
)
def test_created_lost_and_negative_balances_are_named(
    balances: dict[str, int], expected: str
) -> None:
    assert expected in only_problem(bank.check([bank_read(balances)], 10, ["a", "b"]))


def test_a_bank_without_a_read_is_unknown() -> None:
    assert bank.check([], 10, ["a"]).validity is Validity.UNKNOWN


def rest_of_a_trace(*versions: tuple[int, str, int]) -> Operation:
    left = [list(each) for each in versions]
    return operation(9, 90, 99, "trace", None, {"left": left})


def test_what_is_left_of_a_compacted_counter_is_judged_like_a_whole_one() -> None:
    history = [
        increment(0, "a", OK, 2),
        increment(2, "b", INFO),
        increment(4, "c", OK, 4),
        increment(6, "d", OK, 5),
    ]
    assert_valid(counter.check([*history, rest_of_a_trace((4, "d", 5), (3, "c", 4))]))
    assert_valid(counter.check([*history, rest_of_a_trace((3, "d", 5), (2, "c", 4))]))
    lost = only_problem(counter.check([*history, rest_of_a_trace((3, "c", 4))]))
    assert lost.startswith("d was acknowledged")
    too_many = only_problem(counter.check([*history, rest_of_a_trace((5, "d", 5), (4, "c", 4))]))
    assert too_many.startswith("3 versions are compacted, where 1 to 2 were possible")
    too_few = only_problem(counter.check([*history, rest_of_a_trace((2, "d", 5))]))
    assert too_few.startswith("1 versions are compacted, where 2 to 3 were possible")

"""Registers are judged per key, and a refusal is explained by its smallest counterexample."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers.linearizable import register
from jepsen_lite.checkers.linearizable.benchmark import simulated, with_stale_read
from jepsen_lite.checkers.linearizable.reduction import reduced
from jepsen_lite.checkers.linearizable.register_model import REGISTER, VERSIONED_REGISTER
from jepsen_lite.checkers.linearizable.search import (
    Call,
    Model,
    SearchVerdict,
    check,
    states_when_quiet,
)
from jepsen_lite.checkers.linearizable.unique_writes import blocks
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import (
    FAIL,
    INFO,
    assert_valid,
    only_problem,
    operation,
    texts,
)
from tests.jepsen_lite.checkers.test_linearizability import by_definition, histories


def write(process: int, began: int, ended: int, value: str) -> Operation:
    return operation(process, began, ended, "write", value, value)


def read(process: int, began: int, ended: int, saw: str | None) -> Operation:
    return operation(process, began, ended, "read", None, [saw])


@settings(max_examples=300)
@given(histories())
def test_the_search_with_unique_writes_gives_the_same_verdict(calls: list[Call]) -> None:
    legal = check(blocks(calls), calls).verdict is SearchVerdict.OK
    assert legal == by_definition(REGISTER, calls)


@settings(max_examples=200)
@given(histories())
def test_a_reduced_history_is_illegal_and_so_is_what_it_was_taken_from(calls: list[Call]) -> None:
    named = [
        Call(call.began, call.ended, call.input, call.output, name)
        for name, call in enumerate(calls)
    ]
    if check(REGISTER, named).verdict is SearchVerdict.ILLEGAL:
        smallest = reduced(blocks, named)
        assert len(smallest) <= len(named)
        assert not by_definition(REGISTER, smallest)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_a_legal_history_with_unknown_outcomes_is_valid(seed: int) -> None:
    assert_valid(register.check(simulated(Random(seed), 400, 4, 12, 0.05)))


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_one_stale_read_hidden_in_it_is_pointed_at(seed: int) -> None:
    history = simulated(Random(seed), 400, 2, 4, 0.02)
    last_read = [
        each for each in history if each.invocation.function == "read" and each.kind == "ok"
    ][-1]
    returned = only_problem(register.check(with_stale_read(history)))
    assert f"process {last_read.invocation.process} read" in returned


@settings(max_examples=200)
@given(histories())
def test_when_nothing_is_open_the_later_calls_are_illegal_from_every_state(
    calls: list[Call],
) -> None:
    for later, states in states_when_quiet(REGISTER, calls):
        assert not any(by_definition(Model(state, REGISTER.step), list(later)) for state in states)


def test_repeated_values_need_only_the_calls_since_nothing_was_open() -> None:
    repeated = [write(1, 2 * n, 2 * n + 1, f"v{n % 3}") for n in range(1_000)]
    returned = only_problem(register.check([*repeated, read(2, 2_000, 2_001, "v1")]))
    assert returned.count("wrote") == 1
    assert "these 2 calls fit into no order" in returned


def test_a_stale_read_is_explained_by_the_three_calls_that_matter() -> None:
    finding = register.check(
        [
            write(1, 0, 1, "v7"),
            read(4, 2, 3, "v7"),
            write(2, 4, 5, "v9"),
            read(4, 6, 7, "v9"),
            read(3, 8, 9, "v7"),
            write(1, 10, 11, "v11"),
        ]
    )
    assert "process 3 read v7 at 0.000000 s, although v9 had been written by process 2" in (
        only_problem(finding)
    )
    assert finding.problems[0].events == (0, 3, 8, 11, 16, 19)


def test_a_value_that_was_never_written_is_named() -> None:
    assert "read v1 at 0.000000 s, which no operation" in only_problem(
        register.check([read(1, 0, 1, "v1"), write(2, 3, 4, "v1")])
    )


def test_a_read_of_a_failed_write_is_explained() -> None:
    failed = operation(1, 0, 1, "write", "v1", kind=FAIL)
    returned = only_problem(register.check([failed, read(2, 2, 3, "v1")]))
    assert "process 1 who wrote it had observed that it failed" in returned


def test_a_write_of_unknown_outcome_may_be_seen_late_but_not_twice() -> None:
    lost = operation(1, 0, 1, "write", "v1", kind=INFO)
    late = [lost, read(2, 2, 3, None), write(3, 4, 5, "v2"), read(2, 6, 7, "v1")]
    assert_valid(register.check(late))
    again = [*late, write(3, 8, 9, "v3"), read(2, 10, 11, "v1")]
    assert "process 2 read v1" in only_problem(register.check(again))


def test_a_value_with_two_writers_may_be_read_before_an_unread_write() -> None:
    twice = [write(1, 0, 1, "a"), write(1, 2, 3, "a")]
    assert_valid(register.check([*twice, write(2, 4, 6, "b"), read(3, 5, 7, "a")]))


def test_keys_are_judged_alone() -> None:
    stale = operation(1, 4, 5, "read", None, [None], key="b")
    old = operation(1, 0, 1, "write", "v1", key="b")
    finding = register.check([old, write(2, 2, 3, "v2"), read(2, 4, 5, "v2"), stale])
    assert only_problem(finding).startswith("b: process 1 read nothing")


def test_a_search_that_is_given_up_is_unknown() -> None:
    twice = [write(number, 0, 100, f"v{number // 2}") for number in range(12)]
    pair = [*(read(20 + number, 0, 100, f"v{number}") for number in range(6))]
    finding = register.check([*twice, *pair, read(30, 101, 102, "unwritten")], steps_max=100)
    assert finding.validity is Validity.UNKNOWN
    assert "given up" in finding.problems[0].text


def test_versions_grow_with_every_write_and_belong_to_their_value() -> None:
    first = operation(1, 0, 1, "write", "v1", 3)
    lost = operation(2, 2, 3, "write", "v2", kind=INFO)
    seen = operation(3, 4, 5, "read", None, ["v2", 5])
    swap = operation(3, 6, 7, "cas", ["v2", "v3"], [True, "v3", 6])
    refused = operation(3, 8, 9, "cas", ["v2", "v4"], [False, "v3", 6])
    assert_valid(register.check([first, lost, seen, swap, refused], versioned=True))


def test_a_version_that_goes_back_or_changes_is_refused() -> None:
    first = operation(1, 0, 1, "write", "v1", 3)
    back = operation(1, 2, 3, "write", "v2", 2)
    other = operation(1, 2, 3, "read", None, ["v1", 4])
    gone_back = texts(register.check([first, back], versioned=True))
    assert "no order" in gone_back
    assert "wrote v1, version 3" in gone_back  # the contradiction needs it
    assert "wrote v2, version 2" in gone_back
    assert "no order" in texts(register.check([first, other], versioned=True))


def test_a_versioned_history_without_versions_in_doubt_agrees_with_the_plain_one() -> None:
    calls = [Call(0, 1, ("write", "a"), 1), Call(0, 1, ("write", "b"), 2)]
    assert check(VERSIONED_REGISTER, [*calls, Call(2, 3, ("read", None), ["b", 2])]).verdict is (
        SearchVerdict.OK
    )
    assert check(VERSIONED_REGISTER, [*calls, Call(2, 3, ("read", None), ["a", 1])]).verdict is (
        SearchVerdict.ILLEGAL
    )

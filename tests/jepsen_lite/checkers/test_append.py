"""A strictly serializable history is valid, and each anomaly is found by its name."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers.elle import append
from jepsen_lite.checkers.elle.dependencies import micro_operations
from jepsen_lite.history import Kind, Operation, before
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import FAIL, INFO, OK, assert_valid, operation, texts

Micro = tuple[str, str, Any]


def txn(process: int, began: int, ended: int, *micros: Micro, kind: Kind = OK) -> Operation:
    asked = [[f, key, None if f == "r" else value] for f, key, value in micros]
    return operation(process, began, ended, "txn", asked, [list(each) for each in micros], kind)


def a(key: str, element: int) -> Micro:
    return "append", key, element


def r(key: str, *elements: int) -> Micro:
    return "r", key, list(elements)


def simulated(
    seed: int,
    count: int,
    keys: int = 4,
    processes: int = 8,
    element_max: int = 20,
    shares: tuple[int, int, int] = (90, 5, 5),
) -> list[Operation]:
    """What clients see of a store in which each transaction takes effect at one moment."""
    rng = Random(seed)
    free = [(rng.randrange(10), process) for process in range(processes)]
    made: list[tuple[int, int, int, Kind, float]] = []
    for number in range(count):
        now, process = free.pop(0)
        ended = now + rng.randrange(2, 40)
        kind = rng.choices([OK, FAIL, INFO], shares)[0]
        made.append((process, now, ended, kind, now + rng.random() * (ended - now)))
        again = process if kind is not INFO else processes + number
        free.append((ended + rng.randrange(1, 5), again))
        free.sort()
    state: dict[str, list[int]] = {}
    history: list[Operation] = []
    elements, keys_used = 0, 0
    for process, began, ended, kind, _ in sorted(made, key=lambda each: each[4]):
        takes_effect = kind is OK or (kind is INFO and rng.random() < 0.5)
        working = {key: list(held) for key, held in state.items()} if takes_effect else {}
        micros: list[Micro] = []
        for _ in range(rng.randrange(1, 5)):
            key = f"k{keys_used // element_max + rng.randrange(keys)}"
            if rng.random() < 0.5:
                elements, keys_used = elements + 1, keys_used + 1
                micros.append(a(key, elements))
                working.setdefault(key, []).append(elements)
            else:
                micros.append(r(key, *working.get(key, [])))
        if takes_effect:
            state = working
        history.append(txn(process, began, ended, *micros, kind=kind))
    return sorted(history, key=lambda each: each.invocation.time_ns)


@settings(max_examples=100)
@given(st.integers(0, 1_000_000), st.integers(1, 60))
def test_a_strictly_serializable_store_is_never_accused(seed: int, count: int) -> None:
    history = simulated(seed, count)
    if any(each.kind is OK for each in history):
        assert_valid(append.check(history))


def shows_what_it_read(order: tuple[Operation, ...]) -> bool:
    state: dict[str, list[int]] = {}
    for each in order:
        for function, key, value in micro_operations(each):
            if function == "append":
                state.setdefault(key, []).append(value)
            elif each.kind is OK and value != state.get(key, []):
                return False
    return True


def has_an_order(history: list[Operation]) -> bool:
    """By trying them all, with any of those that may not have happened."""
    known = [each for each in history if each.kind is OK]
    unknown = [each for each in history if each.kind is INFO]
    return any(
        shows_what_it_read(order)
        and not any(before(later, earlier) for earlier, later in itertools.combinations(order, 2))
        for count in range(len(unknown) + 1)
        for some in itertools.combinations(unknown, count)
        for order in itertools.permutations([*known, *some])
    )


def with_stale_reads(rng: Random, history: list[Operation]) -> list[Operation]:
    changed: list[Operation] = []
    for each in history:
        assert each.completion is not None
        micros: list[Micro] = [
            (f, key, value[:-1] if f == "r" and rng.random() < 0.25 else value)
            for f, key, value in each.completion.value
        ]
        began_ns, ended_ns = each.invocation.time_ns, each.completion.time_ns
        changed.append(txn(each.invocation.process, began_ns, ended_ns, *micros, kind=each.kind))
    return changed


@settings(max_examples=150)
@given(st.integers(0, 1_000_000))
def test_transactions_are_valid_if_and_only_if_there_is_an_order_of_all(seed: int) -> None:
    shares = (60, 5, 35)
    history = simulated(seed, 5, keys=2, processes=3, element_max=100, shares=shares)
    history = with_stale_reads(Random(seed), history)
    if any(each.kind is OK for each in history):
        is_valid = append.check(history).validity is Validity.VALID
        assert is_valid == has_an_order(history)


@pytest.mark.parametrize(
    ("anomaly", "history"),
    [
        (
            "G0",
            [
                txn(1, 0, 9, a("x", 1), a("y", 1)),
                txn(2, 0, 9, a("x", 2), a("y", 2)),
                txn(3, 10, 11, r("x", 1, 2), r("y", 2, 1)),
            ],
        ),
        (
            "G1a",
            [txn(1, 0, 1, a("x", 1), kind=FAIL), txn(2, 2, 3, r("x", 1))],
        ),
        (
            "G1b",
            [txn(1, 0, 9, a("x", 1), a("x", 2)), txn(2, 0, 9, r("x", 1))],
        ),
        (
            "G1c",
            [
                txn(1, 0, 9, a("x", 1), r("y", 1)),
                txn(2, 0, 9, a("y", 1), r("x", 1)),
            ],
        ),
        (
            "G-single",
            [
                txn(1, 0, 9, a("x", 1), a("y", 1)),
                txn(2, 0, 9, r("x", 1), r("y")),
                txn(3, 10, 11, r("y", 1)),
            ],
        ),
        (
            "G-single",
            [
                txn(1, 0, 1, a("x", 1), a("y", 1), kind=INFO),
                txn(2, 2, 3, r("x", 1), r("y")),
            ],
        ),
        (
            "G2-item",
            [
                txn(1, 0, 9, r("x"), a("y", 1)),
                txn(2, 0, 9, r("y"), a("x", 1)),
                txn(3, 10, 11, r("x", 1), r("y", 1)),
            ],
        ),
        (
            "G0-realtime",
            [
                txn(1, 0, 1, a("x", 1)),
                txn(2, 2, 3, a("x", 2)),
                txn(3, 4, 5, r("x", 2, 1)),
            ],
        ),
        (
            "G0-process",
            [
                txn(1, 0, 1, a("x", 1)),
                txn(1, 1, 2, a("x", 2)),
                txn(3, 4, 5, r("x", 2, 1)),
            ],
        ),
        (
            "G1c-process",
            [txn(1, 0, 9, r("x", 1)), txn(1, 9, 10, a("x", 1))],
        ),
        (
            "G-single-realtime",
            [txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, r("x")), txn(3, 4, 5, r("x", 1))],
        ),
        (
            "G2-item-process",
            [
                txn(1, 0, 5, a("x", 1)),
                txn(1, 5, 9, r("y")),
                txn(2, 0, 5, a("y", 1)),
                txn(2, 5, 9, r("x")),
            ],
        ),
        ("internal", [txn(1, 0, 1, a("x", 1), r("x"))]),
        ("internal", [txn(1, 0, 1, r("x", 1), r("x", 1, 2)), txn(2, 0, 1, a("x", 1), a("x", 2))]),
        ("duplicate", [txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, r("x", 1, 1))]),
        ("phantom", [txn(2, 2, 3, r("x", 1))]),
        (
            "incompatible order",
            [
                txn(1, 0, 9, a("x", 1)),
                txn(2, 0, 9, a("x", 2)),
                txn(3, 0, 9, r("x", 1, 2)),
                txn(4, 0, 9, r("x", 2)),
            ],
        ),
        (
            "lost update",
            [
                txn(1, 0, 9, r("x"), a("x", 1)),
                txn(2, 0, 9, r("x"), a("x", 2)),
                txn(3, 10, 11, r("x", 1, 2)),
            ],
        ),
        (
            "dirty update",
            [
                txn(1, 0, 1, a("x", 1), kind=FAIL),
                txn(2, 2, 3, a("x", 2)),
                txn(3, 4, 5, r("x", 1, 2)),
            ],
        ),
    ],
)
def test_each_anomaly_is_found_by_its_name(anomaly: str, history: list[Operation]) -> None:
    finding = append.check(history)
    assert anomaly in finding.statistics["anomalies"], texts(finding)


def test_an_acknowledged_append_that_is_lost_is_found() -> None:
    history = [txn(1, 0, 1, a("x", 1)), txn(2, 2, 3, a("x", 2)), txn(3, 4, 5, r("x", 2))]
    assert "did not see 1" in texts(append.check(history))


@pytest.mark.parametrize(
    "history",
    [
        [txn(2, 2, 3, r("x")), txn(3, 4, 5, r("x", 1), r("y", 1))],
        [txn(2, 2, 3, r("x"), r("y")), txn(2, 4, 5, r("y"))],
        [txn(2, 2, 3, r("x")), txn(3, 4, 5, a("y", 2)), txn(4, 6, 7, r("x", 1), r("y", 2, 1))],
    ],
)
def test_a_transaction_of_unknown_outcome_may_happen_at_any_time_after_its_start(
    history: list[Operation],
) -> None:
    assert_valid(append.check([txn(1, 0, 1, a("x", 1), a("y", 1), kind=INFO), *history]))


def test_a_cycle_is_explained_edge_by_edge() -> None:
    history = [
        txn(1, 0, 9, a("x", 1), a("y", 1)),
        txn(2, 0, 9, r("x", 1), r("y")),
        txn(3, 10, 11, r("y", 1)),
    ]
    (problem,) = append.check(history).problems
    assert problem.text == (
        "G-single: T1 read y as empty before T2 appended 1 to it, because it did not see 1;"
        " T2 appended 1 to x before T1 read it, because it saw 1: a contradiction. Here T1 is the"
        " transaction of process 2 that began at 0.000000 s, T2 is the transaction of process 1"
        " that began at 0.000000 s."
    )
    assert problem.events == (0, 19)


def test_successive_transactions_of_one_process_are_explained_as_one_step() -> None:
    history = [txn(1, 0, 5, r("x", 1)), txn(1, 5, 6, r("y")), txn(1, 6, 7, a("x", 1))]
    (problem,) = append.check(history).problems
    assert problem.text.startswith("G1c-process: T1 appended 1 to x before T2 read it")
    assert problem.events == (0, 11, 12, 15)


def test_a_stale_read_among_many_transactions_is_explained_by_a_short_cycle() -> None:
    history = simulated(3, 2_000)
    late = history[-1].invocation.time_ns + 100
    early = next(
        each for each in history if each.kind is OK and each.invocation.value[0][0] == "append"
    )
    key = early.invocation.value[0][1]
    finding = append.check([*history, txn(9_999, late, late + 1, r(key))])
    assert finding.statistics["anomalies"] == ["G-single-realtime"]
    assert len(finding.problems[0].events) == 4


def test_transactions_that_all_failed_prove_nothing() -> None:
    finding = append.check([txn(1, 0, 1, a("x", 1), kind=FAIL)])
    assert finding.validity is Validity.UNKNOWN


@settings(max_examples=50)
@given(st.integers(0, 1_000_000), st.data())
def test_a_read_that_misses_its_newest_element_is_found(seed: int, data: st.DataObject) -> None:
    history = simulated(seed, 60)
    stale = [
        (place, number)
        for place, each in enumerate(history)
        if each.kind is OK and each.completion
        for number, (function, key, shown) in enumerate(each.completion.value)
        if function == "r"
        and shown
        and all(k != key for f, k, _ in each.completion.value[:number])
        and any(
            other.kind is OK
            and other.completion
            and other.completion.time_ns < each.invocation.time_ns
            and ["append", key, shown[-1]] in other.completion.value
            for other in history
        )
    ]
    if stale:
        place, number = data.draw(st.sampled_from(stale))
        victim = history[place]
        assert victim.completion is not None
        micros = [tuple(each) for each in victim.completion.value]
        micros[number] = ("r", micros[number][1], micros[number][2][:-1])
        changed = txn(
            victim.invocation.process,
            victim.invocation.time_ns,
            victim.completion.time_ns,
            *micros,
        )
        history[place] = changed
        assert append.check(history).validity is Validity.INVALID

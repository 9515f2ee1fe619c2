"""Each anomaly of transactions on registers is found, and a history that nearly has it passes."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers.elle import rw_register
from jepsen_lite.history import Kind, Operation, before
from jepsen_lite.verdicts import Finding, Validity
from tests.jepsen_lite.checkers.histories import FAIL, INFO, OK, assert_valid, operation

AT_ONCE = (0, 100)


def txn(process: int, steps: str, times: tuple[int, int] = AT_ONCE, kind: Kind = OK) -> Operation:
    """`steps`: "wx1" writes 1 to x, "rx1" reads it, "rx-" reads nothing."""
    asked: list[list[Any]] = []
    answer: list[list[Any]] = []
    for step in steps.split():
        function, key = step[0], step[1]
        value = None if step[2:] == "-" else int(step[2:])
        asked.append([function, key, None if function == "r" else value])
        answer.append([function, key, value])
    return operation(process, *times, "txn", asked, answer if kind is OK else asked, kind)


def anomalies(*transactions: Operation) -> list[str]:
    found: Finding = rw_register.check(transactions)
    named: list[str] = found.statistics["anomalies"]
    assert (found.validity is Validity.VALID) == (not named), found
    return named


# Of each anomaly: a history with it, and the same with one thing changed.
CASES = {
    "internal": ([txn(1, "wx1 rx2"), txn(2, "wx2")], [txn(1, "wx1 rx1"), txn(2, "wx2")]),
    "G1a": (
        [txn(1, "wx1", kind=FAIL), txn(2, "rx1")],
        [txn(1, "wx1", kind=INFO), txn(2, "rx1")],
    ),
    "G1b": ([txn(1, "wx1 wx2"), txn(2, "rx1")], [txn(1, "wx1 wx2"), txn(2, "rx2")]),
    "phantom": ([txn(1, "wx1"), txn(2, "rx7")], [txn(1, "wx1"), txn(2, "rx1")]),
    "lost update": (
        [txn(1, "rx- wx1"), txn(2, "rx- wx2")],
        [txn(1, "rx- wx1"), txn(2, "rx1 wx2")],
    ),
    "G0": (
        [txn(1, "wx1 ry1 wy2"), txn(2, "rx1 wx2 wy1")],
        [txn(1, "wx1 ry- wy2"), txn(2, "rx1 wx2 wy1")],
    ),
    "G1c": (
        [txn(1, "wx1 ry1"), txn(2, "wy1 rx1")],
        [txn(1, "wx1 ry-"), txn(2, "wy1 rx1")],
    ),
    "G-single": (
        [txn(1, "wx1 wy1"), txn(2, "rx1 ry-")],
        [txn(1, "wx1 wy1"), txn(2, "rx1 ry1")],
    ),
    # Write skew.
    "G2-item": (
        [txn(1, "rx- wy1"), txn(2, "ry- wx1")],
        [txn(1, "rx- wy1"), txn(2, "ry1 wx1")],
    ),
    "G-single-process": (
        [txn(1, "wx1", (0, 9)), txn(1, "rx-", (9, 19))],
        [txn(1, "wx1", (0, 9)), txn(1, "rx1", (9, 19))],
    ),
    "G-single-realtime": (
        [txn(1, "wx1", (0, 1)), txn(2, "wx2", (2, 3)), txn(3, "rx1", (4, 5))],
        [txn(1, "wx1", (0, 1)), txn(2, "wx2", (2, 5)), txn(3, "rx1", (4, 5))],
    ),
    "cyclic versions": (
        [txn(1, "wx1"), txn(2, "wx2")]
        + [txn(3 + at, f"rx{1 + at % 2}", (10 * at + 1, 10 * at + 5)) for at in range(3)],
        [txn(1, "wx1"), txn(2, "wx2")]
        + [txn(3 + at, f"rx{1 + at % 2}", (10 * at + 1, 10 * at + 5)) for at in range(2)],
    ),
}


@pytest.mark.parametrize("anomaly", CASES)
def test_an_anomaly_is_named_and_its_near_miss_is_valid(anomaly: str) -> None:
    with_it, without = CASES[anomaly]
    assert anomaly in anomalies(*with_it)
    assert anomalies(*without) == []


def test_a_transaction_that_reads_what_it_writes_later_contradicts_itself() -> None:
    assert anomalies(txn(1, "rx1 wx1")) == ["internal"]
    assert anomalies(txn(1, "wx1 rx1")) == []


def test_a_cycle_is_told_with_the_reason_for_each_order() -> None:
    found = rw_register.check(CASES["G-single-realtime"][0])
    (told,) = [each.text for each in found.problems]
    assert "read 1 in x before" in told
    assert "process 1 had 1 there in a transaction that was over at" in told


def test_what_a_transaction_of_unknown_outcome_wrote_may_be_read_late_or_never() -> None:
    lost = txn(1, "wx1", (0, 1), INFO)
    assert anomalies(lost, txn(2, "rx-", (2, 3)), txn(2, "rx1", (4, 5))) == []
    assert anomalies(lost, txn(2, "rx-", (2, 3))) == []
    assert anomalies(lost, txn(2, "rx1", (2, 3)), txn(3, "rx-", (4, 5))) != []


def legal(transactions: list[Operation]) -> bool:
    """Some of the unknown ones, in some order that respects time, explain all that was read."""
    known = [each for each in transactions if each.kind is OK]
    unknown = [each for each in transactions if each.kind is INFO]
    return any(
        all(not before(later, one) for one, later in itertools.combinations(order, 2))
        and _explains(order)
        for count in range(len(unknown) + 1)
        for some in itertools.combinations(unknown, count)
        for order in itertools.permutations([*known, *some])
    )


def _explains(order: tuple[Operation, ...]) -> bool:
    state: dict[str, Any] = {}
    for each in order:
        assert each.completion is not None
        for function, key, value in each.completion.value:
            if function == "w":
                state[key] = value
            elif each.kind is OK and state.get(key) != value:
                return False
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Up to four transactions on two registers, each value written once."""
    made: list[Operation] = []
    values = itertools.count(1)
    for number in range(draw(st.integers(1, 4))):
        steps = []
        for _ in range(draw(st.integers(1, 3))):
            key = draw(st.sampled_from("xy"))
            if draw(st.booleans()):
                steps.append(f"w{key}{next(values)}")
            else:
                steps.append(f"r{key}{draw(st.sampled_from(['-', '1', '2', '3', '4']))}")
        began = draw(st.integers(0, 12))
        times = (began, draw(st.integers(began, 14)))
        made.append(txn(number, " ".join(steps), times, draw(st.sampled_from([OK, OK, OK, INFO]))))
    return made


@settings(max_examples=150)
@given(histories())
def test_nothing_is_found_in_a_history_that_some_order_explains(made: list[Operation]) -> None:
    if legal(made) and any(each.kind is OK for each in made):
        assert_valid(rw_register.check(made))


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_what_a_correct_store_answers_is_valid_and_a_read_of_the_past_is_not(seed: int) -> None:
    made = served(Random(seed))
    assert_valid(rw_register.check(made))
    stale = txn(99, "rx-", (10_000, 10_001))
    assert rw_register.check([*made, stale]).validity is Validity.INVALID


def served(rng: Random) -> list[Operation]:
    """Transactions of a store that carries each out at one moment within its time."""
    state: dict[str, int] = {}
    made = [txn(0, "wx1000", (0, 1))]
    state["x"] = 1000
    for number in range(1, 60):
        steps = []
        for place in range(rng.randint(1, 4)):
            key = rng.choice("xyz")
            if rng.random() < 0.5:
                state[key] = 10 * number + place
                steps.append(f"w{key}{state[key]}")
            else:
                steps.append(f"r{key}{state.get(key, '-')}")
        moment = 100 * number
        times = (moment - rng.randrange(300), moment + rng.randrange(300))
        lost = rng.random() < 0.1
        made.append(
            txn(number, " ".join(steps), (max(2, times[0]), times[1]), INFO if lost else OK)
        )
    return made

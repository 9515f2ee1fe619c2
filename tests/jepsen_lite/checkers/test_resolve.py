"""An unknown outcome becomes known only where the committed history proves it."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers.linearizable import register
from jepsen_lite.checkers.linearizable.benchmark import simulated
from jepsen_lite.checkers.resolve import Committed, resolved
from jepsen_lite.history import Kind, Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import INFO, OK, operation

LOST = operation(1, 0, 5, "write", "a", kind=INFO)


def resolve(operations: list[Operation], committed: dict[str, int], began: int) -> list[Operation]:
    return resolved(
        operations,
        Committed(committed, began, began + 10),
        lambda each: each.invocation.value if each.invocation.function == "write" else None,
        lambda each: each.completion.value if each.completion else None,
        lambda each, revision: revision,
    )


def test_a_committed_effect_happened_before_its_revision_was_returned() -> None:
    later = operation(2, 20, 30, "write", "b", 8)
    (found, _) = resolve([LOST, later], {"a": 7, "b": 8}, 90)
    assert found.kind is OK
    assert found.completion is not None
    assert (found.completion.time_ns, found.completion.value) == (30, 7)


def test_a_committed_effect_happened_before_the_read_of_the_history_ended() -> None:
    earlier = operation(2, 20, 30, "write", "b", 6)
    (found, _) = resolve([LOST, earlier], {"a": 7, "b": 6}, 90)
    assert found.completion is not None
    assert found.completion.time_ns == 100


def test_an_absent_effect_failed_if_nothing_judged_came_after_the_read_of_the_history() -> None:
    (found,) = resolve([LOST], {}, 90)
    assert found.kind is Kind.FAIL


def test_an_absent_effect_stays_unknown_if_it_may_still_show() -> None:
    (found, _) = resolve([LOST, operation(2, 95, 99, "read", None, None)], {}, 90)
    assert found.kind is INFO


def test_a_read_of_unknown_outcome_stays_unknown() -> None:
    (found,) = resolve([operation(1, 0, 5, "read", kind=INFO)], {}, 90)
    assert found.kind is INFO


def test_known_outcomes_are_left_alone() -> None:
    known = operation(1, 0, 5, "write", "a", 3)
    assert resolve([known], {}, 90) == [known]


@settings(max_examples=30)
@given(st.integers(0, 100_000))
def test_a_legal_history_stays_legal_when_its_outcomes_are_resolved(seed: int) -> None:
    history = simulated(Random(seed), 200, 1, 8, 0.1)
    ended = max(each.completion.time_ns for each in history if each.completion)
    seen = {
        each.completion.value[0]: 1
        for each in history
        if each.invocation.function == "read" and each.kind is OK and each.completion
    }
    found = resolved(
        history,
        # Only what is certain: what a read saw is committed. The rest is of unknown outcome.
        Committed({value: 1 for value in seen if value}, ended, ended + 100_000),
        lambda each: (
            each.invocation.value
            if each.invocation.function == "write" and each.invocation.value in seen
            else None
        ),
        lambda each: None,
        lambda each, _: each.invocation.value,
    )
    assert register.check(found).validity is Validity.VALID

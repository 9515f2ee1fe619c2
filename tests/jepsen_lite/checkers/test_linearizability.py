"""The checker agrees with the definition, on histories small enough to try every order."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers.linearizable.register_model import REGISTER
from jepsen_lite.checkers.linearizable.search import NEVER, Call, Model, SearchVerdict, check


def read(began: float, ended: float, saw: str | None) -> Call:
    return Call(began, ended, ("read", None), [saw])


def write(began: float, ended: float, value: str) -> Call:
    return Call(began, ended, ("write", value), value)


def by_definition(model: Model, calls: list[Call]) -> bool:
    """Some of the unknown calls, in some order that respects time, explain every answer."""
    known = [call for call in calls if call.ended != NEVER]
    unknown = [call for call in calls if call.ended == NEVER]
    return any(
        _respects_time(order) and _explains(model, order)
        for count in range(len(unknown) + 1)
        for some in itertools.combinations(unknown, count)
        for order in itertools.permutations([*known, *some])
    )


def _respects_time(order: tuple[Call, ...]) -> bool:
    return all(
        not later.ended < earlier.began for earlier, later in itertools.combinations(order, 2)
    )


def _explains(model: Model, order: tuple[Call, ...]) -> bool:
    state = model.initial
    for call in order:
        fits, state = model.step(state, call.input, call.output)
        if not fits:
            return False
    return True


VALUES = st.sampled_from(["a", "b", "c"])


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    calls = []
    for _ in range(draw(st.integers(0, 6))):
        began = draw(st.integers(0, 8))
        ended = draw(st.one_of(st.just(NEVER), st.integers(began, 10)))
        kind = draw(st.sampled_from(["read", "write", "cas"]))
        if kind == "read":
            calls.append(read(began, ended, draw(st.one_of(st.none(), VALUES))))
        elif kind == "write":
            calls.append(write(began, ended, draw(VALUES)))
        else:
            asked = ("cas", [draw(st.one_of(st.none(), VALUES)), draw(VALUES)])
            swapped = draw(st.booleans())
            returned = [swapped, asked[1][1] if swapped else draw(st.one_of(st.none(), VALUES))]
            calls.append(Call(began, ended, asked, None if ended == NEVER else returned))
    return [call for call in calls if call.input[0] != "read" or call.ended != NEVER]


@settings(max_examples=300)
@given(histories())
def test_the_verdict_is_that_of_the_definition(calls: list[Call]) -> None:
    legal = check(REGISTER, calls).verdict is SearchVerdict.OK
    assert legal == by_definition(REGISTER, calls)


def test_a_stale_read_is_refused_and_named() -> None:
    stale = read(4, 5, "a")
    judgement = check(REGISTER, [write(0, 1, "a"), write(2, 3, "b"), stale])
    assert judgement.verdict is SearchVerdict.ILLEGAL
    assert stale in judgement.stuck


def test_concurrent_calls_may_take_effect_in_any_order() -> None:
    calls = [write(0, 9, "a"), write(0, 9, "b"), read(2, 3, "b"), read(4, 5, "a")]
    assert check(REGISTER, calls).verdict is SearchVerdict.OK


def test_a_write_of_unknown_outcome_may_take_effect_late_or_never_but_once() -> None:
    lost = Call(0, NEVER, ("write", "a"))
    assert check(REGISTER, [lost, read(1, 2, None)]).verdict is SearchVerdict.OK
    assert check(REGISTER, [lost, read(1, 2, None), read(7, 8, "a")]).verdict is SearchVerdict.OK
    twice = [lost, read(1, 2, "a"), write(3, 4, "b"), read(5, 6, "b"), read(7, 8, "a")]
    assert check(REGISTER, twice).verdict is SearchVerdict.ILLEGAL


def test_a_search_that_is_given_up_is_no_pass() -> None:
    calls = [write(0, 9, f"v{number}") for number in range(12)] + [read(10, 11, "unwritten")]
    assert check(REGISTER, calls, steps_max=1_000).verdict is SearchVerdict.UNKNOWN

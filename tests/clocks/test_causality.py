"""Clocks in random executions whose causal order is known from their messages."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from raftkv.clocks import (
    HybridClock,
    HybridTime,
    LamportClock,
    LamportTime,
    Order,
    VectorClock,
    VectorTime,
)

PLACES = ("a", "b", "c")
SKEW_MS = 40  # what two wall clocks may be apart


@dataclass(frozen=True)
class Event:
    """One event of an execution: its times, and every event that could have influenced it."""

    place: str
    causes: frozenset[int]
    lamport: LamportTime
    vector: VectorTime
    hybrid: HybridTime
    wall_ms: int


class Execution:
    """Places with all three clocks; each step is an event, a send, or the receipt of a send."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._true_ms = 1000
        self._skew_ms = dict.fromkeys(PLACES, 0)
        self._latest: dict[str, int | None] = dict.fromkeys(PLACES)
        self._lamport = {place: LamportClock() for place in PLACES}
        self._vector = {place: VectorClock(place) for place in PLACES}
        self._hybrid = {
            place: HybridClock(
                wall_ms=lambda place=place: self._wall_ms(place), drift_ms_max=SKEW_MS
            )  # type: ignore[misc]
            for place in PLACES
        }

    def step(self, place: str, passed_ms: int, skew_ms: int, message: int | None) -> None:
        """An event at the process: the arrival of what event `message` sent, if that is given."""
        self._true_ms += passed_ms
        self._skew_ms[place] = skew_ms
        before = [event for event in (self._latest[place], message) if event is not None]
        causes = frozenset(before).union(*(self.events[event].causes for event in before))
        lamport, vector, hybrid = self._lamport[place], self._vector[place], self._hybrid[place]
        if message is None:
            times = lamport.tick(), vector.tick(), hybrid.tick()
        else:
            sent = self.events[message]
            times = (
                lamport.receive(sent.lamport),
                vector.receive(sent.vector),
                hybrid.receive(sent.hybrid),
            )
        self._latest[place] = len(self.events)
        self.events.append(Event(place, causes, *times, self._wall_ms(place)))

    def happened_before(self, first: int, second: int) -> bool:
        """The truth."""
        return first in self.events[second].causes

    def pairs(self) -> list[tuple[int, int]]:
        numbers = range(len(self.events))
        return [(one, other) for one in numbers for other in numbers if one != other]

    def _wall_ms(self, place: str) -> int:
        return self._true_ms + self._skew_ms[place]


@st.composite
def executions(draw: st.DrawFn) -> Execution:
    execution = Execution()
    skews = st.integers(0, SKEW_MS)
    for number in range(draw(st.integers(1, 14))):
        message = draw(st.none() | st.integers(0, number - 1)) if number else None
        execution.step(
            draw(st.sampled_from(PLACES)),
            draw(st.sampled_from([0, 0, 1, 50])),
            draw(skews),
            message,
        )
    return execution


@given(executions())
def test_vectors_decide_exactly_which_event_happened_before_which(execution: Execution) -> None:
    for one, other in execution.pairs():
        a, b = execution.events[one].vector, execution.events[other].vector
        if execution.happened_before(one, other):
            assert a.compare(b) is Order.BEFORE
        elif execution.happened_before(other, one):
            assert a.compare(b) is Order.AFTER
        else:
            assert a.compare(b) is Order.CONCURRENT


@given(executions())
def test_lamport_and_hybrid_times_never_contradict_causality(execution: Execution) -> None:
    for one, other in execution.pairs():
        if execution.happened_before(one, other):
            assert execution.events[one].lamport < execution.events[other].lamport
            assert execution.events[one].hybrid < execution.events[other].hybrid


@given(executions())
def test_hybrid_times_are_at_or_after_the_wall_clock_by_no_more_than_clocks_differ(
    execution: Execution,
) -> None:
    for event in execution.events:
        assert 0 <= event.hybrid.physical_ms - event.wall_ms <= SKEW_MS
        # As many events share a millisecond as there are causes, at most.
        assert event.hybrid.logical <= len(event.causes)


@given(executions(), st.sampled_from(PLACES))
def test_retiring_a_member_keeps_the_order_between_the_others(
    execution: Execution, gone: str
) -> None:
    for one, other in execution.pairs():
        a, b = execution.events[one], execution.events[other]
        if gone not in (a.place, b.place):
            shrunk = a.vector.without_member(gone), b.vector.without_member(gone)
            assert shrunk[0].compare(shrunk[1]) is a.vector.compare(b.vector)

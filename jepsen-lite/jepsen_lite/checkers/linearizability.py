"""Is there an order of the operations that explains what everybody saw? (Wing & Gong, Lowe)

The search of porcupine: go through the history, take any operation that may come next, undo when
nothing fits. A pair of (operations taken, state) is tried once. A history is linearizable if those
of its keys are, so each key is searched alone.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

NEVER = float("inf")


class Verdict(enum.Enum):
    """UNKNOWN: the search was given up; it is never a pass."""

    OK = "ok"
    ILLEGAL = "illegal"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation. `ended` NEVER: its outcome is unknown, and it may take effect at any time
    from its start on, or not at all.
    """

    began: float
    ended: float
    input: Any
    output: Any = None


@dataclass(frozen=True, slots=True)
class Model:
    """A specification as pure functions; states are hashable.

    `step` gives whether the output is right in this state, and the state afterwards. Of a call
    without an end the output is None and means nothing.
    """

    initial: Hashable
    step: Callable[[Any, Any, Any], tuple[bool, Any]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """`stuck` are the calls of the longest order found and of those that would not fit after it."""

    verdict: Verdict
    longest: tuple[Call, ...] = ()
    stuck: tuple[Call, ...] = ()


class _Node:
    """A place in the doubly linked list of beginnings and ends, in the order of time."""

    __slots__ = ("after", "before", "call", "end", "number")

    def __init__(self, number: int, call: Call, end: _Node | None) -> None:
        self.number = number
        self.call = call
        self.end = end  # of a beginning; None marks an end
        self.before: _Node | None = None
        self.after: _Node | None = None


def check(model: Model, calls: Sequence[Call], steps_max: int = 2_000_000) -> Judgement:
    """Judge the calls on one key."""
    head = _linked(calls)
    # What nobody saw the end of need not have happened; all others must.
    required = sum(1 << number for number, call in enumerate(calls) if call.ended != NEVER)
    state, taken = model.initial, 0
    tried: set[tuple[int, Any]] = {(0, state)}
    undo: list[tuple[_Node, Any]] = []
    longest: tuple[Call, ...] = ()
    node = head.after
    for _ in range(steps_max):
        if taken & required == required:
            return Judgement(Verdict.OK)
        if node is not None and node.end is not None:
            fits, next_state = model.step(state, node.call.input, node.call.output)
            name = (taken | 1 << node.number, next_state)
            if fits and name not in tried:
                tried.add(name)
                undo.append((node, state))
                state, taken = next_state, name[0]
                _lift(node)
                node = head.after
            else:
                node = node.after
            continue
        # An end: its call should have been taken before. Undo the last one, try what follows it.
        if len(undo) >= len(longest):
            longest = tuple(each.call for each, _ in undo)
            stuck = _open_calls(head)
        if not undo:
            return Judgement(Verdict.ILLEGAL, longest, stuck)
        node, state = undo.pop()
        taken &= ~(1 << node.number)
        _unlift(node)
        node = node.after
    return Judgement(Verdict.UNKNOWN, longest)


def _linked(calls: Sequence[Call]) -> _Node:
    places: list[tuple[float, int, int, _Node]] = []
    for number, call in enumerate(calls):
        end = _Node(number, call, None)
        places.append((call.began, 0, number, _Node(number, call, end)))
        # At the same instant a beginning comes first: the two calls overlap.
        places.append((call.ended, 1, number, end))
    head = last = _Node(-1, Call(0, 0, None), None)
    for *_, node in sorted(places, key=lambda place: place[:3]):
        last.after, node.before = node, last
        last = node
    return head


def _lift(node: _Node) -> None:
    for each in (node, node.end):
        if each is not None:
            if each.before is not None:
                each.before.after = each.after
            if each.after is not None:
                each.after.before = each.before


def _unlift(node: _Node) -> None:
    for each in (node.end, node):
        if each is not None:
            if each.after is not None:
                each.after.before = each
            if each.before is not None:
                each.before.after = each


def _open_calls(head: _Node) -> tuple[Call, ...]:
    """The calls that could have come next."""
    found: list[Call] = []
    node = head.after
    while node is not None and node.end is not None:
        found.append(node.call)
        node = node.after
    return tuple(found)

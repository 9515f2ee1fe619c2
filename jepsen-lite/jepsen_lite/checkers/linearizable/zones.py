"""An order of one register's calls found without a search, where each value has one writer.

A value that one call writes never returns, so in every order the calls of a value stand together:
its writer, then those that saw it (a cluster, by Gibbons and Korach). A successful swap makes the
cluster of what it expected and its own one neighbours (a chain). The zone of a chain is the time
between the first end and the last beginning among its calls. If the first end comes first, the
chain occupies the whole zone in every order, so no two such zones overlap. Otherwise all calls of
the chain overlap, and any moment between the two serves.

The order that follows from the zones is compared with the times of all calls and with the versions.
So an order that is returned is right whatever the reasoning above is worth. Where none is found,
the calls that stand in its way are named, and the search decides whether they are illegal.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jepsen_lite.checkers.linearizable.register_model import version_returned
from jepsen_lite.checkers.linearizable.search import NEVER
from jepsen_lite.history import Kind, Operation

_BEFORE_ALL = float("-inf")
_NO_CALL = -1
_Chain = list[Any]


@dataclass(frozen=True, slots=True)
class ZoneVerdict:
    """`legal`: an order explains all calls. Otherwise `suspects` are the places of calls that
    probably contradict each other; none if this method says nothing about the history.
    """

    legal: bool
    suspects: frozenset[int] = frozenset()


def judge(operations: Sequence[Operation], versioned: bool) -> ZoneVerdict:
    """Judge all calls on one key; see `register.check` for what they look like."""
    calls = _CallsByValue(operations)
    if not calls.sort_in():
        return ZoneVerdict(False)
    if calls.suspects:
        return ZoneVerdict(False, frozenset(calls.suspects))
    chains = calls.chains()
    ordered = None
    if chains is not None:
        ordered = calls.by_version(chains) if versioned else calls.by_zone(chains)
    return ZoneVerdict(
        ordered is not None and calls.respect_time(ordered), frozenset(calls.suspects)
    )


class _Zone(NamedTuple):
    """The zone of a chain; `decisive` are the calls that end first and begin last."""

    first_end: float
    last_began: float
    decisive: tuple[int, int]
    chain: _Chain


class _CallsByValue:
    """The calls on one key, by the value that they wrote or saw. A call is its place."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.suspects: list[int] = []
        self._operations = operations
        self._began: list[int] = []
        self._ended: list[float] = []
        self._writer: dict[Any, int] = {}
        self._observers: dict[Any, list[int]] = {}
        # By the new value of each swap that took effect.
        self._expected: dict[Any, Any] = {}

    def sort_in(self) -> bool:
        """Returns False if a value has two writers, or one that is not known."""
        began, ended, observers = self._began, self._ended, self._observers
        writer, expected = self._writer, self._expected
        unanswered: dict[Any, int] = {}
        unanswered_calls = 0
        for place, each in enumerate(self._operations):
            invocation, completion = each.invocation, each.completion
            kind = Kind.INFO if completion is None else completion.kind
            function, value = invocation.function, invocation.value
            began.append(invocation.time_ns)
            if completion is None or kind is not Kind.OK:
                ended.append(NEVER)
                if kind is Kind.INFO and function != "read":
                    unanswered[value[1] if function == "cas" else value] = place
                    unanswered_calls += 1
                continue
            ended.append(completion.time_ns)
            if function == "write":
                if value in writer:
                    return False
                writer[value] = place
                continue
            if function == "read":
                seen = completion.value[0]
            elif completion.value[0]:
                if value[1] in writer:
                    return False
                writer[value[1]] = place
                expected[value[1]] = value[0]
                continue
            else:
                seen = completion.value[1]
                if seen == value[0]:
                    self.suspects.append(place)
            if seen in observers:
                observers[seen].append(place)
            else:
                observers[seen] = [place]
        if len(unanswered) < unanswered_calls or not writer.keys().isdisjoint(unanswered):
            return False
        if None in writer or None in unanswered:
            return False
        self._add_seen(unanswered)
        return True

    def _add_seen(self, unanswered: dict[Any, int]) -> None:
        """A call without an answer took effect if its value was seen; else it may be left out."""
        seen = [*self._observers, *self._expected.values()] if unanswered else []
        while seen:
            value = seen.pop()
            place = unanswered.pop(value, None)
            if place is not None:
                self._writer[value] = place
                invocation = self._operations[place].invocation
                if invocation.function == "cas":
                    self._expected[value] = invocation.value[0]
                    seen.append(invocation.value[0])

    def chains(self) -> list[_Chain] | None:
        """All values. None: a value was swapped twice, or was never written."""
        swapped_for: dict[Any, Any] = {}
        for new, old in self._expected.items():
            if old in swapped_for:
                self.suspects += [self._writer[new], self._writer[swapped_for[old]]]
                return None
            swapped_for[old] = new
            if old is not None and old not in self._writer:
                self.suspects.append(self._writer[new])
                return None
        for value, places in self._observers.items():
            if value is not None and value not in self._writer:
                self.suspects.append(places[0])
                return None
        found: list[_Chain] = []
        count = 0
        for value in (None, *self._writer):
            if value not in self._expected:
                chain = [value]
                while chain[-1] in swapped_for:
                    chain.append(swapped_for[chain[-1]])
                count += len(chain)
                found.append(chain)
        # What is missing now are swaps in a circle.
        return found if count == 1 + len(self._writer) else None

    def _ordered(self, value: Any) -> Sequence[int]:
        """The calls of a cluster."""
        observers = self._observers.get(value, [])
        if value is None:
            return observers
        return (self._writer[value], *observers) if observers else (self._writer[value],)

    def by_zone(self, chains: Sequence[_Chain]) -> list[_Chain] | None:
        """The chains in the order of their zones; without one, `suspects` says why."""
        occupied: list[_Zone] = []
        free: list[_Zone] = []
        for chain in chains:
            zone = self._zone(chain)
            (occupied if zone.first_end < zone.last_began else free).append(zone)
        occupied.sort(key=lambda zone: zone.first_end)
        for at in range(1, len(occupied)):
            if occupied[at].first_end < occupied[at - 1].last_began:
                self._suspect(*occupied[at - 1].decisive, *occupied[at].decisive)
                return None
        return self._merged(occupied, free)

    def _zone(self, chain: _Chain) -> _Zone:
        began, ended = self._began, self._ended
        first_end, last_began = NEVER, _BEFORE_ALL
        of_end = of_began = _NO_CALL
        for value in chain:
            if value is None:
                first_end = _BEFORE_ALL
            for place in self._ordered(value):
                if ended[place] < first_end:
                    first_end, of_end = ended[place], place
                if began[place] > last_began:
                    last_began, of_began = began[place], place
        return _Zone(first_end, last_began, (of_end, of_began), chain)

    def _merged(self, occupied: Sequence[_Zone], free: list[_Zone]) -> list[_Chain] | None:
        """A free chain takes its last beginning, or the end of the zone that occupies it."""
        free.sort(key=lambda zone: zone.last_began)
        merged = [(zone.first_end, True, zone.chain) for zone in occupied]
        there = 0
        for zone in free:
            moment = zone.last_began
            while there < len(occupied) and occupied[there].last_began <= moment:
                there += 1
            if there < len(occupied) and occupied[there].first_end < moment:
                moment = occupied[there].last_began
                if moment > zone.first_end:
                    self._suspect(*occupied[there].decisive, *zone.decisive)
                    return None
            merged.append((moment, False, zone.chain))
        merged.sort(key=lambda place: place[:2])
        return [chain for _, _, chain in merged]

    def _suspect(self, *places: int) -> None:
        self.suspects += [place for place in places if place != _NO_CALL]

    def by_version(self, chains: Sequence[_Chain]) -> list[_Chain] | None:
        """The chains in the order of their versions; without one, `suspects` says why."""
        # By value: its version, and a call that shows it.
        known: dict[Any, tuple[int, int]] = {None: (0, _NO_CALL)}
        for value in (None, *self._writer):
            for place in self._ordered(value):
                each = self._operations[place]
                if each.kind is not Kind.OK or each.completion is None:
                    continue
                asked = (each.invocation.function, each.invocation.value)
                version = version_returned(asked, each.completion.value)
                if version is None:
                    return None
                other, shown_by = known.setdefault(value, (version, place))
                if other != version:
                    self._suspect(shown_by, place)
                    return None
        versioned = [[value for value in chain if value in known] for chain in chains]
        if not all(versioned):
            return None
        order = sorted(range(len(chains)), key=lambda at: known[versioned[at][0]][0])
        in_order = [known[value] for at in order for value in versioned[at]]
        for (version, place), (later, after) in itertools.pairwise(in_order):
            if later <= version:
                self._suspect(place, after)
                return None
        return [chains[at] for at in order]

    def respect_time(self, chains: Sequence[_Chain]) -> bool:
        """Whether no call in this order was over before an earlier one began."""
        began, ended = self._began, self._ended
        last_began, of_last = _BEFORE_ALL, _NO_CALL
        for chain in chains:
            for value in chain:
                if value in self._observers:
                    self._observers[value].sort(key=began.__getitem__)
                for place in self._ordered(value):
                    if ended[place] < last_began:
                        self.suspects += [of_last, place]
                        return False
                    if began[place] > last_began:
                        last_began, of_last = began[place], place
        return True

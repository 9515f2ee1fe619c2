"""A command under an idempotency key runs once until the key expires, whoever sends it.

Expects operations of one workload with
- "put": key both the idempotency key and the key that is put, value [value, ttl_ns], ttl_ns the
  same for all with that key; returns [revision, the value before], or "reused" if the store has
  refused it because the key belongs to another command;
- "versions" (after everything is healed): returns {key: [[version, value, revision], ...]}, of each
  key the last version first, up to the first one unless it was compacted.
An execution is a version of the key.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from jepsen_lite.checkers.lease import ClusterTime
from jepsen_lite.history import (
    Operation,
    answered,
    asked,
    before,
    began_ns,
    ended_ns,
    returned,
)
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "idempotency"
REUSED = "reused"


def check(
    operations: Sequence[Operation], time: ClusterTime, late_ns: int, drift: float = 0.0
) -> Finding:
    """`late_ns` and `drift` are those of `checkers.lease`: a key expires by cluster time."""
    puts = [each for each in operations if each.invocation.function == "put"]
    done = [each for each in answered(puts, "put") if returned(each) != REUSED]
    reads = list(answered(operations, "versions"))
    refused = [each for each in answered(puts, "put") if returned(each) == REUSED]
    statistics: dict[str, Any] = {
        "requests": len(puts),
        "answered": len(done),
        "executions": len({returned(each)[0] for each in done}),
        "refused": len(refused),
    }
    if not reads:
        return unknown(_NAME, "the versions of the keys were never read", statistics)
    read, bounds = reads[-1], _Bounds(puts, done)
    problems: list[Problem] = []
    for key, of_key in _by_key(puts).items():
        versions = returned(read).get(key, [])
        problems += _misreported(of_key, versions, read)
        problems += _run_again(of_key, versions, bounds, drift, read)
        problems += _remembered_too_long(of_key, bounds, time, late_ns, drift)
    return finding(_NAME, problems, statistics)


def _by_key(puts: Sequence[Operation]) -> dict[str, list[Operation]]:
    found: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in puts:
        found[each.invocation.key].append(each)
    return found


def _value(put: Operation) -> Any:
    return put.invocation.value[0]


def _done(puts: Sequence[Operation]) -> list[Operation]:
    return [each for each in answered(puts, "put") if returned(each) != REUSED]


class _Bounds:
    """Between which moments each revision was reached.

    It was reached after the first request for what it holds began, and after every lower revision;
    and before any answer with it, or with a higher one, arrived.
    """

    def __init__(self, puts: Sequence[Operation], done: Sequence[Operation]) -> None:
        first: dict[tuple[str, Any], int] = {}
        for each in asked(puts, "put"):
            name = each.invocation.key, _value(each)
            first[name] = min(first.get(name, began_ns(each)), began_ns(each))
        self._first = first
        ordered = sorted(done, key=lambda each: int(returned(each)[0]))
        self._after: dict[int, float] = {}
        for each in ordered:
            revision = returned(each)[0]
            own = first[each.invocation.key, _value(each)]
            self._after[revision] = max(self._after.get(revision, own), own)
        self._before: dict[int, float] = {}
        latest = float("inf")
        for each in reversed(ordered):
            latest = min(latest, ended_ns(each))
            self._before[returned(each)[0]] = latest
        highest = 0.0
        for revision in sorted(self._after):
            highest = self._after[revision] = max(highest, self._after[revision])

    def earliest_ns(self, revision: int, key: str, value: Any) -> float:
        own = self._first.get((key, value), 0)
        below = [each for each in self._after if each <= revision]
        return max(own, self._after[max(below)]) if below else own

    def latest_ns(self, revision: int) -> float:
        above = [each for each in self._before if each >= revision]
        return self._before[min(above)] if above else float("inf")


def _misreported(
    puts: Sequence[Operation], versions: Sequence[Sequence[Any]], read: Operation
) -> Iterator[Problem]:
    """Where the versions of the key contradict the answers and refusals."""
    held = {revision: value for _, value, revision in versions}
    previous = {later[2]: earlier[1] for later, earlier in itertools.pairwise(versions)}
    complete = not versions or versions[-1][0] == 1
    if versions and complete:
        previous[versions[-1][2]] = None
    possible = {_value(each) for each in asked(puts, "put") if returned(each) != REUSED}
    for value in held.values():
        if value not in possible:
            yield problem(f"{puts[0].invocation.key}: {value} ran, but no request for it did", read)
    for each in _done(puts):
        revision, before_it = returned(each)
        answers = f"{each.invocation.key}: {who(each)}'s request for {_value(each)} returned"
        if (revision in held or (complete and before(each, read))) and held.get(revision) != _value(
            each
        ):
            text = f"{answers} revision {revision}, which holds {held.get(revision, 'no version')}"
            yield problem(text, each, read)
        elif previous.get(revision, before_it) != before_it:
            text = f"{answers} {before_it} as the value before, where {previous[revision]} was"
            yield problem(text, each, read)
    for each in answered(puts, "put"):
        if returned(each) == REUSED and not any(
            _value(other) != _value(each) and began_ns(other) < ended_ns(each)
            for other in asked(puts, "put")
        ):
            text = f"{each.invocation.key}: {who(each)}'s request for {_value(each)} was refused"
            yield problem(f"{text}, though the key was never used for another one", each)


def _run_again(
    puts: Sequence[Operation],
    versions: Sequence[Sequence[Any]],
    bounds: _Bounds,
    drift: float,
    read: Operation,
) -> Iterator[Problem]:
    """Two executions under one key must be a lifetime of the key apart."""
    key, ttl_ns = puts[0].invocation.key, puts[0].invocation.value[1]
    ran = {revision: value for _, value, revision in versions}
    ran |= {returned(each)[0]: _value(each) for each in _done(puts)}
    for first, second in itertools.pairwise(sorted(ran)):
        apart_ns = bounds.latest_ns(second) - bounds.earliest_ns(first, key, ran[first])
        if apart_ns < ttl_ns * (1 - drift):
            text = (
                f"{key}: {ran[first]} ran at revision {first}, and {ran[second]} at revision"
                f" {second}, at most {apart_ns / 1e6:.3f} ms later, but the key is kept for"
                f" {ttl_ns / 1e6:.0f} ms"
            )
            yield problem(text, *puts, read)


def _remembered_too_long(
    puts: Sequence[Operation],
    bounds: _Bounds,
    time: ClusterTime,
    late_ns: int,
    drift: float,
) -> Iterator[Problem]:
    """A key that has expired is unknown."""
    allowed_ns = puts[0].invocation.value[1] * (1 + drift) + late_ns
    for each in _done(puts):
        revision = returned(each)[0]
        late_by_ns = time.passed_ns(bounds.latest_ns(revision), began_ns(each)) - allowed_ns
        if late_by_ns > 0:
            text = (
                f"{each.invocation.key}: {who(each)}'s request {at(began_ns(each))} returned"
                f" revision {revision}, {late_by_ns / 1e6:.3f} ms of cluster time after the key had"
                " to be forgotten"
            )
            yield problem(text, each)

"""Keys that are attached to leases are there until their lease ends, and go with it, all at once.

Expects operations of one workload with
- "grant": key the lease's name, each granted once, value {"ttl_ns": int}; returns {"lease": id};
- "renew", "revoke": key the lease's name;
- "put": value [value, the lease's name or null], each value put once; returns its revision;
- each of these three returns "ended" if the store has refused it because the lease is over;
- "look": returns [revision, [[key, value, mod_revision, lease id], ...]], all keys at one revision.
Nothing deletes a key but the end of its lease. A put without a lease detaches the key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from jepsen_lite.checkers import lease
from jepsen_lite.checkers.lease import ClusterTime
from jepsen_lite.history import Kind, Operation, answered, before, began_ns, ended_ns, returned
from jepsen_lite.verdicts import Finding, Problem, at, finding, problem, unknown, who

_NAME = "leased-keys"
ENDED = "ended"
REMOVED_WITHIN_NS = 5_000_000_000
"""Of cluster time: so long after the end of a lease all of its keys are deleted."""


def check(
    operations: Sequence[Operation], time: ClusterTime, late_ns: int, drift: float = 0.0
) -> Finding:
    """`late_ns` and `drift` are those of `checkers.lease`."""
    looks = sorted(answered(operations, "look"), key=lambda look: int(returned(look)[0]))
    found = _Leases(operations)
    missing = {id(look): found.missing(look) for look in looks}
    statistics: dict[str, Any] = {
        "leases": len(found.ids),
        "looks": len(looks),
        "missing": sum(len(keys) for each in missing.values() for keys in each.values()),
    }
    if not looks:
        return unknown(_NAME, "the keys were never read", statistics)
    problems: list[Problem] = []
    gone: dict[str, Operation] = {}
    alive: list[Operation] = []
    over = [
        _as_look(each, _lease_of(each), False)
        for each in answered(operations, "put", "renew", "revoke")
        if returned(each) == ENDED
    ]
    calls = [
        each
        for each in operations
        if each.invocation.function in ("grant", "renew", "revoke") and returned(each) != ENDED
    ]
    for look in looks:
        problems += found.untrue(look)
        shown = found.shown(look)
        for name, keys in missing[id(look)].items():
            if not name:
                text = f"{who(look)} {at(began_ns(look))} misses {keys}, which have no lease"
                problems.append(problem(text, look))
                continue
            gone.setdefault(name, look)
            over.append(_as_look(look, name, False))
            if name in shown:
                text = f"{name}: {keys} are gone with it, and {shown[name]} are still there at"
                problems.append(problem(f"{text} revision {returned(look)[0]}", look))
        for name, keys in shown.items():
            alive.append(_as_look(look, name, True))
            if name in gone and gone[name] is not look:
                text = f"{name}: {keys} are there {at(began_ns(look))}, after keys went with it"
                problems.append(problem(text, gone[name], look))
            revoked = [each for each in answered(calls, "revoke") if each.invocation.key == name]
            if any(before(each, look) for each in revoked):
                text = f"{name}: {keys} are there {at(began_ns(look))}, after it was revoked"
                problems.append(problem(text, *revoked, look))
    problems += lease.problems_of([*calls, *over], time, late_ns, drift)
    late_ns += REMOVED_WITHIN_NS
    problems += lease.problems_of([*calls, *alive], time, late_ns, drift)
    return finding(_NAME, problems, statistics)


def _lease_of(call: Operation) -> str:
    """The name of the lease that a put, a renewal or a revocation names."""
    is_put = call.invocation.function == "put"
    name: str = call.invocation.value[1] if is_put else call.invocation.key
    return name


def _as_look(operation: Operation, name: str, lives: bool) -> Operation:
    """What the operation says of the lease, as an operation of `checkers.lease`."""
    assert operation.completion is not None
    return replace(
        operation,
        invocation=replace(operation.invocation, function="look", key=name),
        completion=replace(operation.completion, function="look", key=name, value=lives),
    )


class _Leases:
    """Which lease each key was attached to, by the puts of the key."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.ids: dict[str, int] = {
            each.invocation.key: returned(each)["lease"] for each in answered(operations, "grant")
        }
        self._names = {number: name for name, number in self.ids.items()}
        self._puts = {
            (each.invocation.key, each.invocation.value[0]): each
            for each in operations
            if each.invocation.function == "put"
        }
        self._revisions: dict[tuple[str, str], int] = {
            name: returned(each)
            for name, each in self._puts.items()
            if each.kind is Kind.OK and returned(each) != ENDED
        }
        for look in answered(operations, "look"):
            for key, value, mod_revision, _ in returned(look)[1]:
                self._revisions.setdefault((key, value), mod_revision)
        self._by_key: defaultdict[str, list[tuple[int, Operation]]] = defaultdict(list)
        for name, revision in self._revisions.items():
            if name in self._puts:
                self._by_key[name[0]].append((revision, self._puts[name]))
        self._open: defaultdict[str, list[Operation]] = defaultdict(list)
        """The puts of each key of which it is not known whether and when they took effect."""
        for name, each in self._puts.items():
            if name not in self._revisions and each.kind is Kind.INFO:
                self._open[name[0]].append(each)

    def shown(self, look: Operation) -> dict[str, list[str]]:
        """The keys that are there by the name of their lease."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for key, _, _, number in returned(look)[1]:
            if number in self._names:
                found[self._names[number]].append(key)
        return found

    def missing(self, look: Operation) -> dict[str, list[str]]:
        """The keys that are gone, by the name of the lease that they went with; "": without one.

        A key that another put may have moved meanwhile, unnoticed, is left out.
        """
        revision, rows = returned(look)
        there = {row[0] for row in rows}
        found: defaultdict[str, list[str]] = defaultdict(list)
        for key, puts in self._by_key.items():
            known = [each for each in puts if each[0] <= revision]
            if key in there or not known:
                continue
            if any(began_ns(each) < ended_ns(look) for each in self._open[key]):
                continue
            _, last = max(known, key=lambda each: each[0])
            found[last.invocation.value[1] or ""].append(key)
        return found

    def untrue(self, look: Operation) -> Iterator[Problem]:
        """Rows that no put has left so, or that a later one has replaced."""
        revision, rows = returned(look)
        for key, value, mod_revision, number in rows:
            put = self._puts.get((key, value))
            shows = f"{key}: {who(look)} {at(began_ns(look))} shows {value}"
            if put is None or put.kind is Kind.FAIL or returned(put) == ENDED:
                yield problem(f"{shows}, which was never put", look)
                continue
            name = put.invocation.value[1]
            if number != (0 if name is None else self.ids.get(name, 0)):
                yield problem(f"{shows} on lease {number}, and it was put on {name}", put, look)
            if self._revisions[key, value] != mod_revision:
                text = f"{shows} at revision {mod_revision}, not {self._revisions[key, value]}"
                yield problem(text, put, look)
            for other, later in self._by_key[key]:
                if mod_revision < other <= revision:
                    text = f"{shows} at revision {revision}, though it was replaced at {other}"
                    yield problem(text, later, look)

"""Transactions on registers must be strictly serializable (in the manner of Elle).

Expects operations of one workload with
- "txn": value a list of micro-operations ["w", key, value] and ["r", key, null]; returns the same
  list with each null replaced by what was read; null then says that the key was never written.
A value is written to a key once in the whole run, so a read names the write that it saw. Unlike a
list, it does not show the writes before; see `versions.py` for what is known of their order.

Finds, without an order: internal inconsistency (a transaction contradicts itself), G1a (read of a
failed write), G1b (read of a value that its own transaction overwrote), phantoms and lost updates.
Finds by cycles: G0, G1c, G-single and G2-item, each also with the order of processes and of real
time. What is found only because versions are ordered by real time has `-realtime` in its name. At
last it finds cyclic versions: the times of reads contradict each other.

A transaction of unknown outcome took effect if any of its writes was read, at an unknown moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jepsen_lite.checkers.elle import cycles
from jepsen_lite.checkers.elle.dependencies import (
    Because,
    Dependencies,
    Detail,
    add_time,
    micro_operations,
)
from jepsen_lite.checkers.elle.versions import Access, Versions
from jepsen_lite.history import Kind, Operation, answered
from jepsen_lite.verdicts import Finding, Problem, finding, problem, unknown, who

_NAME = "rw-register"
_REALTIME = "-realtime"


def check(operations: Sequence[Operation]) -> Finding:
    """Judge all transactions together."""
    transactions = [each for each in operations if each.invocation.function == "txn"]
    statistics: dict[str, Any] = {
        "transactions": len(transactions),
        "acknowledged": sum(1 for _ in answered(transactions, "txn")),
    }
    if not statistics["acknowledged"]:
        return unknown(_NAME, "no transaction was acknowledged", statistics)
    registers = _Registers(transactions)
    problems = registers.contradictions()
    problems += registers.cycles()
    if not problems:
        problems = registers.cyclic_versions()
    statistics["anomalies"] = sorted({each.text.split(":")[0] for each in problems})
    return finding(_NAME, problems, statistics)


class _RegisterDependencies(Dependencies):
    """The edges between transactions on registers."""

    def __init__(self, transactions: Sequence[Operation], versions: Versions) -> None:
        super().__init__(transactions)
        self._versions = versions

    def explain_data(self, first: str, second: str, because: Because, detail: Detail) -> str:
        key, old, new = detail
        if because is Because.WR:
            return f"{first} wrote {old} to {key} before {second} read it, because it saw {old}"
        why = self._versions.why(key, old, new)
        if because is Because.WW:
            return f"{first} wrote {old} to {key} before {second} wrote {new} to it, because {why}"
        saw = f"{key} as never written" if old is None else f"{old} in {key}"
        return f"{first} read {saw} before {second} wrote {new} to it, because {why}"


@dataclass(slots=True)
class _Registers:
    """What the transactions wrote and saw; `happened` are those that did not fail."""

    transactions: Sequence[Operation]
    happened: list[Operation] = field(default_factory=list)
    writers: dict[tuple[str, Any], int] = field(default_factory=dict)
    accesses: list[Access] = field(default_factory=list)

    def __post_init__(self) -> None:
        # One of unknown outcome whose writes were never seen precedes nothing, so it does no harm.
        self.happened += [each for each in self.transactions if each.kind is not Kind.FAIL]
        for number, each in enumerate(self.happened):
            self._access(number, each)

    def _access(self, number: int, transaction: Operation) -> None:
        """What the transaction saw of each key from outside, and what it wrote, in order."""
        of_key: dict[str, Access] = {}
        for function, key, value in micro_operations(transaction):
            access = of_key.setdefault(key, Access(number, key))
            if function == "w":
                access.written.append(value)
                self.writers[key, value] = number
            elif transaction.kind is Kind.OK and not access.written and not access.has_read:
                access.has_read, access.seen = True, value
        self.accesses += of_key.values()

    def contradictions(self) -> list[Problem]:
        """What is wrong before any order is asked for."""
        failed = {
            (key, value): each
            for each in self.transactions
            if each.kind is Kind.FAIL
            for function, key, value in each.invocation.value
            if function == "w"
        }
        last = {(each.transaction, each.key): each.written[-1:] for each in self.accesses}
        problems = [
            found
            for each in self.happened
            if each.kind is Kind.OK
            for found in _contradicting_itself(each)
        ]
        updates: defaultdict[tuple[str, Any], list[Operation]] = defaultdict(list)
        for access in self.accesses:
            reader = self.happened[access.transaction]
            if not access.has_read:
                continue
            if access.written:
                updates[access.key, access.seen].append(reader)
            if access.seen is None:
                continue
            version = (access.key, access.seen)
            begins = f"{who(reader)} read {access.seen} in {access.key}"
            if version in self.writers:
                number = self.writers[version]
                final = last[number, access.key][0]
                if final != access.seen and number != access.transaction:
                    writer = self.happened[number]
                    text = f"G1b: {begins}, in the middle of {who(writer)}'s transaction, which"
                    problems.append(problem(f"{text} also wrote {final}", writer, reader))
            elif version in failed:
                text = f"G1a: {begins}, which {who(failed[version])} wrote in a transaction that"
                problems.append(problem(f"{text} failed", failed[version], reader))
            else:
                problems.append(problem(f"phantom: {begins}, which was never written", reader))
        return problems + [
            problem(
                f"lost update: {' and '.join(who(each) for each in several[:2])} both read"
                f" {'nothing' if value is None else value} in {key} and then wrote to it",
                *several[:2],
            )
            for (key, value), several in updates.items()
            if len(several) > 1
        ]

    def cycles(self) -> list[Problem]:
        """Cycles by what transactions say of the order of versions, then with real time."""
        for by_time in (False, True):
            versions = Versions(self.happened, self.accesses, by_time=by_time)
            found = _RegisterDependencies(self.happened, versions)
            self._add_data(found, versions)
            add_time(found)
            rings = cycles.find(found)
            if rings:
                return [cycles.explained(found, _named(ring, by_time=by_time)) for ring in rings]
        return []

    def _add_data(self, found: Dependencies, versions: Versions) -> None:
        readers: defaultdict[tuple[str, Any], list[int]] = defaultdict(list)
        for access in self.accesses:
            if access.has_read:
                readers[access.key, access.seen].append(access.transaction)
                writer = self.writers.get((access.key, access.seen))
                if writer is not None:
                    detail = (access.key, access.seen, None)
                    found.add(writer, access.transaction, Because.WR, detail)
        for key, old, new in versions.pairs():
            after = self.writers.get((key, new))
            if after is None:
                continue
            before = self.writers.get((key, old))
            if before is not None:
                found.add(before, after, Because.WW, (key, old, new))
            for reader in readers[key, old]:
                found.add(reader, after, Because.RW, (key, old, new))

    def cyclic_versions(self) -> list[Problem]:
        versions = Versions(self.happened, self.accesses, by_time=True)
        return [
            problem(
                f"cyclic versions: {key} had {' before '.join(map(str, ring))} by the times of"
                " those who saw these values, a contradiction",
                *(
                    self.happened[each.transaction]
                    for each in self.accesses
                    if each.key == key and (each.seen in ring or set(each.written) & set(ring))
                ),
            )
            for key, ring in versions.cyclic()
        ]


def _named(ring: cycles.Cycle, *, by_time: bool) -> cycles.Cycle:
    if not by_time or ring.anomaly.endswith(_REALTIME):
        return ring
    return replace(ring, anomaly=ring.anomaly.removesuffix("-process") + _REALTIME)


def _contradicting_itself(transaction: Operation) -> list[Problem]:
    """Within a transaction, a read shows what was read before or written since."""
    known: dict[str, Any] = {}
    own = {
        (key, value) for function, key, value in micro_operations(transaction) if function == "w"
    }
    for function, key, value in micro_operations(transaction):
        if function == "r" and key in known and known[key] != value:
            text = (
                f"internal: {who(transaction)} read {value} in {key}, where its own transaction"
                f" had left {known[key]}"
            )
            return [problem(text, transaction)]
        if function == "r" and key not in known and (key, value) in own:
            text = f"internal: {who(transaction)} read {value} in {key} before it wrote that itself"
            return [problem(text, transaction)]
        known[key] = value
    return []

"""Transactions on lists must be strictly serializable (in the manner of Elle).

Expects operations of one workload with
- "txn": value a list of micro-operations ["append", key, element] and ["r", key, null]; returns the
  same list with each null replaced by what was read: a list, or null of a key never written.
An element is appended to a key once in the whole run. Reads then show the order of all appends.

Finds, without a search for an order: internal inconsistency (a transaction contradicts itself),
G1a (read of a failed append), G1b (read of an unfinished transaction), dirty updates, phantoms,
duplicates, incompatible orders and lost updates. Finds by cycles: G0, G1c, G-single and G2-item,
each also with the order of processes and of real time.

A transaction of unknown outcome took effect if any of its appends was read, at an unknown moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jepsen_lite.checkers.elle import cycles
from jepsen_lite.checkers.elle.dependencies import (
    Dependencies,
    Read,
    add_data,
    add_time,
    micro_operations,
)
from jepsen_lite.history import Kind, Operation, answered
from jepsen_lite.verdicts import Finding, Problem, finding, problem, unknown, who

_NAME = "append"


def check(operations: Sequence[Operation]) -> Finding:
    """Judge all transactions together."""
    transactions = [each for each in operations if each.invocation.function == "txn"]
    happened = [each for each in transactions if each.kind is not Kind.FAIL]
    statistics: dict[str, Any] = {
        "transactions": len(transactions),
        "acknowledged": sum(1 for _ in answered(transactions, "txn")),
    }
    if not statistics["acknowledged"]:
        return unknown(_NAME, "no transaction was acknowledged", statistics)
    seen = _Seen(happened, [each for each in transactions if each.kind is Kind.FAIL])
    problems = seen.judge()
    found = Dependencies(happened)
    add_data(found, seen.orders, seen.compatible, seen.writers)
    add_time(found)
    rings = cycles.find(found)
    problems += [cycles.explained(found, cycle) for cycle in rings]
    statistics["anomalies"] = sorted({each.text.split(":")[0] for each in problems})
    return finding(_NAME, problems, statistics)


@dataclass(slots=True)
class _Seen:
    """What the reads show, and what is wrong with them before any order is asked for."""

    happened: Sequence[Operation]
    failed: Sequence[Operation]
    writers: dict[tuple[str, Any], int] = field(default_factory=dict)
    orders: dict[str, Sequence[Any]] = field(default_factory=dict)
    compatible: list[Read] = field(default_factory=list)

    def judge(self) -> list[Problem]:
        """Fill in the orders of versions and the reads that agree with them."""
        last_append: dict[tuple[int, str], Any] = {}
        for number, each in enumerate(self.happened):
            for function, key, element in micro_operations(each):
                if function == "append":
                    self.writers[key, element] = number
                    last_append[number, key] = element
        problems = [
            found
            for each in self.happened
            if each.kind is Kind.OK
            for found in _contradicting_itself(each)
        ]
        reads = [
            read
            for number, each in enumerate(self.happened)
            if each.kind is Kind.OK
            for read in _external(number, each)
        ]
        longest: dict[str, Read] = {}
        for read in reads:
            if read.key not in longest or len(read.seen) > len(longest[read.key].seen):
                longest[read.key] = read
        self.orders = {key: read.seen for key, read in longest.items()}
        problems += self._judge_orders(longest)
        problems += self._incompatible(reads, longest)
        problems += self._unfinished(reads, last_append)
        return problems + self._lost_updates()

    def _judge_orders(self, longest: dict[str, Read]) -> list[Problem]:
        """Elements that are there twice, were never appended, or whose append failed."""
        problems: list[Problem] = []
        failed = {
            (key, element): each
            for each in self.failed
            for function, key, element in each.invocation.value
            if function == "append"
        }
        for key, read in longest.items():
            reader = self.happened[read.transaction]
            known: set[Any] = set()
            aborted: Operation | None = None
            for element in read.seen:
                if element in known:
                    text = f"duplicate: {who(reader)} read {element} more than once in {key}"
                    problems.append(problem(text, reader))
                elif (key, element) in failed:
                    aborted = failed[key, element]
                    text = (
                        f"G1a: {who(reader)} read {element} in {key}, which {who(aborted)}"
                        " appended in a transaction that failed"
                    )
                    problems.append(problem(text, aborted, reader))
                elif (key, element) not in self.writers:
                    text = (
                        f"phantom: {who(reader)} read {element} in {key}, which was never appended"
                    )
                    problems.append(problem(text, reader))
                elif aborted is not None:
                    writer = self.happened[self.writers[key, element]]
                    text = (
                        f"dirty update: {who(writer)} appended {element} to {key} behind what"
                        f" {who(aborted)} appended in a transaction that failed"
                    )
                    problems.append(problem(text, aborted, writer, reader))
                    aborted = None
                known.add(element)
        return problems

    def _incompatible(self, reads: Sequence[Read], longest: dict[str, Read]) -> list[Problem]:
        """Two reads of which neither continues the other: one of them lost an update."""
        problems: list[Problem] = []
        listed: set[str] = set()
        for read in reads:
            other = longest[read.key]
            if list(other.seen[: len(read.seen)]) == list(read.seen):
                self.compatible.append(read)
            elif read.key not in listed:
                listed.add(read.key)
                first, second = self.happened[read.transaction], self.happened[other.transaction]
                at = next(
                    place
                    for place, pair in enumerate(zip(read.seen, other.seen, strict=False))
                    if pair[0] != pair[1]
                )
                text = (
                    f"incompatible order: after {at} elements of {read.key}, {who(first)} read"
                    f" {read.seen[at]} and {who(second)} read {other.seen[at]}"
                )
                problems.append(problem(text, first, second))
        return problems

    def _unfinished(
        self, reads: Sequence[Read], last_append: dict[tuple[int, str], Any]
    ) -> list[Problem]:
        problems: list[Problem] = []
        for read in reads:
            writer = self.writers.get((read.key, read.seen[-1])) if read.seen else None
            if writer is None or writer == read.transaction:
                continue
            last = last_append[writer, read.key]
            if last != read.seen[-1]:
                first, second = self.happened[writer], self.happened[read.transaction]
                text = (
                    f"G1b: {who(second)} read {read.key} up to {read.seen[-1]}, in the middle of"
                    f" {who(first)}'s transaction, which also appended {last}"
                )
                problems.append(problem(text, first, second))
        return problems

    def _lost_updates(self) -> list[Problem]:
        """Two transactions that read the same version of a key and appended to it."""
        by_version: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        for read in self.compatible:
            appended = (
                function == "append" and key == read.key
                for function, key, _ in micro_operations(self.happened[read.transaction])
            )
            if any(appended):
                version = by_version[read.key, len(read.seen)]
                if read.transaction not in version:
                    version.append(read.transaction)
        return [
            problem(
                f"lost update: {' and '.join(who(self.happened[each]) for each in several[:2])}"
                f" both read {length} elements of {key} and then appended to it",
                *(self.happened[each] for each in several[:2]),
            )
            for (key, length), several in by_version.items()
            if len(several) > 1
        ]


def _contradicting_itself(transaction: Operation) -> list[Problem]:
    """Within a transaction, a read shows what was read before and appended since."""
    known: dict[str, list[Any]] = {}
    appended: defaultdict[str, list[Any]] = defaultdict(list)
    for function, key, value in micro_operations(transaction):
        if function == "append":
            appended[key].append(value)
            if key in known:
                known[key].append(value)
            continue
        shown = list(value or [])
        own = appended[key]
        expected = known.get(key, [*shown[: max(0, len(shown) - len(own))], *own])
        if shown != expected:
            text = (
                f"internal: {who(transaction)} read {shown} in {key}, where its own transaction"
                f" had left {'...' if key not in known else ''}{known.get(key, own)}"
            )
            return [problem(text, transaction)]
        known[key] = shown
    return []


def _external(number: int, transaction: Operation) -> list[Read]:
    """The reads, without what the transaction itself had appended before."""
    reads: list[Read] = []
    appended: defaultdict[str, int] = defaultdict(int)
    for function, key, value in micro_operations(transaction):
        if function == "append":
            appended[key] += 1
        else:
            shown = value or []
            reads.append(Read(number, key, shown[: max(0, len(shown) - appended[key])]))
    return reads

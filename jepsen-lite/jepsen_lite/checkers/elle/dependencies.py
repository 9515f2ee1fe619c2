"""The order between transactions that reads of growing lists prove.

A read of a list names all appends before it in their order. So the longest read of a key is the
key's version order, and each append and read has its place in it (Elle, section 4).
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jepsen_lite.history import NEVER_NS, Kind, Operation, began_ns, ended_ns, returned
from jepsen_lite.verdicts import who


class Because(enum.StrEnum):
    """Why one transaction must come before another."""

    WW = "ww"  # it appended before the other one appended
    WR = "wr"  # the other one read what it appended
    RW = "rw"  # it did not see what the other one appended
    PROCESS = "process"  # one process did one after the other
    REALTIME = "realtime"  # it was over before the other one began


_UNSEEN_MAX = 8

# Key, the value before, the value after; what they mean depends on the reason.
Detail = tuple[str, Any, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """What a transaction saw of a key, without what it had appended itself."""

    transaction: int
    key: str
    seen: Sequence[Any]


class Dependencies:
    """The edges between transactions, by reason."""

    def __init__(self, transactions: Sequence[Operation]) -> None:
        self.transactions = transactions
        self.edges: dict[Because, dict[int, dict[int, Detail]]] = {
            because: defaultdict(dict) for because in Because
        }

    def add(self, before: int, after: int, because: Because, detail: Detail) -> None:
        if before != after:
            self.edges[because][before].setdefault(after, detail)

    def successors(self, node: int, reasons: Sequence[Because]) -> Iterator[int]:
        for because in reasons:
            yield from self.edges[because].get(node, ())

    def explain(self, before: int, after: int, because: Because, names: Mapping[int, str]) -> str:
        """One edge in words."""
        first, second = names[before], names[after]
        earlier, later = self.transactions[before], self.transactions[after]
        if because is Because.PROCESS:
            return f"{first} came before {second}, because {who(earlier)} did one after the other"
        if because is Because.REALTIME:
            return (
                f"{first} came before {second}, because {first} was over at"
                f" {ended_ns(earlier) / 1e9:.6f} s and {second} began at"
                f" {began_ns(later) / 1e9:.6f} s"
            )
        return self.explain_data(first, second, because, self.edges[because][before][after])

    def explain_data(self, first: str, second: str, because: Because, detail: Detail) -> str:
        """An edge of lists in words."""
        key, old, new = detail
        if because is Because.WW:
            return (
                f"{first} appended {old} to {key} before {second} appended {new} to {key},"
                " because the longest read shows them in this order"
            )
        if because is Because.WR:
            return f"{first} appended {old} to {key} before {second} read it, because it saw {old}"
        saw = f"{key} as empty" if old is None else f"{key} up to {old}"
        return (
            f"{first} read {saw} before {second} appended {new} to it, because it did not see {new}"
        )


def add_data(
    found: Dependencies,
    orders: Mapping[str, Sequence[Any]],
    reads: Sequence[Read],
    writers: Mapping[tuple[str, Any], int],
) -> None:
    """WW, WR and RW edges of reads that agree with the version orders of their keys."""
    unseen = _unseen(found.transactions, orders, writers)
    for key, order in orders.items():
        for old, new in itertools.pairwise(order):
            first, second = writers.get((key, old)), writers.get((key, new))
            if first is not None and second is not None:
                found.add(first, second, Because.WW, (key, old, new))
    for read in reads:
        order = orders.get(read.key, ())
        last = read.seen[-1] if read.seen else None
        if (read.key, last) in writers:
            found.add(writers[read.key, last], read.transaction, Because.WR, (read.key, last, None))
        following = order[len(read.seen) :][:1] or unseen.get(read.key, ())
        for new in following:
            if (read.key, new) in writers:
                detail = (read.key, last, new)
                found.add(read.transaction, writers[read.key, new], Because.RW, detail)


def _unseen(
    transactions: Sequence[Operation],
    orders: Mapping[str, Sequence[Any]],
    writers: Mapping[tuple[str, Any], int],
) -> dict[str, list[Any]]:
    """What was appended for certain and never read can only stand behind all that was read.

    That is what was acknowledged, of each key the few that were over first: they are the ones that
    can be missed. And it is what a transaction of unknown outcome appended, of which another append
    was read: it is as good as acknowledged, but for its end.
    """
    shown = {key: set(order) for key, order in orders.items()}
    read_of = {writers.get((key, value)) for key, order in orders.items() for value in order}
    unseen: defaultdict[str, list[Any]] = defaultdict(list)
    for (key, value), writer in sorted(
        writers.items(), key=lambda item: ended_ns(transactions[item[1]])
    ):
        is_early = len(unseen[key]) < _UNSEEN_MAX
        happened = is_early if transactions[writer].kind is Kind.OK else writer in read_of
        if happened and value not in shown.get(key, ()):
            unseen[key].append(value)
    return unseen


def add_time(found: Dependencies) -> None:
    """PROCESS and REALTIME edges; of the latter only those that do not follow from others."""
    order = sorted(range(len(found.transactions)), key=lambda n: began_ns(found.transactions[n]))
    last_of: dict[int, int] = {}
    frontier: set[int] = set()
    behind: dict[int, tuple[int, ...]] = {}
    running: list[tuple[float, int]] = []
    for number in order:
        each = found.transactions[number]
        while running and running[0][0] < began_ns(each):
            _, over = heapq.heappop(running)
            frontier.difference_update(behind.pop(over))
            frontier.add(over)
        for over in frontier:
            found.add(over, number, Because.REALTIME, ("", None, None))
        behind[number] = tuple(frontier)
        if ended_ns(each) != NEVER_NS:
            heapq.heappush(running, (ended_ns(each), number))
        process = each.invocation.process
        if process in last_of:
            found.add(last_of[process], number, Because.PROCESS, ("", None, None))
        last_of[process] = number


def micro_operations(transaction: Operation) -> list[list[Any]]:
    """With what was read, where it is known; else as they were asked for."""
    known = returned(transaction) if transaction.kind is Kind.OK else None
    operations: list[list[Any]] = known if known is not None else transaction.invocation.value
    return operations

"""What is known of the order in which the values of registers replaced each other.

Nothing is known of two values by themselves. What is certain in a strictly serializable store:
- the state before all writes comes before every value;
- a value comes after the one that its transaction had read before, or had written before;
- by time: a value that a transaction saw or left, over before another one began, comes before a
  different value that this one writes, and before a different one that it sees.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jepsen_lite.checkers.elle.graphs import components
from jepsen_lite.history import NEVER_NS, Operation, began_ns, ended_ns
from jepsen_lite.verdicts import who


@dataclass(slots=True)
class Access:
    """What a transaction did with one key: what it saw there first, and what it wrote."""

    transaction: int
    key: str
    has_read: bool = False
    seen: Any = None
    written: list[Any] = field(default_factory=list)

    @property
    def left(self) -> Any:
        """The value when the transaction was over."""
        return self.written[-1] if self.written else self.seen


# Of each pair (older, newer): the transactions that show the order; one that did both, or two.
_Order = dict[tuple[Any, Any], tuple[int, ...]]


class Versions:
    """A partial order of the values of each key; a key whose order is cyclic has none."""

    def __init__(
        self, transactions: Sequence[Operation], accesses: Sequence[Access], *, by_time: bool
    ) -> None:
        self._transactions = transactions
        self._orders: dict[str, _Order] = {}
        self._cyclic: list[tuple[str, list[Any]]] = []
        by_key: defaultdict[str, list[Access]] = defaultdict(list)
        for each in accesses:
            by_key[each.key].append(each)
        for key, of_key in by_key.items():
            order = _within_transactions(of_key)
            candidates = [order]
            if by_time:
                after_writes, after_all = self._by_time(of_key)
                candidates = [order | after_writes | after_all, order | after_writes, order]
            for number, candidate in enumerate(candidates):
                ring = _cycle(candidate)
                if not ring:
                    self._orders[key] = _with_beginning(of_key, candidate)
                    break
                if number == 0:
                    self._cyclic.append((key, ring))

    def pairs(self) -> Iterator[tuple[str, Any, Any]]:
        """Key, older value and newer value; None is the state before all writes."""
        for key, order in self._orders.items():
            for old, new in order:
                yield key, old, new

    def cyclic(self) -> Sequence[tuple[str, list[Any]]]:
        """Keys with values that come before each other."""
        return self._cyclic

    def why(self, key: str, old: Any, new: Any) -> str:
        """How it is known that the one value is older than the other."""
        shown_by = self._orders[key][old, new]
        if not shown_by:
            return f"every value of {key} comes after the state without one"
        first = self._transactions[shown_by[0]]
        old, new = ("nothing" if value is None else value for value in (old, new))
        if len(shown_by) == 1:
            return f"{who(first)} had {old} there and then wrote {new}"
        second = self._transactions[shown_by[1]]
        return (
            f"{who(first)} had {old} there in a transaction that was over at"
            f" {ended_ns(first) / 1e9:.6f} s, before that of {who(second)}, which had {new}, began"
            f" at {began_ns(second) / 1e9:.6f} s"
        )

    def _by_time(self, accesses: Sequence[Access]) -> tuple[_Order, _Order]:
        """What is older than values written later, and than values seen later."""
        transactions = self._transactions
        written: _Order = {}
        seen: _Order = {}
        frontier: set[int] = set()
        replaced: dict[int, tuple[int, ...]] = {}
        running: list[tuple[float, int]] = []
        order = sorted(
            range(len(accesses)), key=lambda n: began_ns(transactions[accesses[n].transaction])
        )
        for number in order:
            each = accesses[number]
            transaction = transactions[each.transaction]
            while running and running[0][0] < began_ns(transaction):
                _, over = heapq.heappop(running)
                frontier.difference_update(replaced.pop(over))
                frontier.add(over)
            for over in frontier:
                before = accesses[over]
                shown_by = (before.transaction, each.transaction)
                if each.has_read and before.left != each.seen:
                    seen.setdefault((before.left, each.seen), shown_by)
                elif each.written and not each.has_read:
                    written.setdefault((before.left, each.written[0]), shown_by)
            replaced[number] = tuple(frontier)
            if (ends := ended_ns(transaction)) != NEVER_NS:
                heapq.heappush(running, (ends, number))
        return written, seen


def _within_transactions(accesses: Sequence[Access]) -> _Order:
    order: _Order = {}
    for each in accesses:
        values = [each.seen, *each.written] if each.has_read else each.written
        for old, new in itertools.pairwise(values):
            if old != new:
                order.setdefault((old, new), (each.transaction,))
    return order


def _with_beginning(accesses: Sequence[Access], order: _Order) -> _Order:
    """The state before all writes comes before what nothing else is known to precede."""
    preceded = {new for _, new in order}
    first = {
        (None, value): ()
        for each in accesses
        for value in each.written
        if value is not None and value not in preceded
    }
    return {**first, **order}


def _cycle(order: _Order) -> list[Any]:
    """Values that come before each other; empty if there are none."""
    names = list(dict.fromkeys(value for pair in order for value in pair))
    numbers = {value: number for number, value in enumerate(names)}
    after: defaultdict[int, list[int]] = defaultdict(list)
    for old, new in order:
        after[numbers[old]].append(numbers[new])
    into_beginning = [old for old, new in order if new is None and old is not None]
    if into_beginning:
        return [into_beginning[0], None]
    for component in components(range(len(names)), lambda node: after[node]):
        return [names[number] for number in sorted(component)]
    return []

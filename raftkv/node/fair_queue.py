"""A queue that is fair to clients: deficit round robin, and what is small and new goes first.

The scheduler is that of FQ-CoDel (RFC 8290, section 4.2) without CoDel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Client = TypeVar("Client", bound=Hashable)
Item = TypeVar("Item")


class _Backlog(Generic[Item]):
    """What one client has in the queue, with the cost of each item, and what it may spend yet."""

    __slots__ = ("credit", "items")

    def __init__(self, credit: int) -> None:
        self.items: deque[tuple[Item, int]] = deque()
        self.credit = credit


class FairQueue(Generic[Client, Item]):
    """First in, first out for each client; in turns of `quantum` of cost between clients.

    A client that had nothing here has a turn before those that wait, once: it is new again only
    when a turn of its own has found nothing. So a client whose items cost less than `quantum` in a
    round waits for other new ones alone, and whatever n clients keep adding, one of them gets no
    more than its n-th of what is taken, give or take a quantum and its largest item.
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._backlogs: dict[Client, _Backlog[Item]] = {}
        self._new: deque[Client] = deque()
        self._old: deque[Client] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """All items, those of a client in their order."""
        for backlog in self._backlogs.values():
            for item, _ in backlog.items:
                yield item

    def clear(self) -> None:
        """Remove all items, and start the turns anew."""
        self._backlogs.clear()
        self._new.clear()
        self._old.clear()
        self._length = 0

    def push(self, client: Client, item: Item, cost: int) -> None:
        """Queue an item behind all others of its client."""
        self._backlog_of(client).items.append((item, cost))
        self._length += 1

    def push_front(self, client: Client, item: Item, cost: int) -> None:
        """Queue an item again, before all others of its client."""
        self._backlog_of(client).items.appendleft((item, cost))
        self._length += 1

    def _backlog_of(self, client: Client) -> _Backlog[Item]:
        backlog = self._backlogs.get(client)
        if backlog is None:
            backlog = self._backlogs[client] = _Backlog(self._quantum)
            self._new.append(client)
        return backlog

    def head(self) -> tuple[Client, Item, int]:
        """The item whose turn it is, with its client and cost. The queue must not be empty."""
        while True:
            turns = self._new or self._old
            client = turns[0]
            backlog = self._backlogs[client]
            if backlog.items:
                item, cost = backlog.items[0]
                if cost <= backlog.credit:
                    return client, item, cost
                backlog.credit += self._quantum
            elif turns is self._old:
                turns.popleft()
                del self._backlogs[client]
                continue
            turns.popleft()
            self._old.append(client)

    def pop(self) -> Item:
        """Take the item whose turn it is. The queue must not be empty."""
        client, item, cost = self.head()
        backlog = self._backlogs[client]
        backlog.items.popleft()
        backlog.credit -= cost
        self._length -= 1
        if not self._length:
            self.clear()  # an empty queue owes no client a turn
        return item

    def remove(self, client: Client, item: Item) -> None:
        """Remove an item, if it is here."""
        backlog = self._backlogs.get(client)
        if backlog is None:
            return
        kept = deque(each for each in backlog.items if each[0] is not item)
        self._length -= len(backlog.items) - len(kept)
        backlog.items = kept
        if not self._length:
            self.clear()

"""Who waits at this node to hold a lock. Knows names and tokens, no wire and no clock.

A waiter is looked at when it arrives, when its own key goes, and when it stands in front and
another key of its queue goes: whoever releases a lock wakes one waiter, however many there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from sortedcontainers import SortedList

from raftkv.errors import (
    LockLost,
    Overloaded,
    RaftkvError,
    ShuttingDown,
    Unavailable,
    printable,
)
from raftkv.kv import locks
from raftkv.kv.changes import Change
from raftkv.server.node_port import NodePort
from raftkv.wire.lock_keys import entry_key, name_of

# Waiting costs memory alone, 25 KB a call; it does not count as work under way.
WAITS_MAX = 8_000
OVERLOAD_RETRY_AFTER_S = 1.0
# So many calls end in one turn of the loop: each costs its answer, 0.1 ms.
ENDED_PER_TURN_MAX = 64
# A node that is cut off would let its waiters sleep on, so it asks for news this often.
CONTACT_INTERVAL_S = 1.0


@dataclass(slots=True)
class _Waiter:
    """One place in a queue, and the calls that wait for its turn."""

    name: bytes
    token: int
    calls: list[asyncio.Future[None]] = field(default_factory=list)


_Ended: TypeAlias = tuple[asyncio.Future[None], RaftkvError | None]
"""A call whose waiting is over, and what it fails with, if it does."""


class LockWaits:
    """All that wait at one node. A follower of its changes while there are any."""

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[bytes, _Waiter] = {}  # by the key that is their place
        self._queues: dict[bytes, SortedList] = {}  # of each name, the tokens that wait
        self._unapplied = SortedList()  # (token, key): places that this node has not seen yet
        self._calls = 0
        self._ending: deque[_Ended] = deque()  # that end in turns to come
        self._ended_in_turn = 0
        self._turn_ends = False
        self._closed = False
        self._contact: asyncio.Task[None] | None = None

    def wait(self, name: bytes, token: int) -> asyncio.Future[None]:
        """Done when `token` holds the lock; hand it to `leave` at the end in any case.

        Fails with `LockLost` when its key is gone, with `Unavailable` when another node has to be
        asked. Raises `Overloaded` over the bound and `ShuttingDown`.
        """
        if self._closed:
            raise ShuttingDown("this node is stopping; wait at another one")
        if self._calls >= WAITS_MAX:
            raise Overloaded(
                f"{WAITS_MAX} calls wait for locks at this node, its bound; ask another one",
                retry_after_s=OVERLOAD_RETRY_AFTER_S,
            )
        call: asyncio.Future[None] = self._loop.create_future()
        call.add_done_callback(self._count_out)
        self._calls += 1
        key = entry_key(name, token)
        waiter = self._waiters.get(key) or self._enter(key, name, token)
        waiter.calls.append(call)
        self._look_at(key, waiter)
        return call

    def leave(self, name: bytes, token: int, call: asyncio.Future[None]) -> None:
        """Nobody waits for this call any more."""
        call.cancel()
        key = entry_key(name, token)
        waiter = self._waiters.get(key)
        if waiter is not None and all(each.done() for each in waiter.calls):
            self._remove(key, waiter)

    def close(self) -> None:
        """The node stops: whoever waits has to ask another one."""
        self._closed = True
        self._end_all(ShuttingDown("this node is stopping; wait at another one"))

    # ---- what happens at this node ---------------------------------------------------

    def changed(self, changes: Sequence[Change]) -> None:
        """See `Follower.changed`."""
        moved: dict[bytes, None] = {}
        for change in changes:
            if change.record is not None:
                continue
            waiter = self._waiters.get(change.key)
            if waiter is not None:
                self._end(change.key, waiter, _lost(waiter))
            name = name_of(change.key)
            if name in self._queues:
                moved[name] = None
        for name in moved:
            self._look_at_the_front(name)
        while self._unapplied and self._unapplied[0][0] <= self._node.machine.revision:
            _, key = self._unapplied.pop(0)
            if key in self._waiters:
                self._look_at(key, self._waiters[key])

    def jumped(self) -> None:
        """See `Follower.jumped`."""
        for key, waiter in list(self._waiters.items()):
            self._look_at(key, waiter)

    def _look_at_the_front(self, name: bytes) -> None:
        queue = self._queues.get(name)
        if queue:
            key = entry_key(name, queue[0])
            self._look_at(key, self._waiters[key])

    def _look_at(self, key: bytes, waiter: _Waiter) -> None:
        """End the waiting if there is nothing to wait for."""
        machine = self._node.machine
        if waiter.token > machine.revision:
            if (waiter.token, key) not in self._unapplied:
                self._unapplied.add((waiter.token, key))
        elif not locks.has_entry(machine.view, waiter.name, waiter.token):
            self._end(key, waiter, _lost(waiter))
        else:
            holder = machine.lock_holder(waiter.name)
            if holder is not None and holder.token == waiter.token:
                self._end(key, waiter, None)

    # ---- the books -------------------------------------------------------------------

    def _enter(self, key: bytes, name: bytes, token: int) -> _Waiter:
        if not self._waiters:
            self._node.changes.follow(self)
            self._contact = self._loop.create_task(self._stay_in_contact())
        waiter = self._waiters[key] = _Waiter(name, token)
        self._queues.setdefault(name, SortedList()).add(token)
        return waiter

    def _remove(self, key: bytes, waiter: _Waiter) -> None:
        del self._waiters[key]
        queue = self._queues[waiter.name]
        queue.remove(waiter.token)
        if not queue:
            del self._queues[waiter.name]
        self._unapplied.discard((waiter.token, key))
        if not self._waiters:
            self._node.changes.leave(self)
            if self._contact is not None:
                self._contact.cancel()
                self._contact = None

    def _end(self, key: bytes, waiter: _Waiter, error: RaftkvError | None) -> None:
        self._remove(key, waiter)
        ended = [(call, error) for call in waiter.calls]
        if self._ending or self._ended_in_turn >= ENDED_PER_TURN_MAX:
            self._ending.extend(ended)
        else:
            _resolve(ended)
        self._ended_in_turn += len(ended)
        if not self._turn_ends:
            self._turn_ends = True
            self._loop.call_soon(self._end_more)

    def _end_more(self) -> None:
        """In a turn of its own: each call that ends costs its answer."""
        some = list(islice(self._ending, ENDED_PER_TURN_MAX))
        for _ in some:
            self._ending.popleft()
        _resolve(some)
        self._ended_in_turn = len(some)
        self._turn_ends = bool(some)
        if some:
            self._loop.call_soon(self._end_more)

    def _end_all(self, error: RaftkvError) -> None:
        for key, waiter in list(self._waiters.items()):
            self._end(key, waiter, error)

    def _count_out(self, call: asyncio.Future[None]) -> None:
        self._calls -= 1
        if not call.cancelled():
            call.exception()  # its caller may be gone

    async def _stay_in_contact(self) -> None:
        while True:
            await asyncio.sleep(CONTACT_INTERVAL_S)
            try:
                await self._node.read_barrier(self._loop.time() + CONTACT_INTERVAL_S)
            except RaftkvError as error:
                self._end_all(
                    Unavailable(f"this node hears nothing new; wait at another one ({error})")
                )


def _resolve(ended: Iterable[_Ended]) -> None:
    for call, error in ended:
        if call.done():
            continue
        if error is None:
            call.set_result(None)
        else:
            call.set_exception(error)


def _lost(waiter: _Waiter) -> LockLost:
    return LockLost(
        f"token {waiter.token} has no place in the queue of {printable(waiter.name)} any more: its"
        " lease has ended, or its key was deleted; acquire anew",
        token=waiter.token,
    )

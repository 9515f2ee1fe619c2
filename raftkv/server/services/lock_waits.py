"""Waits for locks at one node: each ends when its queue entry holds the lock or is gone.

A waiter is checked when it arrives, when its own key is deleted, and, if it is the first waiter of
its queue, when another key of the queue is deleted. So a release wakes one waiter, however many
wait. When rights change, the waits of users without them end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
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

# A wait costs only memory, 25 KB per call; it does not count as a request in flight.
WAITS_MAX = 8_000
OVERLOAD_RETRY_AFTER_S = 1.0
# Calls that end in one turn of the event loop: each costs 0.1 ms for its reply.
ENDED_PER_TURN_MAX = 64
# How often a node with waiters does a read barrier: partitioned, it would never wake them.
CONTACT_INTERVAL_S = 1.0


@dataclass(slots=True)
class _Waiter:
    """A queue entry, and the calls that wait until it holds the lock."""

    name: bytes
    token: int
    calls: dict[asyncio.Future[None], Callable[[], object]] = field(default_factory=dict)
    """Each with a function that raises if its caller has lost the right to wait."""


_Ended: TypeAlias = tuple[asyncio.Future[None], RaftkvError | None]
"""A call whose wait is over, and its error, if any."""


class LockWaits:
    """All waits at one node. Follows the node's change feed while there is a waiter."""

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[bytes, _Waiter] = {}  # by the key of the queue entry
        self._queues: dict[bytes, SortedList] = {}  # by name: the tokens that wait
        self._unapplied = SortedList()  # (token, key): entries that this node has not applied yet
        self._calls = 0
        self._ending: deque[_Ended] = deque()  # in later turns of the event loop
        self._ended_in_turn = 0
        self._turn_ends = False
        self._closed = False
        self._contact: asyncio.Task[None] | None = None

    def wait(
        self, name: bytes, token: int, require_rights: Callable[[], object]
    ) -> asyncio.Future[None]:
        """A future that is done when `token` holds the lock; always pass it to `leave` afterwards.

        The future fails with `LockLost` when the entry's key is gone, with `Unavailable` if the
        client must wait at another node, and with what `require_rights` raises after a change of
        rights. Raises `Overloaded` over the bound and `ShuttingDown`.
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
        waiter.calls[call] = require_rights
        self._check(key, waiter)
        return call

    def leave(self, name: bytes, token: int, call: asyncio.Future[None]) -> None:
        """End this wait."""
        call.cancel()
        key = entry_key(name, token)
        waiter = self._waiters.get(key)
        if waiter is not None and all(each.done() for each in waiter.calls):
            self._remove(key, waiter)

    @property
    def count(self) -> int:
        """How many calls wait."""
        return self._calls

    def close(self) -> None:
        """The node is stopping: end all waits and refuse new ones."""
        self._closed = True
        self._end_all(ShuttingDown("this node is stopping; wait at another one"))

    # ---- the change feed -------------------------------------------------------------

    def changed(self, changes: Sequence[Change]) -> None:
        """See `ChangeSubscriber.changed`."""
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
            self._check_first_waiter(name)
        while self._unapplied and self._unapplied[0][0] <= self._node.machine.revision:
            _, key = self._unapplied.pop(0)
            if key in self._waiters:
                self._check(key, self._waiters[key])

    def jumped(self) -> None:
        """See `ChangeSubscriber.jumped`."""
        for key, waiter in list(self._waiters.items()):
            self._check(key, waiter)

    def rights_changed(self) -> None:
        """See `RightsSubscriber.rights_changed`."""
        for key, waiter in list(self._waiters.items()):
            for call, require_rights in list(waiter.calls.items()):
                try:
                    require_rights()
                except RaftkvError as error:
                    del waiter.calls[call]
                    if not waiter.calls:
                        self._remove(key, waiter)
                    self._end_calls([(call, error)])

    def _check_first_waiter(self, name: bytes) -> None:
        queue = self._queues.get(name)
        if queue:
            key = entry_key(name, queue[0])
            self._check(key, self._waiters[key])

    def _check(self, key: bytes, waiter: _Waiter) -> None:
        """End the wait if the entry holds the lock or is gone."""
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

    # ---- bookkeeping -----------------------------------------------------------------

    def _enter(self, key: bytes, name: bytes, token: int) -> _Waiter:
        if not self._waiters:
            self._node.changes.follow(self)
            self._node.changes.follow_rights(self)
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
            self._node.changes.leave_rights(self)
            if self._contact is not None:
                self._contact.cancel()
                self._contact = None

    def _end(self, key: bytes, waiter: _Waiter, error: RaftkvError | None) -> None:
        self._remove(key, waiter)
        self._end_calls([(call, error) for call in waiter.calls])

    def _end_calls(self, ended: list[_Ended]) -> None:
        if self._ending or self._ended_in_turn >= ENDED_PER_TURN_MAX:
            self._ending.extend(ended)
        else:
            _resolve(ended)
        self._ended_in_turn += len(ended)
        if not self._turn_ends:
            self._turn_ends = True
            self._loop.call_soon(self._end_more)

    def _end_more(self) -> None:
        """End some calls in a turn of their own, because each costs a reply."""
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
            call.exception()  # mark as retrieved: the caller may have disconnected

    async def _stay_in_contact(self) -> None:
        while True:
            await asyncio.sleep(CONTACT_INTERVAL_S)
            try:
                await self._node.read_barrier(self._loop.time() + CONTACT_INTERVAL_S)
            except RaftkvError as error:
                self._end_all(
                    Unavailable(
                        f"this node has no contact with a majority; wait at another one ({error})"
                    )
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
        f"token {waiter.token} is no longer in the queue of {printable(waiter.name)}: its"
        " lease has ended, or its key was deleted; acquire anew",
        token=waiter.token,
    )

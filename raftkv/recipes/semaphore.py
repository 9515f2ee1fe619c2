"""A semaphore: up to a fixed number of holders, the others wait in the order of their arrival.

A client that wants a slot first acquires the lock `name/turn`, waits for a free slot, takes it, and
releases that lock. So a slot that becomes free wakes one waiter, however many there are. The slot
is taken under the fence of the lock, so a client that has lost the lock can't take a slot too many.
"""

from __future__ import annotations

from raftkv.arguments import milliseconds
from raftkv.client.client import Client
from raftkv.client.coordination.loss import CancelOnLoss
from raftkv.client.coordination.queue import OnWait
from raftkv.client.coordination.queue_entry import QueueEntry
from raftkv.errors import FencedOff, LockLost, printable
from raftkv.recipes._parameters import AgreedSize, recipe_name, to_client
from raftkv.recipes._queues import (
    SharedLock,
    SharedQueues,
    queue_entries,
    retry_until_answered,
    wait_for_change,
)
from raftkv.wire.lock_keys import queue_bounds


class Semaphore:
    """Up to `slots` holders at once, of all clients.

        semaphore = Semaphore(client, "downloads", 5)
        async with semaphore.slot():
            ...

    `slots` is at least 1 and is kept in the store: taking a slot raises `SizeMismatch` if the name
    is in use with another number. After a holder's death its slot is free within `ttl` seconds.
    `name` is a `str` or `bytes` of 1 to 8,192 bytes.
    """

    name: bytes
    """The name of the semaphore; its keys begin with it."""

    def __init__(self, client: Client, name: str | bytes, slots: int, *, ttl: float = 10.0) -> None:
        to_client(client)
        self.name = recipe_name(name)
        self._ttl_ms = milliseconds(ttl, "ttl")
        self._queues = _Slots(client, self.name, AgreedSize(client, self.name, slots, "slots"))

    def slot(self) -> SharedLock:
        """A slot, not acquired yet, to be used as a lock. A task may hold one at a time.

        `try_acquire` returns False if no slot is free, or if others are waiting for one. A slot
        costs two writes more than a lock.
        """
        return SharedLock(self._queues, self.name + b"/slots", self._ttl_ms, b"")


class _Slots(SharedQueues):
    """The slots that are taken, and the queue of clients that want one."""

    def __init__(self, client: Client, name: bytes, slots: AgreedSize) -> None:
        super().__init__(client, name)
        self._slots = slots
        self._turns = name + b"/turn"

    async def enter(self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait) -> QueueEntry:
        """As `LockQueues.enter`."""
        await self._slots.agree()
        turn = await self.queues.enter(self._turns, ttl_ms, value, on_wait)
        try:
            with CancelOnLoss(turn, str(turn)):
                await self._wait_for_a_free_slot(name, on_wait)
                return await self._take(turn, name, ttl_ms, value)
        finally:
            self.abandon(turn)

    async def enter_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, *, once: bool = False
    ) -> QueueEntry | None:
        """As `LockQueues.enter_if_free`."""
        timeout = 0 if once else None
        await self._slots.agree(timeout)
        turn = await self.queues.enter_if_free(self._turns, ttl_ms, value, once=once)
        if turn is None:
            return None
        try:
            taken, _ = await queue_entries(self.client, name, timeout)
            if len(taken) >= self._slots.size:
                return None
            return await self._take(turn, name, ttl_ms, value, once=once)
        finally:
            self.abandon(turn)

    async def _wait_for_a_free_slot(self, name: bytes, on_wait: OnWait) -> None:
        while True:
            taken, revision = await retry_until_answered(lambda: queue_entries(self.client, name))
            if len(taken) < self._slots.size:
                return
            on_wait()
            start, end = queue_bounds(name)
            await wait_for_change(self.client, start, end, after=revision, puts=False)

    async def _take(
        self, turn: QueueEntry, name: bytes, ttl_ms: int, value: bytes, *, once: bool = False
    ) -> QueueEntry:
        fence = (self._turns, turn.token)
        try:
            entry = await self.queues.join(name, ttl_ms, value, fence=fence, once=once)
        except FencedOff as error:
            raise LockLost(
                f"the entry in the queue for {printable(name)} was lost ({error})", name=name
            ) from None
        if not entry.remaining():
            self.abandon(entry)
            entry.check()
        return entry

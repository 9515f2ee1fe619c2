"""A semaphore: up to so many hold it at once, the others wait in the order in which they came.

Whoever wants a slot first waits for its turn, in the queue of an ordinary lock; whoever has the
turn waits for a free slot, takes it, and passes the turn on. So a slot that becomes free wakes
one waiter, however many there are; and as slots are taken under the fence of the turn, nobody who
has lost it meanwhile adds one too many.
"""

from __future__ import annotations

from raftkv.arguments import milliseconds
from raftkv.client.client import Client
from raftkv.client.coordination.entry_watches import QueueEntry
from raftkv.client.coordination.lease import CancelOnLoss
from raftkv.client.coordination.queue import OnWait
from raftkv.errors import FencedOff, LockLost, printable
from raftkv.recipes.sharing import SharedLock, SharedQueues, recipe_name, to_client
from raftkv.recipes.sizes import AgreedSize
from raftkv.recipes.waiting import patiently, places, until_changed
from raftkv.wire.lock_keys import queue_bounds


class Semaphore:
    """Up to `slots` holders at once, of all clients.

        semaphore = Semaphore(client, "downloads", 5)
        async with semaphore.slot():
            ...

    The number of slots is kept in the store: taking one raises `SizeMismatch` if others use
    another number. The slot of a holder that dies is free after `ttl` seconds.
    """

    def __init__(self, client: Client, name: str | bytes, slots: int, *, ttl: float = 10.0) -> None:
        to_client(client)
        self.name = recipe_name(name)
        self._ttl_ms = milliseconds(ttl, "ttl")
        self._queues = _Slots(client, self.name, AgreedSize(client, self.name, slots, "slots"))

    def slot(self) -> SharedLock:
        """A slot to be taken, as one takes a lock; a task may have one at a time.

        `try_acquire` gives False if none is free, or others are about to take one.
        """
        return SharedLock(self._queues, self.name + b"/slots", self._ttl_ms, b"")


class _Slots(SharedQueues):
    """The slots that are taken, and the queue of those that want one."""

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
                await self._until_one_is_free(name, on_wait)
                return await self._take(turn, name, ttl_ms, value)
        finally:
            self.leave(turn)

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
            taken, _ = await places(self.client, name, timeout)
            if len(taken) >= self._slots.size:
                return None
            return await self._take(turn, name, ttl_ms, value, once=once)
        finally:
            self.leave(turn)

    async def _until_one_is_free(self, name: bytes, on_wait: OnWait) -> None:
        while True:
            taken, revision = await patiently(lambda: places(self.client, name))
            if len(taken) < self._slots.size:
                return
            on_wait()
            start, end = queue_bounds(name)
            await until_changed(self.client, start, end, after=revision, puts=False)

    async def _take(
        self, turn: QueueEntry, name: bytes, ttl_ms: int, value: bytes, *, once: bool = False
    ) -> QueueEntry:
        fence = (self._turns, turn.token)
        try:
            place = await self.queues.join(name, ttl_ms, value, fence=fence, once=once)
        except FencedOff as error:
            raise LockLost(
                f"the place in the queue for {printable(name)} was lost ({error})", name=name
            ) from None
        if not place.remaining():
            self.leave(place)
            place.check()
        return place

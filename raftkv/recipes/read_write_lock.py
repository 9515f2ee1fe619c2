"""A read-write lock: many readers or one writer, in the order in which they came.

Readers and writers stand in a queue each, `name/read` and `name/write`. Tokens are revisions, so
they order both queues as one: a reader waits for the last writer before it, a writer for the
writer before it and then for the last reader before it. Whoever comes later is waited for by
nobody, so neither kind starves the other.

And as writers have a queue of their own, its first is the writer, or the one that will write
next: a writer's token is a fence that no reader's can pass for.
"""

from __future__ import annotations

from raftkv.arguments import milliseconds
from raftkv.client.client import Client
from raftkv.client.coordination.entry_watches import QueueEntry
from raftkv.client.coordination.lease import CancelOnLoss
from raftkv.client.coordination.lock import Lock
from raftkv.client.coordination.queue import OnWait
from raftkv.recipes.sharing import SharedLock, SharedQueues, recipe_name, to_client
from raftkv.recipes.waiting import last_place, until_none_before


class ReadWriteLock:
    """Many readers or one writer.

        lock = ReadWriteLock(client, "report")
        async with lock.read():
            found = await client.get("report")
        async with lock.write() as writer:
            await client.put("report", data, fence=writer)

    `read` and `write` make a lock each time, to be used as one of `client.lock`; if its holder
    dies, it is free after `ttl` seconds. A task may hold one of them at a time: reading on while
    it waits to write, it would wait for itself (`LockReentered`).
    """

    def __init__(self, client: Client, name: str | bytes, *, ttl: float = 10.0) -> None:
        self.name = recipe_name(name)
        self._client = to_client(client)
        self._ttl_ms = milliseconds(ttl, "ttl")

    def read(self) -> SharedLock:
        """The lock of a reader: no fence, see `SharedLock`."""
        mine, others = self.name + b"/read", self.name + b"/write"
        return SharedLock(_Readers(self._client, self.name, others), mine, self._ttl_ms, b"")

    def write(self) -> Lock:
        """The lock of a writer; as a fence it holds until the writer lets go or is lost."""
        mine, others = self.name + b"/write", self.name + b"/read"
        return Lock(_Writers(self._client, self.name, others), mine, self._ttl_ms, b"")


class _OneKind(SharedQueues):
    """One kind's queue; `others` is that of the other kind. Whoever lines up waits for those."""

    def __init__(self, client: Client, name: bytes, others: bytes) -> None:
        super().__init__(client, name)
        self._others = others

    async def enter(self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait) -> QueueEntry:
        """As `LockQueues.enter`."""
        place = await self._line_up(name, ttl_ms, value, on_wait)
        try:
            with CancelOnLoss(place, str(place)):
                await until_none_before(self.client, self._others, place.token, on_wait)
            place.check()
        except BaseException:
            self.leave(place)
            raise
        return place

    async def enter_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, *, once: bool = False
    ) -> QueueEntry | None:
        """As `LockQueues.enter_if_free`."""
        place = await self._line_up_if_free(name, ttl_ms, value, once)
        if place is None:
            return None
        try:
            before, _ = await last_place(
                self.client, self._others, place.token, timeout=0 if once else None
            )
        except BaseException:
            self.leave(place)
            raise
        if before is None and place.remaining():
            return place
        self.leave(place)
        return None

    async def _line_up(self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait) -> QueueEntry:
        raise NotImplementedError

    async def _line_up_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, once: bool
    ) -> QueueEntry | None:
        raise NotImplementedError


class _Readers(_OneKind):
    """They do not wait for each other."""

    async def _line_up(self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait) -> QueueEntry:
        return await self._line_up_if_free(name, ttl_ms, value, False)

    async def _line_up_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, once: bool
    ) -> QueueEntry:
        return await self.queues.join(name, ttl_ms, value, once=once)


class _Writers(_OneKind):
    """One after the other."""

    async def _line_up(self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait) -> QueueEntry:
        return await self.queues.enter(name, ttl_ms, value, on_wait)

    async def _line_up_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, once: bool
    ) -> QueueEntry | None:
        return await self.queues.enter_if_free(name, ttl_ms, value, once=once)

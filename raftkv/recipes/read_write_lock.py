"""A read-write lock: many readers or one writer, in the order of their arrival.

Readers and writers have a queue each, `name/read` and `name/write`. Tokens are revisions, so they
order the entries of both queues: a reader waits for the last writer before it, a writer for the
writer before it and then for the last reader before it. No entry waits for a later one, so neither
kind starves the other.

The first entry of the writers' queue is the writer or the next writer. So a writer's token is a
fence, and a reader's token never passes for it.
"""

from __future__ import annotations

from raftkv.arguments import milliseconds
from raftkv.client.client import Client
from raftkv.client.coordination.lock import Lock
from raftkv.client.coordination.loss import CancelOnLoss
from raftkv.client.coordination.queue import OnWait
from raftkv.client.coordination.queue_entry import QueueEntry
from raftkv.recipes._parameters import recipe_name, to_client
from raftkv.recipes._queues import (
    SharedLock,
    SharedQueues,
    last_entry_before,
    wait_for_older_entries,
)


class ReadWriteLock:
    """Many readers or one writer.

        lock = ReadWriteLock(client, "report")
        async with lock.read():
            found = await client.get("report")
        async with lock.write() as writer:
            await client.put("report", data, fence=writer)

    `read` and `write` make a new lock each time, to be used as one of `client.lock`. After a
    holder's death its lock is free within `ttl` seconds. A task may hold one of them at a time:
    a second one raises `LockReentered`, because the task would wait for itself. `name` is a `str`
    or `bytes` of 1 to 8,192 bytes.
    """

    name: bytes
    """The name of the lock; its keys begin with it."""

    def __init__(self, client: Client, name: str | bytes, *, ttl: float = 10.0) -> None:
        self.name = recipe_name(name)
        self._client = to_client(client)
        self._ttl_ms = milliseconds(ttl, "ttl")

    def read(self) -> SharedLock:
        """A reader's lock, not acquired yet. It is no fence, see `SharedLock`."""
        mine, others = self.name + b"/read", self.name + b"/write"
        return SharedLock(_Readers(self._client, self.name, others), mine, self._ttl_ms, b"")

    def write(self) -> Lock:
        """A writer's lock, not acquired yet. It is a fence until it is released or lost."""
        mine, others = self.name + b"/write", self.name + b"/read"
        return Lock(_Writers(self._client, self.name, others), mine, self._ttl_ms, b"")


class _KindQueues(SharedQueues):
    """The queue of readers or of writers; `others` is the queue whose older entries block."""

    def __init__(self, client: Client, name: bytes, others: bytes) -> None:
        super().__init__(client, name)
        self._others = others

    async def enter(self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait) -> QueueEntry:
        """As `LockQueues.enter`."""
        entry = await self._enter_own_queue(name, ttl_ms, value, on_wait)
        try:
            with CancelOnLoss(entry, str(entry)):
                await wait_for_older_entries(self.client, self._others, entry.token, on_wait)
            entry.check()
        except BaseException:
            self.abandon(entry)
            raise
        return entry

    async def enter_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, *, once: bool = False
    ) -> QueueEntry | None:
        """As `LockQueues.enter_if_free`."""
        entry = await self._enter_own_queue_if_free(name, ttl_ms, value, once)
        if entry is None:
            return None
        try:
            before, _ = await last_entry_before(
                self.client, self._others, entry.token, timeout=0 if once else None
            )
        except BaseException:
            self.abandon(entry)
            raise
        if before is None and entry.remaining():
            return entry
        self.abandon(entry)
        return None

    async def _enter_own_queue(
        self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait
    ) -> QueueEntry:
        raise NotImplementedError

    async def _enter_own_queue_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, once: bool
    ) -> QueueEntry | None:
        raise NotImplementedError


class _Readers(_KindQueues):
    """Readers do not wait for each other."""

    async def _enter_own_queue(
        self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait
    ) -> QueueEntry:
        return await self._enter_own_queue_if_free(name, ttl_ms, value, False)

    async def _enter_own_queue_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, once: bool
    ) -> QueueEntry:
        return await self.queues.join(name, ttl_ms, value, once=once)


class _Writers(_KindQueues):
    """Writers hold the lock one after the other."""

    async def _enter_own_queue(
        self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait
    ) -> QueueEntry:
        return await self.queues.enter(name, ttl_ms, value, on_wait)

    async def _enter_own_queue_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, once: bool
    ) -> QueueEntry | None:
        return await self.queues.enter_if_free(name, ttl_ms, value, once=once)

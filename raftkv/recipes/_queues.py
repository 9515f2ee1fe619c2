"""Queues of a recipe: which entries they have, when an older entry goes, and the locks on them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from raftkv.client.client import Client
from raftkv.client.coordination.lock import Lock
from raftkv.client.coordination.owners import Owners
from raftkv.client.coordination.queue import OnWait
from raftkv.client.coordination.queue_entry import QueueEntry
from raftkv.client.model.results import KeyValue
from raftkv.errors import OutcomeUnknown, RevisionCompacted, Unavailable
from raftkv.wire.lock_keys import entry_key, is_entry, queue_bounds

T = TypeVar("T")

RETRY_PAUSE_S: Final = 0.05


class SharedLock(Lock):
    """A lock with several holders at a time: a reader's lock, or a slot of a semaphore.

    It behaves as a lock of `client.lock`, but it is no fence: `fence=` refuses it, because a fence
    admits the oldest holder only, and here later holders have the same right. A transaction that
    compares `when.create_revision(lock.key) == lock.token` is refused once this lock is lost.
    """

    shared: Final = True


class RecipeOwners:
    """Admits one entry per task under a recipe, over all of the recipe's queues."""

    def __init__(self, owners: Owners, name: bytes) -> None:
        self._owners = owners
        self._name = name

    def add(self, name: bytes, owner: object) -> None:
        """Raises `LockReentered`."""
        self._owners.add(self._name, owner)

    def remove(self, name: bytes, owner: object) -> None:
        """The owner has no entry any more."""
        self._owners.remove(self._name, owner)


class SharedQueues:
    """The queues of one recipe, as its locks use them. A subclass decides which entry holds."""

    def __init__(self, client: Client, name: bytes) -> None:
        self.client = client
        self.queues = client.queues
        self.answer_s_max = self.queues.answer_s_max
        self.owners: Owners = RecipeOwners(self.queues.owners, name)
        self.timeout_s = self.queues.timeout_s
        self.home = self.queues.home

    def abandon(self, entry: QueueEntry) -> asyncio.Future[bool]:
        """As `LockQueues.abandon`."""
        return self.queues.abandon(entry)


def refuse_to_wait() -> None:
    """The `OnWait` of timeout 0: to wait for others counts as a timeout."""
    raise TimeoutError


async def retry_until_answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Call `ask` until it returns. `ask` must be idempotent.

    Only for a caller that has a queue entry: the loss of the entry cancels the loop.
    """
    while True:
        try:
            return await ask()
        except (Unavailable, OutcomeUnknown):
            await asyncio.sleep(RETRY_PAUSE_S)


async def queue_entries(
    client: Client, name: bytes, timeout: float | None = None
) -> tuple[tuple[KeyValue, ...], int]:
    """The entries of the queue `name` in order, without values, and the revision of that state."""
    found = await client.range(*queue_bounds(name), keys_only=True, timeout=timeout)
    entries = (kv for kv in found.kvs if is_entry(name, kv.key, kv.create_revision))
    return tuple(entries), found.revision


async def last_entry_before(
    client: Client, name: bytes, before: int, *, timeout: float | None = None
) -> tuple[KeyValue | None, int]:
    """The last entry that is older than the token `before`, and the revision of that state."""
    (start, _), end = queue_bounds(name), entry_key(name, before)
    while True:
        found = await client.range(
            start, end, limit=1, descending=True, keys_only=True, timeout=timeout
        )
        if not found.kvs:
            return None, found.revision
        last = found.kvs[0]
        if is_entry(name, last.key, last.create_revision):
            return last, found.revision
        end = last.key  # not an entry: another program's key


async def wait_for_older_entries(
    client: Client, name: bytes, token: int, on_wait: OnWait = bool
) -> None:
    """Wait until no entry of the queue is older than `token`; `on_wait` is called if one is.

    New entries have greater tokens, so it is enough to watch the last of the older entries.
    """
    while True:
        entry, revision = await retry_until_answered(lambda: last_entry_before(client, name, token))
        if entry is None:
            return
        on_wait()
        await wait_for_change(client, entry.key, after=revision, puts=False)


async def wait_for_change(
    client: Client,
    start: bytes,
    end: bytes | None = None,
    *,
    after: int,
    puts: bool = True,
    deletes: bool = True,
) -> None:
    """Wait for a change of the key or range after revision `after`, or until that is compacted.

    The watch starts at `after` + 1, so no change between the read and the watch is missed.
    """
    watch = client.watch(start, end, from_revision=after + 1, puts=puts, deletes=deletes)
    try:
        await anext(watch, None)
    except RevisionCompacted:
        return  # the change, if there was one, can't be watched any more: the caller reads again
    finally:
        await watch.close()

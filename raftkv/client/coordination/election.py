"""Elections: candidates queue for a name as for a lock; its holder leads, and publishes a value."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from raftkv.arguments import to_timeout_or_none
from raftkv.client.coordination.lock import Hold, timeout_error
from raftkv.client.coordination.queue import LockQueues
from raftkv.client.coordination.queue_entry import QueueEntry
from raftkv.client.model.results import EventKind, KeyValue, PutResult, RangeResult, WatchEvent
from raftkv.client.requests import Fences, to_value
from raftkv.client.settings import ClientSettings
from raftkv.client.watch.watch import Watch
from raftkv.errors import FencedOff, KeyNotFound, LockLost, NotElected, RaftkvError, printable
from raftkv.wire.lock_keys import is_entry, queue_bounds

# Foreign keys may be among the candidates' keys: read some more than the first.
CANDIDATES_PER_READ = 16


class ElectionStore(Protocol):
    """What an election needs of a client besides its queues."""

    async def put(
        self,
        key: str | bytes,
        value: str | bytes = b"",
        *,
        ignore_lease: bool = False,
        fence: Fences = None,
        timeout: float | None = None,
    ) -> PutResult: ...

    async def range(
        self, start: str | bytes, end: str | bytes, *, limit: int = 0, timeout: float | None = None
    ) -> RangeResult: ...

    def watch(self, start: bytes, end: bytes, *, from_revision: int) -> Watch: ...


@dataclass(frozen=True, slots=True)
class LeaderInfo:
    """The leader of an election: its last value, and its token, greater than that of every leader
    before.
    """

    token: int
    value: bytes
    key: bytes
    lease: int


class Leadership(Hold):
    """An election that was won, until it is resigned or lost.

        async with await client.election("scheduler").campaign("host-7") as leadership:
            await client.put("schedule", data, fence=leadership)

    Within the block the task is cancelled if the leadership is lost, and `LockLost` is raised at
    its end.

    The end of the block resigns. The leadership is lost under the same conditions as a `Lock`.
    """

    def __init__(self, queues: LockQueues, entry: QueueEntry, store: ElectionStore) -> None:
        super().__init__(queues, entry)
        self._store = store

    @property
    def described(self) -> str:
        """What it is called in the messages of errors."""
        return f"the leadership of {printable(self.name)}"

    async def proclaim(self, value: str | bytes, *, timeout: float | None = None) -> int:
        """Replace the value that `leader` and `observe` show; returns the revision.

        - `value`: at most 1 MiB.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `LockLost` if it does not lead any more; `InvalidRequest` or `TooLarge`;
        `DeadlineExceeded` if nothing was changed; `OutcomeUnknown`; `WrongCluster`. Costs one
        write.
        """
        try:
            put = await self._store.put(
                self.key, value, ignore_lease=True, fence=self, timeout=timeout
            )
        except (FencedOff, KeyNotFound) as error:
            raise LockLost(
                f"token {self._entry.token} leads {printable(self.name)} no more ({error})",
                name=self.name,
            ) from None
        return put.revision

    async def resign(self) -> bool:
        """Let the next candidate lead; False if the leadership was lost before.

        During an outage this returns after the client's timeout and goes on in the background.
        Costs one write.
        """
        return await self.release()


class Election:
    """An election of the cluster, made by `client.election`. Times are in seconds."""

    name: bytes
    """The name of the election."""

    def __init__(
        self,
        queues: LockQueues,
        store: ElectionStore,
        settings: ClientSettings,
        name: bytes,
        ttl_ms: int,
    ) -> None:
        self.name = name
        self._settings = settings
        self._queues = queues
        self._store = store
        self._ttl_ms = ttl_ms

    async def campaign(self, value: str | bytes, *, timeout: float | None = None) -> Leadership:
        """Wait until elected.

        - `value`: at most 1 MiB, shown by `leader` and `observe`.
        - `timeout`: seconds; None: as long as others lead, 0: one attempt.

        Raises `NotElected` after the timeout if others lead; `DeadlineExceeded` if it is not known
        whether they do (timeout 0: or what a node refused the attempt with); `LockLost` if its
        queue entry was lost while it waited: it never leads then; `OutcomeUnknown` as
        `Lock.acquire`; `InvalidRequest` or `TooLarge`; `WrongCluster`. Costs one write,
        and while it waits one open call at a node.
        """
        data = to_value(value, self._settings)
        once = to_timeout_or_none(timeout) == 0
        wait_s = self._queues.answer_s_max if once else timeout
        behind = False

        def on_wait() -> None:
            nonlocal behind
            behind = True

        wanted = f"not elected for {printable(self.name)}"
        entry: QueueEntry | None
        self._queues.home.check()
        try:
            async with asyncio.timeout(wait_s):
                if once:
                    entry = await self._queues.enter_if_free(
                        self.name, self._ttl_ms, data, once=True
                    )
                else:
                    entry = await self._queues.enter(self.name, self._ttl_ms, data, on_wait)
        except TimeoutError:
            wanted = f"{wanted} within {wait_s:g} s"
            raise _timeout_error(self.name, wanted, behind=behind) from None
        if entry is None:
            raise _timeout_error(self.name, f"{wanted} at once", behind=True)
        return Leadership(self._queues, entry, self._store)

    async def leader(self, *, timeout: float | None = None) -> LeaderInfo | None:
        """The present leader; None: there is none.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `DeadlineExceeded` and `WrongCluster`. Costs one linearizable read.
        """
        start, end = queue_bounds(self.name)
        while True:
            found = await self._store.range(start, end, limit=CANDIDATES_PER_READ, timeout=timeout)
            for kv in found.kvs:
                if is_entry(self.name, kv.key, kv.create_revision):
                    return _leader_of(kv)
            if not found.more:
                return None
            start = found.kvs[-1].key + b"\x00"

    async def observe(self) -> AsyncGenerator[LeaderInfo | None, None]:
        """The present leader, and from now on each new leader and each new value; None: there is
        none.

        Leaders come in the order of their tokens. No leader and no value is left out, also if a
        value equals the one before. It goes on over failures of nodes. Raises `RevisionCompacted`
        if its consumer is so slow that the next change is compacted; `DeadlineExceeded` if the
        first read fails; `WrongCluster`. Costs one read and one watch.
        """
        start, end = queue_bounds(self.name)
        now = await self._store.range(start, end)
        candidates = {
            kv.key: kv for kv in now.kvs if is_entry(self.name, kv.key, kv.create_revision)
        }
        yielded = _first(candidates)
        yield _leader_of(yielded) if yielded else None
        watch = self._store.watch(start, end, from_revision=now.revision + 1)
        try:
            async for batch in watch.batches():
                for _, events in itertools.groupby(batch, lambda event: event.revision):
                    for event in events:
                        _follow(self.name, candidates, event)
                    first = _first(candidates)
                    if first != yielded:  # a put of an equal value has a new mod_revision
                        yielded = first
                        yield _leader_of(first) if first else None
        finally:
            await watch.close()


def _timeout_error(name: bytes, wanted: str, *, behind: bool) -> RaftkvError:
    return timeout_error(name, wanted, "others lead", behind=behind, refusal=NotElected)


def _leader_of(kv: KeyValue) -> LeaderInfo:
    return LeaderInfo(kv.create_revision, kv.value, kv.key, kv.lease)


def _first(candidates: dict[bytes, KeyValue]) -> KeyValue | None:
    return candidates[min(candidates)] if candidates else None


def _follow(name: bytes, candidates: dict[bytes, KeyValue], event: WatchEvent) -> None:
    if event.kind is EventKind.DELETE:
        candidates.pop(event.key, None)
    elif event.kv is not None and is_entry(name, event.kv.key, event.kv.create_revision):
        candidates[event.key] = event.kv

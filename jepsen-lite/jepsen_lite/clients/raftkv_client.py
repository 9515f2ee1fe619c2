"""The adapter of raftkv's client to the harness's client protocol."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from typing import Any, TypeVar

import raftkv
from jepsen_lite.clients.protocol import (
    WATCHED_KINDS,
    Change,
    Conflict,
    DeletedPage,
    Fence,
    KeyValue,
    Leader,
    PrefixRead,
    Swap,
    Transaction,
)
from jepsen_lite.clients.raftkv_commands import RaftkvCommands, text_of
from jepsen_lite.clients.raftkv_errors import mapped_errors
from jepsen_lite.clients.raftkv_users import RaftkvUsers
from raftkv.client.client import Client
from raftkv.errors import LeaseNotFound

T = TypeVar("T")
PROGRESS = raftkv.EventKind.PROGRESS


async def connect(
    endpoints: Sequence[str], *, padding_max: int = 0, lease_reads: bool = False, **options: Any
) -> RaftkvClient:
    """Connect as `raftkv.connect` does, with its options. Raises `OperationError`.

    `padding_max`: values are stored with up to that many blanks after them, which readers do not
    see, so that any workload has large values. `lease_reads`: reads of the present state are of
    level `LEADER_LEASE`, which promises what a linearizable read does.
    """
    with mapped_errors():
        client = await raftkv.connect(list(endpoints), **options)
    return RaftkvClient(client, padding_max, lease_reads=lease_reads)


class RaftkvClient:
    """A `KvClient`. Retries, sessions and idempotency are those of raftkv's client."""

    def __init__(self, client: Client, padding_max: int = 0, *, lease_reads: bool = False) -> None:
        self._client = client
        self._padding_max = padding_max
        levels = raftkv.ReadLevel
        self._present = levels.LEADER_LEASE if lease_reads else levels.LINEARIZABLE
        self.leases = RaftkvLeases(client)
        self.locks = RaftkvLocks(client)
        self.commands = RaftkvCommands(client)
        self.users = RaftkvUsers(client)

    async def put(
        self, key: str, value: str = "", *, timeout_s: float, fence: Fence | None = None
    ) -> int:
        with mapped_errors():
            stored = self._padded(value)
            return (await self._client.put(key, stored, fence=fence, timeout=timeout_s)).revision

    async def get(
        self, key: str, *, timeout_s: float, revision: int = 0, staleness_s_max: float = 0.0
    ) -> KeyValue | None:
        level: Any = self._present
        if staleness_s_max == math.inf:
            level = raftkv.ReadLevel.STALE
        elif staleness_s_max:
            level = raftkv.bounded(staleness_s_max)
        with mapped_errors():
            found = await self._client.get(key, revision=revision, level=level, timeout=timeout_s)
        return None if found is None else _key_value(found)

    async def read_prefix(
        self, prefix: str, *, timeout_s: float, keys_only: bool = False, session: bool = False
    ) -> PrefixRead:
        level = raftkv.ReadLevel.SESSION if session else self._present
        with mapped_errors():
            found = await self._client.range_prefix(
                prefix, keys_only=keys_only, level=level, timeout=timeout_s
            )
        return PrefixRead(found.revision, list(map(_key_value, found.kvs)))

    async def scan_prefix(
        self, prefix: str, *, page_keys: int, timeout_s: float
    ) -> AsyncIterator[KeyValue]:
        with mapped_errors():
            async for kv in self._client.scan_prefix(
                prefix, keys_only=True, page_keys=page_keys, timeout=timeout_s
            ):
                yield _key_value(kv)

    async def read_many(
        self, keys: Sequence[str], *, timeout_s: float
    ) -> dict[str, KeyValue | None]:
        with mapped_errors():
            read = await self._client.txn(
                success=[raftkv.op.get(key) for key in keys], timeout=timeout_s
            )
        found: dict[str, KeyValue | None] = {}
        for key, response in zip(keys, read.responses, strict=True):
            assert isinstance(response, raftkv.RangeResult)
            found[key] = _key_value(response.kvs[0]) if response.kvs else None
        return found

    async def write_many(
        self,
        values: Mapping[str, str],
        *,
        timeout_s: float,
        unchanged: Mapping[str, KeyValue | None] | None = None,
    ) -> int:
        with mapped_errors():
            wrote = await self._client.txn(
                compare=[
                    raftkv.when.mod_revision(key) == (kv.mod_revision if kv else 0)
                    for key, kv in (unchanged or {}).items()
                ],
                success=[raftkv.op.put(key, self._padded(value)) for key, value in values.items()],
                timeout=timeout_s,
            )
        if not wrote.succeeded:
            raise Conflict("a key has changed since it was read")
        return wrote.revision

    async def compare_and_swap(
        self, key: str, expected: str | None, new: str, *, timeout_s: float
    ) -> Swap:
        with mapped_errors():
            before = None if expected is None else self._padded(expected)
            after = self._padded(new)
            result = await self._client.compare_and_swap(key, before, after, timeout=timeout_s)
        current = None if result.current is None else _key_value(result.current)
        return Swap(result.swapped, current)

    async def delete(
        self, key: str, *, timeout_s: float, fence: Fence | None = None
    ) -> tuple[int, bool]:
        with mapped_errors():
            done = await self._client.delete(key, fence=fence, timeout=timeout_s)
        return done.revision, done.deleted > 0

    async def delete_first(self, prefix: str, limit: int, *, timeout_s: float) -> DeletedPage:
        with mapped_errors():
            page = await self._client.delete_prefix(
                prefix, limit=limit, prev_kv=True, timeout=timeout_s
            )
        return DeletedPage(list(map(_key_value, page.prev_kvs)), page.more)

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, timeout_s: float) -> T:
        with mapped_errors():
            return await self._client.transaction(body, timeout=timeout_s)

    def watch(
        self,
        prefix: str,
        from_revision: int,
        *,
        kinds: Sequence[str] = WATCHED_KINDS,
        progress: bool = False,
    ) -> RaftkvWatch:
        with mapped_errors():
            return RaftkvWatch(
                self._client.watch(
                    prefix=prefix,
                    from_revision=from_revision,
                    prev_kv=True,
                    puts="put" in kinds,
                    deletes="delete" in kinds,
                    progress=progress,
                )
            )

    def _padded(self, value: str) -> str:
        """Every client stores a value with the same padding, so that it can be compared."""
        if not value or not self._padding_max:
            return value
        return value + " " * (zlib.crc32(value.encode()) % (self._padding_max + 1))

    async def close(self) -> None:
        with mapped_errors():
            await self._client.close()


class RaftkvWatch:
    """A `Watch`."""

    def __init__(self, watch: raftkv.Watch) -> None:
        self._watch = watch

    @property
    def revision(self) -> int:
        return self._watch.revision

    async def batches(self) -> AsyncIterator[Sequence[Change]]:
        with mapped_errors():
            async for batch in self._watch.batches():
                yield [_change(event) for event in batch if event.kind is not PROGRESS]

    async def close(self) -> None:
        with mapped_errors():
            await self._watch.close()


class RaftkvLeases:
    """A `LeaseClient`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def grant(self, ttl_s: float, *, timeout_s: float) -> int:
        with mapped_errors():
            return (await self._client.lease_grant(ttl_s, timeout=timeout_s)).lease

    async def renew(self, lease: int, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._client.lease_renew(lease, timeout=timeout_s)

    async def revoke(self, lease: int, *, timeout_s: float, fence: Fence | None = None) -> None:
        with mapped_errors():
            await self._client.lease_revoke(lease, fence=fence, timeout=timeout_s)

    async def is_alive(self, lease: int, *, timeout_s: float) -> bool:
        with mapped_errors():
            try:
                await self._client.lease_time_to_live(lease, timeout=timeout_s)
            except LeaseNotFound:
                return False
        return True


class RaftkvLocks:
    """A `LockClient`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def lock(self, name: str, ttl_s: float) -> RaftkvLock:
        return RaftkvLock(name, self._client.lock(name, ttl=ttl_s))

    def election(self, name: str, ttl_s: float) -> RaftkvElection:
        return RaftkvElection(self._client.election(name, ttl=ttl_s))

    async def holder(self, name: str, *, timeout_s: float) -> tuple[int, int] | None:
        with mapped_errors():
            holder = (await self._client.lock_info(name, timeout=timeout_s)).holder
        return None if holder is None else (holder.token, holder.lease)

    async def waiters(self, name: str, *, timeout_s: float) -> list[int]:
        with mapped_errors():
            queue = await self._client.lock_info(name, timeout=timeout_s)
        return [waiter.token for waiter in queue.waiters]


class RaftkvHold:
    """A `LockHold` of a lock or of a leadership."""

    def __init__(self, hold: raftkv.Lock | raftkv.Leadership) -> None:
        self._hold = hold

    @property
    def token(self) -> int:
        with mapped_errors():
            return self._hold.token

    def remaining_s(self) -> float:
        return self._hold.remaining()

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._hold.on_lost(callback)

    async def release(self) -> bool:
        with mapped_errors():
            return await self._hold.release()


class RaftkvLock(RaftkvHold):
    """A `Lock`."""

    def __init__(self, name: str, lock: raftkv.Lock) -> None:
        super().__init__(lock)
        self.name = name
        self._lock = lock

    async def acquire(self, timeout_s: float | None = None) -> None:
        with mapped_errors():
            await self._lock.acquire(timeout=timeout_s)


class RaftkvElection:
    """An `Election`."""

    def __init__(self, election: raftkv.Election) -> None:
        self._election = election

    async def campaign(self, value: str, timeout_s: float | None = None) -> RaftkvHold:
        with mapped_errors():
            return RaftkvHold(await self._election.campaign(value, timeout=timeout_s))

    async def observe(self) -> AsyncGenerator[Leader | None, None]:
        with mapped_errors():
            async with contextlib.aclosing(self._election.observe()) as seen:
                async for leader in seen:
                    yield Leader(leader.token, leader.value.decode()) if leader else None


def _key_value(kv: raftkv.KeyValue) -> KeyValue:
    return KeyValue(
        text_of(kv.key),
        text_of(kv.value).rstrip(" "),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        kv.lease,
    )


def _change(event: raftkv.WatchEvent) -> Change:
    return Change(
        event.revision,
        text_of(event.key),
        text_of(event.value).rstrip(" ") if event.kind is raftkv.EventKind.PUT else None,
        None if event.prev_kv is None else text_of(event.prev_kv.value).rstrip(" "),
        event.created,
    )

"""The synchronous twins of locks, elections and kept leases.

A thread can't be stopped from outside. So where the asynchronous one cancels a block, these tell of
a loss by callback, at the next question for the token, at `check()` and at the end of the block.
Callbacks run on the client's own thread: they must be quick and may not call the client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from raftkv.client.coordination.election import Election, LeaderInfo, Leadership
from raftkv.client.coordination.lease import KeptLease
from raftkv.client.coordination.lock import Hold, Lock
from raftkv.client.sync.portal import shared_portal, twin_of

H = TypeVar("H")


class Holdable(Protocol[H]):
    """A lock, or several that are held together."""

    async def acquire_for(self, owner: object, timeout: float | None) -> H: ...
    def abandon(self, held: H) -> object: ...
    async def exit_block(
        self,
        held: H,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class HeldByThreads(Generic[H]):
    """What threads take one after the other, and the blocks that they run under it."""

    def __init__(self, holdable: Holdable[H], block_timeout: float | None = None) -> None:
        self._blocks: dict[threading.Thread, H] = {}
        self._holdable = holdable
        self._block_timeout = block_timeout
        self._portal = shared_portal()

    def __del__(self) -> None:
        # A block keeps this object alive, so each of these ended without `__exit__`: a signal
        # handler raised at its first instruction.
        for held in self._blocks.values():
            self._portal.let_go(self._holdable.exit_block, held, None, None, None)

    def __enter__(self) -> Self:
        thread = threading.current_thread()  # before: nothing may be called once it is held
        self._blocks[thread] = self._acquire(self._block_timeout)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        thread = threading.current_thread()
        self._portal.leave(kind, self._leave, thread, kind, error, traceback)

    def _acquire(self, timeout: float | None) -> H:
        thread = threading.current_thread()
        return self._portal.hold(self._give_back, self._holdable.acquire_for, thread, timeout)

    def _give_back(self, held: H) -> None:
        self._holdable.abandon(held)

    async def _leave(
        self,
        thread: threading.Thread,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._holdable.exit_block(self._blocks.pop(thread), kind, error, traceback)


class SyncLock(HeldByThreads[Hold]):
    """A lock of the cluster, made by `client.lock`. Held by one thread of all clients at a time.

        with client.lock("report") as lock:
            client.put("report", data, fence=lock)

    Threads may share a lock: they take it one after the other. Times are in seconds. If it was
    lost within the block, the block's end raises `LockLost`. Until then nothing stops the thread:
    a call with `fence=lock` raises `LockLost`, a call without goes through as if nothing had been.
    """

    def __init__(self, lock: Lock) -> None:
        super().__init__(lock)
        self._lock = lock

    @property
    def name(self) -> bytes:
        """What it is a lock on."""
        return self._lock.name

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every holder before.

        Raises `LockLost` if the lock is not held.
        """
        return self._lock.token

    @property
    def key(self) -> bytes:
        """The key that stands for the holder. Raises `LockLost` if the lock is not held."""
        return self._lock.key

    @twin_of(Lock.remaining)
    def remaining(self) -> float:
        return self._lock.remaining()

    @twin_of(Lock.check)
    def check(self) -> None:
        self._lock.check()

    @twin_of(Lock.on_lost)
    def on_lost(self, callback: Callable[[], None]) -> None:
        self._portal.call(_on_lost, self._lock, callback)

    @twin_of(Lock.acquire)
    def acquire(self, *, timeout: float | None = None) -> Self:
        self._acquire(timeout)
        return self

    @twin_of(Lock.try_acquire)
    def try_acquire(self) -> bool:
        thread = threading.current_thread()
        return self._portal.hold(self._undo_try, self._lock.try_acquire_for, thread)

    @twin_of(Lock.release)
    def release(self) -> bool:
        return self._portal.finish(self._lock.release)

    def _undo_try(self, acquired: bool) -> Coroutine[Any, Any, bool] | None:
        return self._lock.release() if acquired else None


class SyncLeadership:
    """An election that was won, until it is resigned or lost; `with` resigns at the block's end."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._portal = shared_portal()

    @property
    def name(self) -> bytes:
        """What is held."""
        return self._leadership.name

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every leader before. Raises `LockLost`."""
        return self._leadership.token

    @property
    def key(self) -> bytes:
        """The key whose owner leads. Raises `LockLost`."""
        return self._leadership.key

    @twin_of(Leadership.remaining)
    def remaining(self) -> float:
        return self._leadership.remaining()

    @twin_of(Leadership.check)
    def check(self) -> None:
        self._leadership.check()

    @twin_of(Leadership.on_lost)
    def on_lost(self, callback: Callable[[], None]) -> None:
        self._portal.call(_on_lost, self._leadership, callback)

    @twin_of(Leadership.proclaim)
    def proclaim(self, value: str | bytes, *, timeout: float | None = None) -> int:
        return self._portal.call(self._leadership.proclaim, value, timeout=timeout)

    @twin_of(Leadership.resign)
    def resign(self) -> bool:
        return self._portal.finish(self._leadership.resign)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.leave(kind, self._leadership.__aexit__, kind, error, traceback)

    @property
    def asynchronous(self) -> Leadership:
        """What does the work, on the portal's loop."""
        return self._leadership


class SyncElection:
    """An election of the cluster, made by `client.election`. Times are in seconds."""

    def __init__(self, election: Election) -> None:
        self._election = election
        self._portal = shared_portal()

    @property
    def name(self) -> bytes:
        """What it is an election for."""
        return self._election.name

    @twin_of(Election.campaign)
    def campaign(self, value: str | bytes, *, timeout: float | None = None) -> SyncLeadership:
        async def campaign() -> SyncLeadership:
            return SyncLeadership(await self._election.campaign(value, timeout=timeout))

        def abandon(leadership: SyncLeadership) -> None:
            leadership.asynchronous.abandon()

        return self._portal.hold(abandon, campaign)

    @twin_of(Election.leader)
    def leader(self, *, timeout: float | None = None) -> LeaderInfo | None:
        return self._portal.call(self._election.leader, timeout=timeout)

    @twin_of(Election.observe)
    def observe(self) -> Iterator[LeaderInfo | None]:
        leaders = _Leaders(self._election.observe())
        try:
            while True:
                try:
                    yield self._portal.call(leaders.next)
                except StopAsyncIteration:
                    return
        finally:
            self._portal.let_go(leaders.close)  # garbage collection may end it, on any thread


class SyncKeptLease:
    """A lease that its client renews in the background; `lost` is set when it can't be trusted.

    Made on the client's loop.
    """

    def __init__(self, kept: KeptLease) -> None:
        self._kept = kept
        self._portal = shared_portal()
        self.id = kept.id
        self.ttl = kept.ttl
        self.lost = threading.Event()
        kept.on_lost(self.lost.set)

    @twin_of(KeptLease.remaining)
    def remaining(self) -> float:
        return self._kept.remaining()

    @twin_of(KeptLease.check)
    def check(self) -> None:
        self._kept.check()

    @twin_of(KeptLease.on_lost)
    def on_lost(self, callback: Callable[[], None]) -> None:
        self._portal.call(_on_lost, self._kept, callback)


class _Leaders:
    """A generator that is closed only after an interrupted `next` has ended."""

    def __init__(self, leaders: AsyncGenerator[LeaderInfo | None, None]) -> None:
        self._leaders = leaders
        self._in_use = asyncio.Lock()

    async def next(self) -> LeaderInfo | None:
        async with self._in_use:
            return await anext(self._leaders)

    async def close(self) -> None:
        async with self._in_use:
            await self._leaders.aclose()


async def _on_lost(held: Lock | Hold | KeptLease, callback: Callable[[], None]) -> None:
    held.on_lost(callback)

"""The synchronous twins of locks, elections and kept leases.

A thread can't be stopped from outside. So where the asynchronous one cancels a block, these tell of
a loss by callback, at the next question for the token, at `check()` and at the end of the block.
Callbacks run on the client's own thread: they must be quick and may not call the client.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from types import TracebackType
from typing import Self

from raftkv.client.elections import Election, LeaderInfo, Leadership
from raftkv.client.held import Held
from raftkv.client.kept_leases import KeptLease
from raftkv.client.locks import Lock
from raftkv.client.portal import shared_portal
from raftkv.client.twins import twin_of


class SyncLock:
    """A lock of the cluster, made by `client.lock`. Held by one thread of all clients at a time.

        with client.lock("report") as lock:
            client.put("report", data, fence=lock)

    Threads may share a lock: they take it one after the other. Times are in seconds. If it was
    lost within the block, the block's end raises `LockLost`. Until then nothing stops the thread:
    a call with `fence=lock` raises `LockLost`, a call without goes through as if nothing had been.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._call = shared_portal().call
        self._blocks: dict[threading.Thread, Held] = {}

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
        self._call(_done(lambda: self._lock.on_lost(callback)))

    @twin_of(Lock.acquire)
    def acquire(self, *, timeout: float | None = None) -> Self:
        self._call(self._lock.acquire_for(threading.current_thread(), timeout))
        return self

    @twin_of(Lock.try_acquire)
    def try_acquire(self) -> bool:
        return self._call(self._lock.try_acquire_for(threading.current_thread()))

    @twin_of(Lock.release)
    def release(self) -> bool:
        return self._call(self._lock.release())

    def __enter__(self) -> Self:
        thread = threading.current_thread()
        self._blocks[thread] = self._call(self._lock.acquire_for(thread, None))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        held = self._blocks.pop(threading.current_thread())
        self._call(self._lock.leave(held, kind, error, traceback))


class SyncLeadership:
    """An election that was won, until it is resigned or lost; `with` resigns at the block's end."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._call = shared_portal().call

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
        self._call(_done(lambda: self._leadership.on_lost(callback)))

    @twin_of(Leadership.proclaim)
    def proclaim(self, value: str | bytes, *, timeout: float | None = None) -> int:
        return self._call(self._leadership.proclaim(value, timeout=timeout))

    @twin_of(Leadership.resign)
    def resign(self) -> bool:
        return self._call(self._leadership.resign())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._leadership.__aexit__(kind, error, traceback))


class SyncElection:
    """An election of the cluster, made by `client.election`. Times are in seconds."""

    def __init__(self, election: Election) -> None:
        self._election = election
        self._call = shared_portal().call

    @property
    def name(self) -> bytes:
        """What it is an election for."""
        return self._election.name

    @twin_of(Election.campaign)
    def campaign(self, value: str | bytes, *, timeout: float | None = None) -> SyncLeadership:
        return SyncLeadership(self._call(self._election.campaign(value, timeout=timeout)))

    @twin_of(Election.leader)
    def leader(self, *, timeout: float | None = None) -> LeaderInfo | None:
        return self._call(self._election.leader(timeout=timeout))

    @twin_of(Election.observe)
    def observe(self) -> Iterator[LeaderInfo | None]:
        # Not closed here: if it is left by `break`, that may happen on any thread, also on the
        # portal's. The portal's loop closes what nobody refers to any more.
        leaders = self._election.observe()
        while True:
            try:
                yield self._call(_next(leaders))
            except StopAsyncIteration:
                return


class SyncKeptLease:
    """A lease that its client renews in the background; `lost` is set when it can't be trusted."""

    def __init__(self, kept: KeptLease) -> None:
        self._kept = kept
        self._call = shared_portal().call
        self.id = kept.id
        self.ttl = kept.ttl
        self.lost = threading.Event()
        self.on_lost(self.lost.set)

    @twin_of(KeptLease.remaining)
    def remaining(self) -> float:
        return self._kept.remaining()

    @twin_of(KeptLease.check)
    def check(self) -> None:
        self._kept.check()

    @twin_of(KeptLease.on_lost)
    def on_lost(self, callback: Callable[[], None]) -> None:
        self._call(_done(lambda: self._kept.on_lost(callback)))


async def _next(leaders: AsyncGenerator[LeaderInfo | None, None]) -> LeaderInfo | None:
    return await anext(leaders)


async def _done(act: Callable[[], None]) -> None:
    act()

"""The recipes for code without an event loop: the same classes, on a client of `connect_sync`.

    from raftkv.recipes.sync import ReadWriteLock

    with raftkv.connect_sync("127.0.0.1:7411") as client:
        with ReadWriteLock(client, "report").write() as writer:
            client.put("report", data, fence=writer)

A thread can't be stopped from outside: a loss is told by callback, by `check()`, and as `LockLost`
at the block's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self, overload

from raftkv.arguments import to_instance
from raftkv.client.client import Client
from raftkv.client.coordination.lock import Hold
from raftkv.client.sync.client import SyncClient
from raftkv.client.sync.locks import HeldByThreads, SyncLock
from raftkv.client.sync.portal import shared_portal, twin_of
from raftkv.recipes import barrier, counter, double_barrier, lock_set, read_write_lock, semaphore


class ReadWriteLock:
    __doc__ = read_write_lock.ReadWriteLock.__doc__

    def __init__(self, client: SyncClient, name: str | bytes, *, ttl: float = 10.0) -> None:
        self._lock = read_write_lock.ReadWriteLock(_asynchronous(client), name, ttl=ttl)

    @twin_of(read_write_lock.ReadWriteLock.read)
    def read(self) -> SyncSharedLock:
        return SyncSharedLock(self._lock.read())

    @twin_of(read_write_lock.ReadWriteLock.write)
    def write(self) -> SyncLock:
        return SyncLock(self._lock.write())


class SyncSharedLock(SyncLock):
    """A lock that others may hold at the same time: no fence, see `SharedLock`."""

    shared = True


class Semaphore:
    __doc__ = semaphore.Semaphore.__doc__

    def __init__(
        self, client: SyncClient, name: str | bytes, slots: int, *, ttl: float = 10.0
    ) -> None:
        self._semaphore = semaphore.Semaphore(_asynchronous(client), name, slots, ttl=ttl)

    @twin_of(semaphore.Semaphore.slot)
    def slot(self) -> SyncSharedLock:
        return SyncSharedLock(self._semaphore.slot())


class LockSet(HeldByThreads[list[Hold]], Sequence[SyncLock]):
    __doc__ = lock_set.LockSet.__doc__

    def __init__(self, locks: lock_set.LockSet, timeout: float | None) -> None:
        super().__init__(locks, timeout)
        self._locks = locks
        self._twins = tuple(SyncLock(lock) for lock in locks)

    @property
    def names(self) -> tuple[bytes, ...]:
        """What they are locks on, sorted."""
        return self._locks.names

    @property
    def tokens(self) -> dict[bytes, int]:
        """The fencing token of each name. Raises `LockLost`."""
        return self._locks.tokens

    @twin_of(lock_set.LockSet.remaining)
    def remaining(self) -> float:
        return self._locks.remaining()

    @twin_of(lock_set.LockSet.check)
    def check(self) -> None:
        self._locks.check()

    @twin_of(lock_set.LockSet.on_lost)
    def on_lost(self, callback: Callable[[], None]) -> None:
        for lock in self._twins:
            lock.on_lost(callback)

    @twin_of(lock_set.LockSet.acquire)
    def acquire(self, *, timeout: float | None = None) -> Self:
        self._acquire(timeout)
        return self

    @twin_of(lock_set.LockSet.release)
    def release(self) -> bool:
        return self._portal.finish(self._locks.release)

    def __len__(self) -> int:
        return len(self._twins)

    def __iter__(self) -> Iterator[SyncLock]:
        return iter(self._twins)

    @overload
    def __getitem__(self, which: int) -> SyncLock: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[SyncLock]: ...
    def __getitem__(self, which: int | slice) -> SyncLock | Sequence[SyncLock]:
        return self._twins[which]


@twin_of(lock_set.locked)
def locked(
    client: SyncClient, *names: str | bytes, ttl: float = 10.0, timeout: float | None = None
) -> LockSet:
    return LockSet(
        lock_set.locked(_asynchronous(client), *names, ttl=ttl, timeout=timeout), timeout
    )


class Barrier:
    __doc__ = barrier.Barrier.__doc__

    def __init__(self, client: SyncClient, name: str | bytes) -> None:
        self._barrier = barrier.Barrier(_asynchronous(client), name)
        self._portal = shared_portal()

    @twin_of(barrier.Barrier.hold)
    def hold(self, *, timeout: float | None = None) -> bool:
        return self._portal.call(self._barrier.hold, timeout=timeout)

    @twin_of(barrier.Barrier.release)
    def release(self, *, timeout: float | None = None) -> bool:
        return self._portal.call(self._barrier.release, timeout=timeout)

    @twin_of(barrier.Barrier.wait)
    def wait(self, *, timeout: float | None = None) -> None:
        self._portal.call(self._barrier.wait, timeout=timeout)


class DoubleBarrier:
    __doc__ = double_barrier.DoubleBarrier.__doc__

    def __init__(
        self, client: SyncClient, name: str | bytes, count: int, *, ttl: float = 10.0
    ) -> None:
        self._barrier = double_barrier.DoubleBarrier(_asynchronous(client), name, count, ttl=ttl)
        self._portal = shared_portal()

    @twin_of(double_barrier.DoubleBarrier.enter)
    def enter(self, *, timeout: float | None = None) -> None:
        self._portal.hold(self._step_back, self._barrier.enter, timeout=timeout)

    @twin_of(double_barrier.DoubleBarrier.leave)
    def leave(self, *, timeout: float | None = None) -> None:
        self._portal.finish(self._barrier.leave, timeout=timeout)

    @twin_of(double_barrier.DoubleBarrier.remaining)
    def remaining(self) -> float:
        return self._barrier.remaining()

    @twin_of(double_barrier.DoubleBarrier.check)
    def check(self) -> None:
        self._barrier.check()

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.leave(kind, self._barrier.__aexit__, kind, error, traceback)

    def _step_back(self, _: None) -> None:
        self._barrier.step_back()


class Counter:
    __doc__ = counter.Counter.__doc__

    def __init__(self, client: SyncClient, name: str | bytes) -> None:
        self._counter = counter.Counter(_asynchronous(client), name)
        self._portal = shared_portal()

    @twin_of(counter.Counter.add)
    def add(self, n: int = 1, *, timeout: float | None = None) -> int:
        return self._portal.call(self._counter.add, n, timeout=timeout)

    @twin_of(counter.Counter.get)
    def get(self, *, timeout: float | None = None) -> int:
        return self._portal.call(self._counter.get, timeout=timeout)


def _asynchronous(client: SyncClient) -> Client:
    wanted = "what raftkv.connect_sync makes"
    return to_instance(client, SyncClient, "client", wanted).asynchronous

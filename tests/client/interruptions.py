"""Interrupts synchronous calls at random moments, as a signal handler that raises does."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TypeVar

from raftkv.client.sync.client import SyncClient
from raftkv.recipes import sync as recipes

T = TypeVar("T")
Undo = Callable[[], object] | None
Operation = Callable[[SyncClient, str], Undo]
"""Uses a name that no other call has used; what gives back what it has returned, if anything."""

TTL_S = 600.0  # nothing ends by itself


class Interrupt(BaseException):
    """The exception that the signal handler raises."""


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within the block this handles SIGUSR1.

    An exception cannot leave a finalizer or a callback of the garbage collector: CPython passes it
    to `sys.unraisablehook` and goes on. An `Interrupt` that ends there has not reached the call,
    and is no failure of the test. Hypothesis measures collections by such a callback.
    """

    def ignore_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, Interrupt):
            hook_before(unraisable)

    hook_before, sys.unraisablehook = sys.unraisablehook, ignore_interrupts
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
        sys.unraisablehook = hook_before


class Interrupter:
    """Sends this thread SIGUSR1 after a random time; `signals` in a row, for nested handlers."""

    def __init__(self, seed: int, signals: int = 1) -> None:
        self.interrupted = 0
        self.completed = 0
        self._rng = random.Random(seed)
        self._signals = signals
        self._armed = False
        self._thread_id = threading.get_ident()
        self._longest_s: dict[str, float] = {}

    def installed(self) -> AbstractContextManager[None]:
        """Within the block the handler is this one's."""
        return handling(self._raise_if_armed)

    def run(self, what: str, operation: Callable[[], T]) -> T | None:
        """The result of the operation, a Python function; None if it was interrupted.

        CPython looks for signals after a call of a C function, such as `next`, and after one with
        `*args`. Its result would be lost here, and not in the code under test.
        """
        # A little longer than the operation takes, so that every moment of it is met.
        delay_s = self._rng.uniform(0.0, 1.1 * self._longest_s.get(what, 0.002))
        sender = threading.Thread(target=self._send, args=(delay_s,))
        sender.start()
        result = None
        try:
            try:
                began = time.perf_counter()
                self._armed = True
                result = operation()
                self._armed = False
                took_s = time.perf_counter() - began
                self._longest_s[what] = max(took_s, 0.9 * self._longest_s.get(what, 0.0))
                self.completed += 1
            except Interrupt:
                self._armed = False
                self.interrupted += 1
        except Interrupt:  # another signal came before it was disarmed
            self._armed = False
            self.interrupted += 1
        sender.join()
        return result

    def _send(self, delay_s: float) -> None:
        time.sleep(delay_s)
        for _ in range(self._signals):
            signal.pthread_kill(self._thread_id, signal.SIGUSR1)
            if self._signals > 1:
                time.sleep(self._rng.uniform(0.0, 0.0002))

    def _raise_if_armed(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            raise Interrupt


class CountedInterrupter:
    """Interrupts this thread when `count` is called for the nth time, on another thread."""

    def __init__(self) -> None:
        self.interrupted = False
        self._left = 0
        self._thread_id = threading.get_ident()

    def installed(self) -> AbstractContextManager[None]:
        """As `Interrupter.installed`."""
        return handling(self._raise)

    def run_until(self, nth: int, operation: Callable[[], T]) -> T | None:
        """As `Interrupter.run`; afterwards `interrupted` is whether there were so many calls."""
        self._left, self.interrupted = nth, False
        try:
            result = operation()
            self._left = 0
        except Interrupt:
            return None
        return result

    def count(self) -> None:
        """To be called on another thread than the one that is interrupted."""
        self._left -= 1
        if self._left == 0:
            self.interrupted = True
            signal.pthread_kill(self._thread_id, signal.SIGUSR1)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        raise Interrupt


def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Whether the condition holds within the time; what an exception kept alive is collected."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            return False
        gc.collect()
        time.sleep(0.01)
    return True


def bound(operation: Operation, client: SyncClient, name: str) -> Callable[[], Undo]:
    return lambda: operation(client, name)


# ---- calls that hand something out -----------------------------------------------------


def with_lock(client: SyncClient, name: str) -> None:
    with client.lock(name, ttl=TTL_S):
        pass


def acquire_lock(client: SyncClient, name: str) -> Callable[[], object]:
    return client.lock(name, ttl=TTL_S).acquire().release


def try_lock(client: SyncClient, name: str) -> Callable[[], object] | None:
    lock = client.lock(name, ttl=TTL_S)
    return lock.release if lock.try_acquire() else None


def release_lock(client: SyncClient, name: str) -> None:
    client.lock(name, ttl=TTL_S).acquire().release()


def campaign(client: SyncClient, name: str) -> Callable[[], object]:
    return client.election(name, ttl=TTL_S).campaign("me").resign


def lead(client: SyncClient, name: str) -> None:
    with client.election(name, ttl=TTL_S).campaign("me"):
        pass


def grant(client: SyncClient, name: str) -> Callable[[], object]:
    granted = client.acquire(name, TTL_S)
    return lambda: client.release(granted)


def kept_lease(client: SyncClient, name: str) -> None:
    with client.lease(TTL_S):
        pass


def lease(client: SyncClient, name: str) -> Callable[[], object]:
    granted = client.lease_grant(TTL_S).lease
    return lambda: client.lease_revoke(granted)


def watch(client: SyncClient, name: str) -> Callable[[], object]:
    return client.watch(name).close


def watch_block(client: SyncClient, name: str) -> None:
    with client.watch(name):
        pass


def observe(client: SyncClient, name: str) -> None:
    leaders = client.election(name).observe()
    next(leaders)
    leaders.close()


def lock_set(client: SyncClient, name: str) -> None:
    with recipes.locked(client, name, name + "/b", ttl=TTL_S):
        pass


def lock_set_acquired(client: SyncClient, name: str) -> Callable[[], object]:
    return recipes.locked(client, name, name + "/b", ttl=TTL_S).acquire().release


def semaphore(client: SyncClient, name: str) -> None:
    with recipes.Semaphore(client, name, 2, ttl=TTL_S).slot():
        pass


def read_lock(client: SyncClient, name: str) -> Callable[[], object]:
    return recipes.ReadWriteLock(client, name, ttl=TTL_S).read().acquire().release


def double_barrier(client: SyncClient, name: str) -> Callable[[], object]:
    barrier = recipes.DoubleBarrier(client, name, 1, ttl=TTL_S)
    barrier.enter()
    return barrier.leave


OPERATIONS: tuple[Operation, ...] = (
    *(with_lock, acquire_lock, try_lock, release_lock, campaign, lead, grant, kept_lease, lease),
    *(watch, watch_block, observe, lock_set, lock_set_acquired, semaphore, read_lock),
    double_barrier,
)

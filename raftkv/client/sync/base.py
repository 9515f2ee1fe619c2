"""The hand-written half of the synchronous twins: blocks, ownership by threads, and transactions.

`scripts/gensync` writes the twins themselves, on these classes. A thread can't be stopped from
outside. So where a loss cancels an asynchronous block, a synchronous one notices it by a callback,
at the next use of the token, by `check()`, and at the end of the block.

CPython runs signal handlers when a function begins and after each call of a C function. So nothing
is called between the return of `portal.take` or `portal.hold` and that of the twin's method.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar

from raftkv.arguments import to_callable
from raftkv.client.api.transactions import Attempts, Transaction
from raftkv.client.client import Client
from raftkv.client.coordination.election import Leadership
from raftkv.client.coordination.lease import KeptLease
from raftkv.client.coordination.lock import Hold, Lock
from raftkv.client.model.results import LeaseResult
from raftkv.client.sync.portal import Portal, shared_portal
from raftkv.errors import RevisionCompacted

A = TypeVar("A")
H = TypeVar("H")
K = TypeVar("K")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Twin(Generic[A]):
    """Runs the methods of an asynchronous object on the portal's loop."""

    def __init__(self, asynchronous: A) -> None:
        self._asynchronous = asynchronous
        self._portal = shared_portal()

    @property
    def asynchronous(self) -> A:
        """The asynchronous object that does the work, on raftkv's thread."""
        return self._asynchronous


class ClientTwin(Twin[Client]):
    """A client: its `with` block, and the blocks that keep a lease."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._portal.close_at_exit(client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.close(self._asynchronous.close)

    async def _revoke(self, granted: LeaseResult) -> None:
        await self._asynchronous.lease_revoke(granted.lease)

    @contextmanager
    def _keeping(
        self,
        keeping: AbstractAsyncContextManager[KeptLease],
        twin: Callable[[KeptLease], K],
    ) -> Iterator[K]:
        async def begin() -> K:
            return twin(await keeping.__aenter__())

        async def end(_: K | None = None) -> None:
            await keeping.__aexit__(None, None, None)

        kept = self._portal.hold(end, begin)
        try:
            yield kept
        finally:
            self._portal.exit_block(sys.exc_info()[0], end)


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


class HeldByThreads(Twin[A], Generic[A, H]):
    """A lock or a lock set that threads hold one after the other, and their `with` blocks."""

    def __init__(
        self, asynchronous: A, holdable: Holdable[H], block_timeout: float | None = None
    ) -> None:
        self._blocks: dict[threading.Thread, H] = {}
        super().__init__(asynchronous)
        self._holdable = holdable
        self._block_timeout = block_timeout

    def __del__(self) -> None:
        # A block keeps this object alive, so each of these ended without `__exit__`: a signal
        # handler raised at its first instruction.
        for held in self._blocks.values():
            self._portal.finish_later(self._holdable.exit_block, held, None, None, None)

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
        self._portal.exit_block(kind, self._exit_block, thread, kind, error, traceback)

    def _acquire(self, timeout: float | None) -> H:
        thread = threading.current_thread()
        return self._portal.hold(self._give_back, self._holdable.acquire_for, thread, timeout)

    def _give_back(self, held: H) -> None:
        self._holdable.abandon(held)

    async def _exit_block(
        self,
        thread: threading.Thread,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._holdable.exit_block(self._blocks.pop(thread), kind, error, traceback)


class LockTwin(HeldByThreads[Lock, Hold]):
    """A single lock, which a thread may also try to acquire."""

    def __init__(self, lock: Lock) -> None:
        super().__init__(lock, lock)

    def _try_acquire(self) -> bool:
        thread = threading.current_thread()
        return self._portal.hold(self._undo_try, self._asynchronous.try_acquire_for, thread)

    def _undo_try(self, acquired: bool) -> Coroutine[Any, Any, bool] | None:
        return self._asynchronous.release() if acquired else None


class KeptLeaseTwin(Twin[KeptLease]):
    """A kept lease, with an event that threads can wait for. Made on the client's loop."""

    def __init__(self, kept: KeptLease) -> None:
        super().__init__(kept)
        self.id = kept.id
        self.ttl = kept.ttl
        self.lost = threading.Event()
        kept.on_lost(self.lost.set)


class ReportsLoss(Protocol):
    """Anything that calls back when it is lost."""

    def on_lost(self, callback: Callable[[], None]) -> None: ...


async def listen(held: ReportsLoss, callback: Callable[[], None]) -> None:
    """Register `callback`, on the loop."""
    held.on_lost(callback)


async def make_twin(
    twin: Callable[[A], T], make: Callable[P, A], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The twin of what `make` returns, made on the loop."""
    return twin(make(*args, **kwargs))


def abandon(leadership: Twin[Leadership]) -> None:
    """Resign the leadership of an interrupted campaign, and wait for nothing."""
    leadership.asynchronous.abandon()


def run_on_this_thread(
    attempts: Attempts, function: Callable[[T], R], portal: Portal, twin: Callable[[Transaction], T]
) -> R:
    """As `Attempts.run`; the caller's function runs on the caller's thread."""
    to_callable(function, "function")
    while True:
        transaction = attempts.begin()
        with suppress(RevisionCompacted):
            result = function(twin(transaction))
            if portal.call(transaction.commit):
                return result
        portal.call(attempts.conflicted)

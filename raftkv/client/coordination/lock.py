"""Locks: one holder at a time; the others wait in the order in which they asked for the lock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from raftkv.arguments import to_callable, to_timeout_or_none
from raftkv.client.coordination.loss import CancelOnLoss
from raftkv.client.coordination.owners import calling_task, pop_block
from raftkv.client.coordination.queue import Queues
from raftkv.client.coordination.queue_entry import QueueEntry
from raftkv.errors import DeadlineExceeded, LockLost, LockNotAcquired, RaftkvError, printable

OTHERS_HOLD_IT: Final = "others hold it"


class Lock:
    """A lock of the cluster, made by `client.lock`. Held by one task of all clients at a time.

        async with client.lock("report") as lock:
            await client.put("report", data, fence=lock)

    Within the block the task is cancelled if the lock is lost, and `LockLost` is raised at its end.

    The lock is lost when its lease ends, and when an operator deletes the holder's key or revokes
    its lease: in a healthy cluster that shows within a second. Where a client has more than 5,000
    entries in queues, or the server refuses the watch of the key, a deletion shows at the release
    only, a revocation within a third of `ttl`. Tasks may share a lock: they take it one after the
    other. Times are in seconds.
    """

    name: bytes
    """The name that is locked."""

    def __init__(self, queues: Queues, name: bytes, ttl_ms: int, value: bytes) -> None:
        self.name = name
        self._queues = queues
        self._ttl_ms = ttl_ms
        self._value = value
        self._local_lock = asyncio.Lock()  # among the tasks that share this object
        self._behind = False  # the task in the cluster's queue has another entry before its own
        self._hold: Hold | None = None
        self._owner: object = None
        self._blocks: dict[object, Hold] = {}  # by the task that runs it
        self._loss_callbacks: list[Callable[[], None]] = []

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every holder before.

        Raises `LockLost` if the lock is not held.
        """
        return self._current_hold().token

    @property
    def key(self) -> bytes:
        """The key of the holder's queue entry. Raises `LockLost` if the lock is not held."""
        return self._current_hold().key

    def remaining(self) -> float:
        """For how many seconds the lock is certainly held if no renewal succeeds; 0: it is not
        held.
        """
        return self._hold.remaining() if self._hold else 0.0

    def check(self) -> None:
        """Raise `LockLost` if the lock is not certain to be held now. Sends nothing."""
        self._current_hold().check()

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` at once when the lock is lost while it is held. It runs on the client's
        loop.
        """
        self._loss_callbacks.append(to_callable(callback, "callback"))
        if self._hold is not None:
            self._hold.on_lost(callback)

    def acquire(self, *, timeout: float | None = None) -> Coroutine[Any, Any, Self]:
        """Wait until the lock is held.

        - `timeout`: seconds; None: as long as others hold it, 0: one attempt.

        The lock belongs to the task that calls this. The coroutine may run in another task:
        `asyncio.wait_for`, `create_task` and `gather` may be used.

        Raises `LockNotAcquired` after the timeout if others hold the lock; `DeadlineExceeded` if it
        is not known whether they do (timeout 0: or what a node refused the attempt with);
        `LockReentered` if this task holds it already or waits for it; `LockLost` if its queue entry
        was lost while it waited; `OutcomeUnknown` if its request got no answer: its queue entry,
        if there is one, ends with its lease; `WrongCluster`. Costs one write, and while
        it waits one open call at a node.
        """
        return self._acquire(calling_task(), timeout)

    def try_acquire(self) -> Coroutine[Any, Any, bool]:
        """Take the lock if it is free; False if others hold it.

        The lock belongs to the task that calls this. Raises `LockReentered` if this task holds it
        already or waits for it; `DeadlineExceeded`; `OutcomeUnknown`. Costs one write.
        """
        return self._try_acquire(calling_task())

    async def release(self) -> bool:
        """Release the lock, so that the next client has it; False if it was not held any more.

        During an outage this returns after the client's timeout and goes on in the background.
        Costs one write.
        """
        hold = self.detach()
        return hold is not None and await hold.release()

    async def __aenter__(self) -> Self:
        task = self._queues.home.current_task()
        hold = self._blocks[task] = await self.acquire_for(task, None)
        await hold.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._queues.home.inherited:
            return  # the parent process holds it
        hold = pop_block(self._blocks, self._queues.home.current_task())
        await self.exit_block(hold, kind, error, traceback)

    # ---- for one owner, a task or a thread -------------------------------------------

    async def _acquire(self, caller: object, timeout: float | None) -> Self:
        running = self._queues.home.current_task()
        await self.acquire_for(caller or running, timeout)
        return self

    async def _try_acquire(self, caller: object) -> bool:
        running = self._queues.home.current_task()
        return await self.try_acquire_for(caller or running)

    async def acquire_for(self, owner: object, timeout: float | None) -> Hold:
        """As `acquire`; the owner is a task or a thread, which may not have the lock twice."""
        if to_timeout_or_none(timeout) == 0:
            return await self._acquire_once(owner)
        self._register(owner)
        try:
            async with asyncio.timeout(timeout):
                await self._take(owner, self._enter)
        except TimeoutError:
            wanted = f"lock {printable(self.name)} was not acquired within {timeout:g} s"
            raise self.timeout_error(wanted) from None
        return self._current_hold()

    async def _acquire_once(self, owner: object) -> Hold:
        wanted = f"lock {printable(self.name)} was not acquired"
        answer_s = self._queues.answer_s_max
        try:
            async with asyncio.timeout(answer_s):
                taken = await self.try_acquire_for(owner, once=True)
        except TimeoutError:
            wanted = f"{wanted} within {answer_s:g} s"
            raise timeout_error(self.name, wanted, OTHERS_HOLD_IT, behind=False) from None
        if not taken:
            raise timeout_error(self.name, f"{wanted} at once", OTHERS_HOLD_IT, behind=True)
        return self._current_hold()

    def timeout_error(self, wanted: str) -> RaftkvError:
        """The error of a task whose timeout is over while it waits for this lock."""
        behind = self._behind or self._hold is not None
        return timeout_error(self.name, wanted, OTHERS_HOLD_IT, behind=behind)

    async def exit_block(
        self,
        hold: Hold,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End a block of code that ran under this hold, as `__aexit__`."""
        self.detach(hold)
        await hold.__aexit__(kind, error, traceback)

    def detach(self, hold: Hold | None = None) -> Hold | None:
        """Hand the present hold over to the caller, who releases it; other tasks may go on.

        None if there is none, or another one than the given `hold`.
        """
        if hold is not None and hold is not self._hold:
            return None
        self._queues.home.check()
        detached, self._hold = self._hold, None
        if detached is not None:
            self._queues.owners.remove(self.name, self._owner)
            self._local_lock.release()
        return detached

    def abandon(self, hold: Hold) -> None:
        """Release what was acquired for one owner, without waiting for it."""
        self.detach(hold)
        hold.abandon()

    async def try_acquire_for(self, owner: object, *, once: bool = False) -> bool:
        """As `try_acquire`."""
        self._register(owner)
        if self._local_lock.locked():
            self._queues.owners.remove(self.name, owner)
            return False
        return await self._take(owner, partial(self._queues.enter_if_free, once=once))

    def _register(self, owner: object) -> None:
        hold = self._hold
        if owner is self._owner and hold is not None and not hold.remaining():
            # Its own hold was lost. It must not wait for that, nor for the key, should the lease be
            # renewed after all.
            self.detach()
            hold.abandon()
        self._queues.owners.add(self.name, owner)

    async def _enter(self, name: bytes, ttl_ms: int, value: bytes) -> QueueEntry:
        self._behind = False
        return await self._queues.enter(name, ttl_ms, value, self._on_wait)

    def _on_wait(self) -> None:
        self._behind = True

    async def _take(
        self, owner: object, enter: Callable[[bytes, int, bytes], Awaitable[QueueEntry | None]]
    ) -> bool:
        entry = None
        try:
            # Tasks that share this lock wait here; only one of them is in the cluster's queue.
            await self._local_lock.acquire()
            try:
                entry = await enter(self.name, self._ttl_ms, self._value)
            finally:
                if entry is None:
                    self._local_lock.release()
        finally:
            if entry is None:
                self._queues.owners.remove(self.name, owner)
        if entry is None:
            return False
        self._owner = owner
        hold = self._hold = Hold(self._queues, entry)
        for callback in self._loss_callbacks:
            hold.on_lost(callback)
        return True

    def _current_hold(self) -> Hold:
        if self._hold is None:
            raise LockLost(
                f"lock {printable(self.name)} is not held; acquire it first", name=self.name
            )
        return self._hold


class Hold:
    """A queue entry that is the first: a lock that was acquired, an election that was won."""

    def __init__(self, queues: Queues, entry: QueueEntry) -> None:
        self._queues = queues
        self._entry = entry
        self._released = False
        self._stopper: CancelOnLoss | None = None

    @property
    def name(self) -> bytes:
        """The name that is held."""
        return self._entry.name

    @property
    def described(self) -> str:
        """What it is called in the messages of errors."""
        return f"lock {printable(self.name)}"

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every holder before. Raises `LockLost`."""
        self.check()
        return self._entry.token

    @property
    def key(self) -> bytes:
        """The key of the holder's queue entry. Raises `LockLost`."""
        self.check()
        return self._entry.key

    def remaining(self) -> float:
        """For how many seconds it is certainly held if no renewal succeeds; 0: it is not held."""
        return 0.0 if self._released else self._entry.remaining()

    def check(self) -> None:
        """Raise `LockLost` if it is not certain to be held now. Sends nothing."""
        if self._released:
            raise LockLost(f"{self.described} was released; acquire it anew", name=self.name)
        self._entry.check(self.described)

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` at once when it is lost, not when it is released. It runs on the client's
        loop.
        """
        self._entry.add_loss_callback(callback)

    async def release(self) -> bool:
        """Release it; False if it was lost before.

        During an outage this returns after the client's timeout and goes on in the background.
        """
        return await all_released([self.abandon()], self._queues.timeout_s)

    def abandon(self) -> asyncio.Future[bool]:
        """As `release`, without waiting: the future gets what `release` returns."""
        self._queues.home.check()
        if not self._released:
            self._mark_released()
            return self._queues.abandon(self._entry)
        released: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        released.set_result(False)
        return released

    # ---- a block of code under it ----------------------------------------------------

    async def __aenter__(self) -> Self:
        """From here on the loss cancels the present task."""
        self._stopper = CancelOnLoss(self._entry, self.described)
        self._stopper.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release it. Raises `LockLost` if a block that ended without an error may have run without
        it.
        """
        if self._queues.home.inherited:
            return  # the parent process holds it
        lost = None if self._released or self.remaining() else self._entry.error(self.described)
        try:
            if self._stopper is not None:
                self._stopper.__exit__(kind, error, traceback)
        finally:
            if kind is asyncio.CancelledError and not self._released:
                self.abandon()  # a cancelled task waits for nothing
            elif not self._released and not await self.release() and lost is None:
                lost = self._entry.error(self.described)
        if kind is None and lost is not None:
            raise lost

    def _mark_released(self) -> None:
        self._released = True
        if self._stopper is not None:
            self._stopper.disarm()


async def all_released(releases: Collection[asyncio.Future[bool]], timeout_s: float) -> bool:
    """Wait for what `Hold.abandon` has begun; False if one of the holds was lost before.

    What is not done within the timeout goes on in the background.
    """
    done, _ = await asyncio.wait(releases, timeout=timeout_s)
    return all(released.result() for released in done)


def timeout_error(
    name: bytes,
    wanted: str,
    others: str,
    *,
    behind: bool,
    refusal: type[LockNotAcquired] = LockNotAcquired,
) -> RaftkvError:
    """The error of a caller whose timeout is over before the name was free.

    `behind`: another entry was known to be before the caller's. Without that it is unknown whether
    the name is held, and whether there was an outage or the timeout was too short for an answer.
    There may not even be an entry; if there is one, it is abandoned, so trying again is safe.
    """
    if behind:
        return refusal(f"{wanted}: {others}", name=name)
    return DeadlineExceeded(
        f"{wanted}: no answer came by then, so whether {others} is not known; the queue entry that"
        " was requested is removed, or ends with its lease; try again, or give it more time",
        name=name,
    )

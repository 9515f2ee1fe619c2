"""Locks: one holder at a time, the others wait in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from raftkv.arguments import to_callable, to_timeout_or_none
from raftkv.client.coordination.entry_watches import QueueEntry
from raftkv.client.coordination.lease import CancelOnLoss
from raftkv.client.coordination.queue import Queues, calling_task, leave_block
from raftkv.errors import DeadlineExceeded, LockLost, LockNotAcquired, RaftkvError, printable

OTHERS_HOLD_IT: Final = "others hold it"


class Lock:
    """A lock of the cluster, made by `client.lock`. Held by one task of all clients at a time.

        async with client.lock("report") as lock:
            await client.put("report", data, fence=lock)

    Within the block the task is cancelled if the lock is lost, and `LockLost` raised at its end.
    So it is when somebody else deletes the holder's key or revokes its lease: in a healthy cluster
    within a second. Where a client holds more than 5,000 places, or the server refuses the watch of
    the key, a deletion shows at the release only, a revocation within a third of `ttl`.
    Tasks may share a lock: they take it one after the other. Times are in seconds.
    """

    def __init__(self, queues: Queues, name: bytes, ttl_ms: int, value: bytes) -> None:
        self.name = name
        self._queues = queues
        self._ttl_ms = ttl_ms
        self._value = value
        self._turn = asyncio.Lock()
        self._behind = False  # whoever of us is in the queue knows of somebody in front
        self._held: Hold | None = None
        self._owner: object = None
        self._blocks: dict[object, Hold] = {}  # by the task that runs it
        self._listeners: list[Callable[[], None]] = []

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every holder before.

        Raises `LockLost` if the lock is not held.
        """
        return self._require().token

    @property
    def key(self) -> bytes:
        """The key that stands for the holder. Raises `LockLost` if the lock is not held."""
        return self._require().key

    def remaining(self) -> float:
        """For how many seconds it is certainly held if no renewal succeeds; 0 if it is not."""
        return self._held.remaining() if self._held else 0.0

    def check(self) -> None:
        """Raise `LockLost` if it is not certain to be held now."""
        self._require().check()

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call this at once when the lock is lost while it is held. Runs on the client's loop."""
        self._listeners.append(to_callable(callback, "callback"))
        if self._held is not None:
            self._held.on_lost(callback)

    def acquire(self, *, timeout: float | None = None) -> Coroutine[Any, Any, Self]:
        """Wait until it is held; `timeout` None: however long others hold it, 0: not at all.

        It belongs to the task that calls this, whichever task then runs it: `asyncio.wait_for`,
        `create_task` and `gather` may be used. Raises `LockNotAcquired` after the timeout,
        `DeadlineExceeded` if no answer came by then that says whether others hold it (0: or what a
        node refused the one attempt with), `LockReentered` if this task has it already or waits for
        it, and `LockLost` if its place in the queue was lost while it waited.
        """
        return self._acquire(calling_task(), timeout)

    def try_acquire(self) -> Coroutine[Any, Any, bool]:
        """Take it if it is free; it belongs to the task that calls this. Raises `LockReentered`."""
        return self._try_acquire(calling_task())

    async def release(self) -> bool:
        """Let the next one have it; False if it was not held any more.

        During an outage this returns after the client's timeout and goes on in the background.
        """
        held = self.let_go()
        return held is not None and await held.release()

    async def __aenter__(self) -> Self:
        task = self._queues.home.current_task()
        held = self._blocks[task] = await self.acquire_for(task, None)
        await held.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._queues.home.inherited:
            return  # the parent holds it
        held = leave_block(self._blocks, self._queues.home.current_task())
        await self.leave(held, kind, error, traceback)

    # ---- whoever holds it ------------------------------------------------------------

    async def _acquire(self, caller: object, timeout: float | None) -> Self:
        running = self._queues.home.current_task()
        await self.acquire_for(caller or running, timeout)
        return self

    async def _try_acquire(self, caller: object) -> bool:
        running = self._queues.home.current_task()
        return await self.try_acquire_for(caller or running)

    async def acquire_for(self, owner: object, timeout: float | None) -> Hold:
        """As `acquire`; the owner is what may not have it twice, a task or a thread."""
        if to_timeout_or_none(timeout) == 0:
            return await self._acquire_once(owner)
        self._line_up(owner)
        try:
            async with asyncio.timeout(timeout):
                await self._take(owner, self._enter)
        except TimeoutError:
            wanted = f"lock {printable(self.name)} was not to be had within {timeout:g} s"
            raise self.too_late(wanted) from None
        return self._require()

    async def _acquire_once(self, owner: object) -> Hold:
        wanted, answer_s = (
            f"lock {printable(self.name)} was not to be had",
            self._queues.answer_s_max,
        )
        try:
            async with asyncio.timeout(answer_s):
                taken = await self.try_acquire_for(owner, once=True)
        except TimeoutError:
            raise too_late(
                self.name, f"{wanted} within {answer_s:g} s", OTHERS_HOLD_IT, behind=False
            ) from None
        if not taken:
            raise too_late(self.name, f"{wanted} at once", OTHERS_HOLD_IT, behind=True)
        return self._require()

    def too_late(self, wanted: str) -> RaftkvError:
        """What to tell one of us whose time was up while it waited."""
        behind = self._behind or self._held is not None
        return too_late(self.name, wanted, OTHERS_HOLD_IT, behind=behind)

    async def leave(
        self,
        held: Hold,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End a block of code that ran under it, as `__aexit__`."""
        self.let_go_of(held)
        await held.__aexit__(kind, error, traceback)

    def let_go(self) -> Hold | None:
        """Another task may have it; what was held is the caller's to release."""
        self._queues.home.check()
        held, self._held = self._held, None
        if held is not None:
            self._queues.owners.remove(self.name, self._owner)
            self._turn.release()
        return held

    def give_back(self, held: Hold) -> None:
        """Begin to release what was acquired for one owner."""
        self.let_go_of(held)
        held.depart()

    def let_go_of(self, held: Hold) -> None:
        """As `let_go`, unless another task has it by now."""
        if held is self._held:
            self.let_go()

    async def try_acquire_for(self, owner: object, *, once: bool = False) -> bool:
        """As `try_acquire`."""
        self._line_up(owner)
        if self._turn.locked():
            self._queues.owners.remove(self.name, owner)
            return False
        return await self._take(owner, partial(self._queues.enter_if_free, once=once))

    def _line_up(self, owner: object) -> None:
        held = self._held
        if owner is self._owner and held is not None and not held.remaining():
            self.let_go()  # it was lost, so the owner does not stand in its own way, ...
            held.depart()  # ... nor does its key, should its lease be renewed after all
        self._queues.owners.add(self.name, owner)

    async def _enter(self, name: bytes, ttl_ms: int, value: bytes) -> QueueEntry:
        self._behind = False
        return await self._queues.enter(name, ttl_ms, value, self._wait)

    def _wait(self) -> None:
        self._behind = True

    async def _take(
        self, owner: object, enter: Callable[[bytes, int, bytes], Awaitable[QueueEntry | None]]
    ) -> bool:
        place = None
        try:
            # Tasks that share this lock wait here, and only one of them in the cluster's queue.
            await self._turn.acquire()
            try:
                place = await enter(self.name, self._ttl_ms, self._value)
            finally:
                if place is None:
                    self._turn.release()
        finally:
            if place is None:
                self._queues.owners.remove(self.name, owner)
        if place is None:
            return False
        self._owner = owner
        held = self._held = Hold(self._queues, place)
        for callback in self._listeners:
            held.on_lost(callback)
        return True

    def _require(self) -> Hold:
        if self._held is None:
            raise LockLost(
                f"lock {printable(self.name)} is not held; acquire it first", name=self.name
            )
        return self._held


class Hold:
    """The first place in a queue: a lock that was acquired, an election that was won."""

    def __init__(self, queues: Queues, place: QueueEntry) -> None:
        self._queues = queues
        self._place = place
        self._released = False
        self._stopper: CancelOnLoss | None = None

    @property
    def name(self) -> bytes:
        """What is held."""
        return self._place.name

    @property
    def described(self) -> str:
        """What it is called where its loss is told."""
        return f"lock {printable(self.name)}"

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every holder before. Raises `LockLost`."""
        self.check()
        return self._place.token

    @property
    def key(self) -> bytes:
        """The key whose owner holds the name. Raises `LockLost`."""
        self.check()
        return self._place.key

    def remaining(self) -> float:
        """For how many seconds it is certainly held if no renewal succeeds; 0 once it is lost."""
        return 0.0 if self._released else self._place.remaining()

    def check(self) -> None:
        """Raise `LockLost` if it is not certain to be held now."""
        if self._released:
            raise LockLost(f"{self.described} was released; acquire it anew", name=self.name)
        self._place.check(self.described)

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call this at once when it is lost, not when it is released. On the client's loop."""
        self._place.listen(callback)

    async def release(self) -> bool:
        """Let the next one have it; False if it was lost before.

        During an outage this returns after the client's timeout and goes on in the background.
        """
        return await departed([self.depart()], self._queues.timeout_s)

    def depart(self) -> asyncio.Future[bool]:
        """As `release`, but waits for nothing."""
        self._queues.home.check()
        if not self._released:
            return self._queues.leave(self._end())
        left: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        left.set_result(False)
        return left

    # ---- a block of code under it ----------------------------------------------------

    async def __aenter__(self) -> Self:
        """From here on the loss cancels the present task."""
        self._stopper = CancelOnLoss(self._place, self.described)
        self._stopper.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release it. Raises `LockLost` if a block that ended well may have run without it."""
        if self._queues.home.inherited:
            return  # the parent holds it
        lost = None if self._released or self.remaining() else self._place.error(self.described)
        try:
            if self._stopper is not None:
                self._stopper.__exit__(kind, error, traceback)
        finally:
            if kind is asyncio.CancelledError and not self._released:
                self.depart()  # whoever was cancelled waits for nothing
            elif not self._released and not await self.release() and lost is None:
                lost = self._place.error(self.described)
        if kind is None and lost is not None:
            raise lost

    def _end(self) -> QueueEntry:
        self._released = True
        if self._stopper is not None:
            self._stopper.disarm()
        return self._place


async def departed(departures: Collection[asyncio.Future[bool]], timeout_s: float) -> bool:
    """Wait for what `depart` has begun; False if one was lost before.

    After the timeout it goes on without being waited for.
    """
    done, _ = await asyncio.wait(departures, timeout=timeout_s)
    return all(left.result() for left in done)


def too_late(
    name: bytes,
    wanted: str,
    others: str,
    *,
    behind: bool,
    refusal: type[LockNotAcquired] = LockNotAcquired,
) -> RaftkvError:
    """The error that tells the truth: `behind` says that somebody was known to be in front.

    Without that, nobody knows whether the name is held, nor whether it was an outage or the time
    was too short for an answer: the place in its queue may not even have been taken. It is given
    back in the background if it was, so trying again is safe.
    """
    if behind:
        return refusal(f"{wanted}: {others}", name=name)
    return DeadlineExceeded(
        f"{wanted}: no answer came by then, so whether {others} is not known; a place in its queue"
        " that was asked for is given back, or ends with its lease; try again, or give it more"
        " time",
        name=name,
    )

"""Locks: one holder at a time, the others wait in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from raftkv.arguments import to_callable, to_timeout_or_none
from raftkv.client.giving_up import too_late
from raftkv.client.held import Held
from raftkv.client.lock_owners import calling_task, leave_block
from raftkv.client.lock_queues import Queues
from raftkv.client.places import Place
from raftkv.errors import LockLost, RaftkvError, printable

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
        self._held: Held | None = None
        self._owner: object = None
        self._blocks: dict[object, Held] = {}  # by the task that runs it
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

    async def acquire_for(self, owner: object, timeout: float | None) -> Held:
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

    async def _acquire_once(self, owner: object) -> Held:
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
        held: Held,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End a block of code that ran under it, as `__aexit__`."""
        self.let_go_of(held)
        await held.__aexit__(kind, error, traceback)

    def let_go(self) -> Held | None:
        """Another task may have it; what was held is the caller's to release."""
        self._queues.home.check()
        held, self._held = self._held, None
        if held is not None:
            self._queues.owners.remove(self.name, self._owner)
            self._turn.release()
        return held

    def give_back(self, held: Held) -> None:
        """Begin to release what was acquired for one owner."""
        self.let_go_of(held)
        held.depart()

    def let_go_of(self, held: Held) -> None:
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

    async def _enter(self, name: bytes, ttl_ms: int, value: bytes) -> Place:
        self._behind = False
        return await self._queues.enter(name, ttl_ms, value, self._wait)

    def _wait(self) -> None:
        self._behind = True

    async def _take(
        self, owner: object, enter: Callable[[bytes, int, bytes], Awaitable[Place | None]]
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
        held = self._held = Held(self._queues, place)
        for callback in self._listeners:
            held.on_lost(callback)
        return True

    def _require(self) -> Held:
        if self._held is None:
            raise LockLost(
                f"lock {printable(self.name)} is not held; acquire it first", name=self.name
            )
        return self._held

"""Several locks that are held together: taken in the order of their names, all or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, overload

from raftkv.arguments import to_timeout_or_none
from raftkv.client.client import Client
from raftkv.client.coordination.lock import Hold, Lock, all_released
from raftkv.client.coordination.owners import calling_task, pop_block
from raftkv.client.coordination.queue import LockQueues
from raftkv.errors import InvalidRequest, RaftkvError, printable
from raftkv.recipes._parameters import to_client


class LockSet(Sequence[Lock]):
    """Locks that are held together or not at all, made by `locked`. As a fence: all of them.

    The locks are taken one after the other in the order of their names, whatever order they were
    given in. So holders of several locks never wait for each other in a circle.
    """

    def __init__(self, locks: Sequence[Lock], timeout: float | None, queues: LockQueues) -> None:
        self._locks = tuple(sorted(locks, key=lambda lock: lock.name))
        self._timeout = timeout
        self._queues = queues
        self._blocks: dict[object, list[Hold]] = {}  # by the task that runs it

    @property
    def names(self) -> tuple[bytes, ...]:
        """What they are locks on, sorted."""
        return tuple(lock.name for lock in self._locks)

    @property
    def tokens(self) -> dict[bytes, int]:
        """The fencing token of each name. Raises `LockLost`."""
        return {lock.name: lock.token for lock in self._locks}

    def remaining(self) -> float:
        """For how many seconds all are certainly held if no renewal succeeds; 0: not all are."""
        return min(lock.remaining() for lock in self._locks)

    def check(self) -> None:
        """Raise `LockLost` if one of the locks is not certain to be held now."""
        for lock in self._locks:
            lock.check()

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` at once for each lock that is lost. It runs on the client's loop."""
        for lock in self._locks:
            lock.on_lost(callback)

    def acquire(self, *, timeout: float | None = None) -> Coroutine[Any, Any, Self]:
        """Wait until all locks are held; after `timeout` seconds none is.

        The locks belong to the task that calls this, as with `Lock.acquire`. `timeout` None: as
        long as others hold them, 0: each lock is tried once, in their order, until one is not
        free. Raises `LockNotAcquired` after the timeout, `DeadlineExceeded` if it is not
        known whether others hold them, `LockReentered` and `LockLost` as `Lock.acquire`. Costs one
        write for each lock.
        """
        return self._acquire(calling_task(), timeout)

    async def release(self) -> bool:
        """Release all locks; False if one was not held any more.

        During an outage this returns after the client's timeout and goes on in the background.
        """
        held = [each for lock in self._locks if (each := lock.detach()) is not None]
        released = await self._all_released(_abandon(held))
        return released and len(held) == len(self._locks)

    async def __aenter__(self) -> Self:
        task = self._queues.home.current_task()
        held = self._blocks[task] = await self.acquire_for(task, self._timeout)
        for each in held:
            await each.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._queues.home.inherited:
            return  # the locks are the parent process's
        held = pop_block(self._blocks, self._queues.home.current_task())
        await self.exit_block(held, kind, error, traceback)

    # ---- for one owner, a task or a thread -------------------------------------------

    async def _acquire(self, caller: object, timeout: float | None) -> Self:
        running = self._queues.home.current_task()
        await self.acquire_for(caller or running, timeout)
        return self

    async def acquire_for(self, owner: object, timeout: float | None) -> list[Hold]:
        """As `acquire`; the owner is a task or a thread, which may not have a lock twice."""
        once = to_timeout_or_none(timeout) == 0
        held: list[Hold] = []
        try:
            async with asyncio.timeout(None if once else timeout):
                for lock in self._locks:
                    held.append(await lock.acquire_for(owner, 0 if once else None))
            # The locks share one lease, so the loss of one nearly always ends the wait for the
            # next; but the client may have replaced the lease in between.
            self.check()
        except TimeoutError:
            error = self._timeout_error(self._locks[len(held)], timeout)
            await self._all_released(self.abandon(held))
            raise error from None
        except BaseException as error:
            releases = self.abandon(held)
            if not isinstance(error, asyncio.CancelledError):  # a cancelled task waits for nothing
                await self._all_released(releases)
            raise
        return held

    async def exit_block(
        self,
        held: Sequence[Hold],
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End a block of code that ran under them, as `__aexit__`."""
        stack = AsyncExitStack()
        for lock, each in zip(self._locks, held, strict=True):
            stack.push_async_exit(partial(lock.exit_block, each))
        # Each lock of the stack raises `LockLost` if it was lost.
        await stack.__aexit__(kind, error, traceback)

    def _timeout_error(self, missing: Lock, timeout: float | None) -> RaftkvError:
        name = printable(missing.name)
        return missing.timeout_error(
            f"{name} of {len(self._locks)} locks was not acquired within {timeout:g} s"
        )

    def abandon(self, held: Sequence[Hold]) -> list[asyncio.Future[bool]]:
        """Begin to release what one owner holds; each future as of `Hold.abandon`."""
        for lock, each in zip(self._locks, held, strict=False):
            lock.detach(each)
        return _abandon(held)

    async def _all_released(self, releases: Sequence[asyncio.Future[bool]]) -> bool:
        return not releases or await all_released(releases, self._queues.timeout_s)

    def __len__(self) -> int:
        return len(self._locks)

    @overload
    def __getitem__(self, which: int) -> Lock: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[Lock]: ...
    def __getitem__(self, which: int | slice) -> Lock | Sequence[Lock]:
        return self._locks[which]


def _abandon(held: Sequence[Hold]) -> list[asyncio.Future[bool]]:
    # All begin before the first is awaited: a cancellation meanwhile leaves no lock unreleased.
    return [each.abandon() for each in held]


def locked(
    client: Client, *names: str | bytes, ttl: float = 10.0, timeout: float | None = None
) -> LockSet:
    """Several locks at once, all or none.

        async with locked(client, "alice", "bob") as locks:
            await client.put("alice", data, fence=locks)

    `names` are one or more, each a `str` or `bytes` of 1 to 8,192 bytes; equal names count once.
    The locks are those of `client.lock`: after a holder's death they are free within `ttl` seconds,
    and within the block their loss has the same effect. Entering the block raises
    `LockNotAcquired` if others hold one of the locks for longer than `timeout` seconds (None: no
    limit, 0: one attempt), and `DeadlineExceeded` if it is not known whether others hold them.
    """
    to_client(client)
    to_timeout_or_none(timeout)
    locks = {lock.name: lock for lock in (client.lock(name, ttl=ttl) for name in names)}
    if not locks:
        raise InvalidRequest("no names are given; give one at least", field="names")
    return LockSet(tuple(locks.values()), timeout, client.queues)

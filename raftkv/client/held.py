"""A name that is held: its token, how long that can be trusted, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from raftkv.client.lock_queues import Queues
from raftkv.client.loss import CancelOnLoss
from raftkv.client.places import Place
from raftkv.errors import LockLost, printable


class Held:
    """The first place in a queue: a lock that was acquired, an election that was won."""

    def __init__(self, queues: Queues, place: Place) -> None:
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

    def _end(self) -> Place:
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

"""Stops a block of code when the lease that it stands on is lost. Knows tasks, not locks."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from raftkv.client.kept_leases import KeptLease


class CancelOnLoss:
    """Cancels the task within the block when the lease is lost, as `asyncio.timeout` would.

    The cancellation ends at the block's end as `LockLost`, unless the task was cancelled by
    somebody else as well: that goes on.
    """

    def __init__(self, lease: KeptLease, what: str) -> None:
        self._lease = lease
        self._what = what  # stands on it
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._fired = False
        self._firing: asyncio.Handle | None = None
        self._registration: object = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("only a task can be told of a loss")
        self._cancelling = self._task.cancelling()
        self._registration = self._lease.listen(self._cancel)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.disarm()
        if not self._fired or self._task is None:
            return
        cancelled_again = self._task.uncancel() > self._cancelling
        if kind is asyncio.CancelledError and not cancelled_again:
            raise self._lease.error(self._what) from error

    def disarm(self) -> None:
        """The lease may be lost from here on."""
        self._lease.forget(self._registration)
        if self._firing is not None:
            self._firing.cancel()

    def _cancel(self) -> None:
        if self._task is asyncio.current_task():
            # The loss was noticed by the task itself. Cancelled now, it would meet that at its next
            # await; if the block has ended by then, `uncancel` has not taken it back (Python 3.11).
            self._firing = asyncio.get_running_loop().call_soon(self._fire)
        else:
            self._fire()

    def _fire(self) -> None:
        self._fired = True
        if self._task is not None:
            self._task.cancel()

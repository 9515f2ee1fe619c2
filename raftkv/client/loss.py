"""What is trusted until it is lost, for good; and a block of code that the loss cancels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from raftkv.arguments import to_callable
from raftkv.errors import LockLost


class Losable:
    """A lease, or a place that stands on one: its loss calls whoever listens."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._loss_was_reported = False
        # By registration: two locks may well have one callback, and each its own end.
        self._listeners: dict[object, Callable[[], None]] = {}

    def listen(self, callback: Callable[[], None]) -> object:
        """Call this at the loss, or now if it is lost; returns what `forget` ends it by."""
        to_callable(callback, "callback")
        registration = object()
        if self._loss_was_reported:
            callback()
        else:
            self._listeners[registration] = callback
        return registration

    def forget(self, registration: object) -> None:
        """Call no more what was registered then."""
        self._listeners.pop(registration, None)

    def error(self, what: str = "") -> LockLost:
        """What its owner gets once it is lost; `what` stood on it, if that has a name."""
        raise NotImplementedError

    def _report_loss(self) -> None:
        self._loss_was_reported = True
        listeners, self._listeners = self._listeners, {}
        for callback in listeners.values():
            # One owner's mistake must not keep the others from being stopped.
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is not ours
                message = f"a callback on a loss failed ({self.error()})"
                self.loop.call_exception_handler({"message": message, "exception": error})


def loss_message(what: str, why: str) -> str:
    """What the owner of `what` reads once it is lost."""
    return f"{what} is lost: {why}; stop what is done under it"


class CancelOnLoss:
    """Cancels the task within the block at the loss, as `asyncio.timeout` would.

    The cancellation ends at the block's end as `LockLost`, unless the task was cancelled by
    somebody else as well: that goes on.
    """

    def __init__(self, losable: Losable, what: str) -> None:
        self._losable = losable
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
        self._registration = self._losable.listen(self._cancel)
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
            raise self._losable.error(self._what) from error

    def disarm(self) -> None:
        """A loss from here on cancels nothing."""
        self._losable.forget(self._registration)
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

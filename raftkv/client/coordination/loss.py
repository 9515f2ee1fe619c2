"""The loss of a lease or a queue entry: callbacks that it runs, and a block that it cancels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from raftkv.arguments import to_callable
from raftkv.errors import LockLost


class LossNotifier:
    """Base of what is held until it is lost, for good: the loss runs the registered callbacks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._loss_reported = False
        # By registration: two locks may register equal callbacks and remove them one by one.
        self._loss_callbacks: dict[object, Callable[[], None]] = {}

    def add_loss_callback(self, callback: Callable[[], None]) -> object:
        """Call this at the loss, or now if it is lost.

        Returns the registration, for `remove_loss_callback`.
        """
        to_callable(callback, "callback")
        registration = object()
        if self._loss_reported:
            callback()
        else:
            self._loss_callbacks[registration] = callback
        return registration

    def remove_loss_callback(self, registration: object) -> None:
        """Do not call what was registered then."""
        self._loss_callbacks.pop(registration, None)

    def error(self, what: str = "") -> LockLost:
        """The error of its owner once it is lost; `what` names that which depended on it."""
        raise NotImplementedError

    def _report_loss(self) -> None:
        self._loss_reported = True
        callbacks, self._loss_callbacks = self._loss_callbacks, {}
        for callback in callbacks.values():
            # One owner's mistake must not keep the others from being stopped.
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - a callback of the user may raise anything
                message = f"a callback on a loss failed ({self.error()})"
                self.loop.call_exception_handler({"message": message, "exception": error})


def loss_message(what: str, why: str) -> str:
    """The message of the error of the owner of `what`."""
    return f"{what} is lost: {why}; stop what is done under it"


class CancelOnLoss:
    """Cancels the task within the block at the loss, as `asyncio.timeout` would at its deadline.

    At the block's end the cancellation becomes `LockLost`, unless the task was cancelled for
    another reason as well: then it goes on as a cancellation.
    """

    def __init__(self, notifier: LossNotifier, what: str) -> None:
        self._notifier = notifier
        self._what = what  # depends on it
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._fired = False
        self._firing: asyncio.Handle | None = None
        self._registration: object = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("only a task can be cancelled at a loss")
        self._cancelling = self._task.cancelling()
        self._registration = self._notifier.add_loss_callback(self._cancel)
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
            raise self._notifier.error(self._what) from error

    def disarm(self) -> None:
        """A loss from here on cancels nothing."""
        self._notifier.remove_loss_callback(self._registration)
        if self._firing is not None:
            self._firing.cancel()

    def _cancel(self) -> None:
        if self._task is asyncio.current_task():
            # The task itself has noticed the loss. Cancelled now, it would be interrupted at its
            # next await; if the block has ended by then, `uncancel` does not prevent that (Python
            # 3.11).
            self._firing = asyncio.get_running_loop().call_soon(self._fire)
        else:
            self._fire()

    def _fire(self) -> None:
        self._fired = True
        if self._task is not None:
            self._task.cancel()

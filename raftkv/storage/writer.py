"""A thread on which a store waits for its disk, so that the event loop does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from raftkv.errors import StorageError

_Result = TypeVar("_Result")
_Work: TypeAlias = "tuple[Callable[[], Any], asyncio.Future[Any] | None]"


def nothing() -> None:
    """The last call for a thread that has nothing to close."""


class WriterThread:
    """Runs calls one after the other, off the event loop, and completes each of them.

    It is no executor, because every fsync of a node runs here, and the futures and locks of
    `concurrent.futures` cost more than passing the call.
    """

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._closed = False
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """Run `call` after all earlier ones. It is completed even if the caller is cancelled.

        Raises `StorageError` if the thread is closed.
        """
        if self._closed:
            raise StorageError("the store is closed")
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._queue.put((call, future))
        return await future

    def start(self, call: Callable[[], object]) -> None:
        """Run `call` after all earlier ones, without waiting for it."""
        self._queue.put((call, None))

    async def close(self, last: Callable[[], object]) -> None:
        """Run `last` after all other calls, and accept no more. A second close has no effect."""
        if self._closed:
            return
        self._closed = True
        future = asyncio.get_running_loop().create_future()
        self._queue.put((last, future))
        try:
            await future
        finally:
            self._queue.put(None)

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            call, future = work
            result = error = None
            try:
                result = call()
            except BaseException as raised:  # noqa: BLE001 - raised again in the caller
                error = raised
            if future is not None:
                _settle(future, result, error)


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    """Settle `future` on its loop, unless the loop is closed."""

    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    try:
        future.get_loop().call_soon_threadsafe(settle)
    except RuntimeError:
        if not future.get_loop().is_closed():
            raise

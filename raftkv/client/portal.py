"""One event loop on a thread of its own, for callers that have none.

There is one for the whole process, however many clients use it: gRPC's asyncio wants a single
loop. Calls of many threads that arrive while the loop is busy wake it once.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """Runs coroutines on its loop for threads that wait for them."""

    def __init__(self) -> None:
        self._loop = _new_loop()
        self._inbox: deque[tuple[Coroutine[Any, Any, Any], Future[Any]]] = deque()
        self._woken = False
        self._thread = threading.Thread(target=self._run, name="raftkv-client", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine to its end; returns or raises what it does.

        A caller that is interrupted while it waits cancels it.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a synchronous client was called from its own event loop")
        done: Future[T] = Future()
        self._inbox.append((coroutine, done))
        # `_drain` clears the flag before it looks, so what is appended now is seen in any case.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._drain)
        try:
            return done.result()
        except BaseException:
            done.cancel()
            raise

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _drain(self) -> None:
        self._woken = False
        while self._inbox:
            coroutine, done = self._inbox.popleft()
            task = self._loop.create_task(coroutine)
            task.add_done_callback(_passing_to(done))
            done.add_done_callback(self._cancelling(task))

    def _cancelling(self, task: asyncio.Task[Any]) -> Callable[[Future[Any]], None]:
        def cancel(done: Future[Any]) -> None:
            if done.cancelled():
                self._loop.call_soon_threadsafe(task.cancel)

        return cancel

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


def _passing_to(done: Future[Any]) -> Callable[[asyncio.Task[Any]], None]:
    def pass_on(task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            done.cancel()
        elif not done.set_running_or_notify_cancel():
            task.exception()  # the caller is gone
        elif (error := task.exception()) is not None:
            done.set_exception(error)
        else:
            done.set_result(task.result())

    return pass_on


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_portal: Portal | None = None
_portal_lock = threading.Lock()


def shared_portal() -> Portal:
    """The process's portal, started when it is first needed, stopped when the process ends."""
    global _portal
    with _portal_lock:
        if _portal is None:
            _portal = Portal()
            atexit.register(_portal.stop)
        return _portal

"""One event loop on a thread of its own, for callers that have none.

All clients of the process share one portal, because gRPC's asyncio needs a single loop. Calls of
many threads that arrive while the loop is busy wake it once.

A signal handler may raise in a waiting thread at any moment, also when the call has just succeeded.
So a call is one of three kinds, which differ in what an interruption means:

- `call`: the coroutine is cancelled, and nothing has to be undone.
- `take`: the coroutine is cancelled; if it had succeeded, what it returned is given back. For
  watches and clients; `hold` does the same for locks and leases: the caller that was interrupted
  has no name for them.
- `finish`: the coroutine runs to its end without the caller. For what gives something back.

CPython runs signal handlers when a function begins and after each call of a C function. So
a twin's method returns what `take` returns without calling anything in between.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar
from weakref import WeakSet

from raftkv.client.connection.home import wrong_process
from raftkv.errors import (
    OutcomeUnknown,
    RaftkvError,
    Unavailable,
    UnusableHere,
    WrongLoop,
    WrongProcess,
)

P = ParamSpec("P")
T = TypeVar("T")

# A waiting thread looks this often whether the loop still runs.
LOOK_S: Final = 1.0
BLOCKED_LOOKS_MAX: Final = 5
"""So many looks in a row without a turn of the loop: a callback blocks it."""
EXIT_S_MAX: Final = 2.0
"""When the process ends, clients that are still open have this long to give back what they hold."""
LATE_S_MAX: Final = 0.2  # for what is cancelled then

Begin = Callable[[], Coroutine[Any, Any, T]]
GiveBack = Callable[[T], Coroutine[Any, Any, object] | None]
"""Undoes a result, on the loop; what takes longer than a turn of the loop goes into a coroutine."""


class Closable(Protocol):
    """A client on the portal's loop. Closing it again does nothing."""

    async def close(self) -> None: ...


class Portal:
    """Runs coroutines on its loop for threads that wait for them."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = _new_loop()
        self._inbox: deque[_Call[Any]] = deque()
        self._woken = False
        self._turns = 0  # of the loop, as far as a waiting thread has asked for one
        self._running: set[_Call[Any]] = set()
        self._giving_back: set[asyncio.Task[object]] = set()
        self._refusal: Callable[[], RaftkvError] | None = None
        self._open: WeakSet[Closable] = WeakSet()
        self._daemons: WeakSet[threading.Thread] = WeakSet()  # that may hold something
        self._thread = threading.Thread(target=self._run, name="raftkv-client", daemon=True)
        self._thread.start()

    def call(
        self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run the coroutine that `function` makes; returns or raises what it does.

        An interruption of the caller cancels it. Raises `WrongLoop` on the portal's own thread,
        `WrongProcess` in a forked child, and `Unavailable` once the interpreter ends.
        """
        return self._wait_for(_Call(self, partial(function, *args, **kwargs)))

    def take(
        self,
        give_back: GiveBack[T],
        function: Callable[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `call`. If the caller is interrupted, `give_back` undoes what had succeeded.

        It is called before any later call of the same thread begins.
        """
        return self._wait_for(_Taking(self, partial(function, *args, **kwargs), give_back))

    def hold(
        self,
        give_back: GiveBack[T],
        function: Callable[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `take`, of a lock or lease: no other owner may get it while the thread runs."""
        call = _Taking(self, partial(function, *args, **kwargs), give_back)
        call.thread = threading.current_thread()
        return self._wait_for(call)

    def finish(
        self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `call`. If the caller is interrupted, the coroutine still runs to its end."""
        call = None
        try:
            call = _Call(self, partial(function, *args, **kwargs))
            self._post(call)
            return call.wait()
        except UnusableHere:
            raise
        except BaseException:
            if call is None or not call.posted:
                self.finish_later(function, *args, **kwargs)
            elif not call.failed:
                self._wake(self._drain)
            raise

    def close(self, function: Callable[[], Coroutine[Any, Any, object]], /) -> None:
        """As `finish`, of what is closed when the interpreter ends, and the parent's after a fork.

        In these cases it does nothing.
        """
        try:
            self.finish(function)
        except RaftkvError:
            if self._refusal is None:
                raise

    def exit_block(
        self,
        kind: type[BaseException] | None,
        function: Callable[P, Coroutine[Any, Any, object]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """As `finish`, at the end of a block that an error of this kind ends, or none.

        In a forked child this does nothing: what the block held is the parent's. Nor does it once
        the interpreter ends, when the portal has closed what was open, unless the block ended well.
        Garbage collection may end the block on the portal's own thread, which waits for nothing.
        """
        if threading.get_ident() == self._thread.ident:
            self.finish_later(function, *args, **kwargs)
            return
        try:
            self.finish(function, *args, **kwargs)
        except WrongProcess:
            return
        except RaftkvError:
            if kind is None or self._refusal is None:
                raise

    def finish_later(
        self,
        function: Callable[P, Coroutine[Any, Any, object]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """As `finish`, but waits for nothing and raises nothing. For finalizers, on any thread."""
        if self._refusal is None:
            self._inbox.append(_Call(self, partial(function, *args, **kwargs)))
            self._wake(self._drain)

    def close_at_exit(self, client: Closable) -> None:
        """Close it when the interpreter ends, unless a daemon thread still runs that may `hold`
        something. Keeps no reference that would keep it alive.
        """
        self._open.add(client)

    def stop(self) -> None:
        """Close what is open, end the loop and its thread; later calls raise `Unavailable`.

        Takes little more than `EXIT_S_MAX`, even if a callback blocks the loop.
        """
        if self._refusal is None:
            self._refusal = _interpreter_ends
            self._loop.call_soon_threadsafe(self._end_soon)
            self._thread.join(EXIT_S_MAX + LOOK_S)

    @property
    def refusal(self) -> RaftkvError | None:
        """Why it runs no calls any more."""
        return None if self._refusal is None else self._refusal()

    def forked(self) -> None:
        """This process is a forked child: the loop's thread is the parent's."""
        self._refusal = partial(wrong_process, self._pid)

    # ---- the waiting thread ------------------------------------------------------------

    def _wait_for(self, call: _Call[T]) -> T:
        try:
            self._post(call)
            # Between the end of `wait` and the caller's next call nothing can interrupt.
            return call.wait()
        except BaseException:
            if call.posted and not call.failed:
                self._wake(self._abandon, call)
            raise

    def _post(self, call: _Call[Any]) -> None:
        if threading.get_ident() == self._thread.ident:
            raise WrongLoop(
                "the synchronous client was called on its own thread, from a callback such as"
                " on_lost: it would wait for itself. Let the callback only set a flag or an event"
            )
        self._check()
        call.posted = True
        self._inbox.append(call)
        # `_drain` clears the flag before it looks, so what is appended now is seen in any case.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._drain)

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal()

    def look(self) -> int:
        """Ask the loop for a turn; how many it has made so far."""
        self._check()
        # An interruption may have come between setting `_woken` and waking: this repairs it.
        self._wake(self._drain)
        return self._turns

    def _wake(self, callback: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(callback, *args)

    # ---- the loop's thread -------------------------------------------------------------

    def _drain(self) -> None:
        self._woken = False
        self._turns += 1
        while self._inbox:
            call = self._inbox.popleft()
            self._running.add(call)
            call.start(self._loop, self._ended)

    def _ended(self, call: _Call[Any]) -> None:
        self._running.discard(call)
        if call.abandoned:
            self._give_back(call)
        elif call.succeeded and call.thread is not None and call.thread.daemon:
            self._daemons.add(call.thread)

    def _abandon(self, call: _Call[Any]) -> None:
        self._drain()
        call.abandoned = True
        if call in self._running:
            call.cancel()
        else:
            self._give_back(call)

    def _give_back(self, call: _Call[Any]) -> None:
        giving_back = call.give_back()
        if giving_back is not None:
            task = self._loop.create_task(giving_back)
            self._giving_back.add(task)
            task.add_done_callback(self._given_back)

    def _given_back(self, task: asyncio.Task[object]) -> None:
        self._giving_back.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, RaftkvError):
            # A `RaftkvError` changes nothing: the lease's end gives the same back.
            self._loop.call_exception_handler(
                {"message": "an interrupted call was not undone", "exception": error}
            )

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        while self._refusal is None:
            try:
                self._loop.run_forever()
            except BaseException as error:  # noqa: BLE001 - a callback ended by SystemExit, say
                self._loop.call_exception_handler(
                    {"message": "a callback on raftkv's thread failed", "exception": error}
                )
        for call in (*self._running, *self._inbox):
            call.fail(self._refusal())
        self._loop.close()

    def _end_soon(self) -> None:
        self._drain()
        ending = self._loop.create_task(self._end())
        ending.add_done_callback(lambda _: self._loop.stop())

    async def _end(self) -> None:
        """Answer every waiting thread. Close all clients, or leave their locks to the TTL.

        Daemon threads run on while the interpreter ends. A lock of theirs must not go to another
        owner before they have stopped, so its TTL has to end it.
        """
        calls = list(self._running)
        for call in calls:
            call.abandoned = True
            call.cancel()
        in_use = any(thread.is_alive() for thread in self._daemons)
        opened = () if in_use else tuple(self._open)
        closing = [asyncio.ensure_future(client.close()) for client in opened]
        tasks = {*closing, *self._giving_back, *(call.task for call in calls if call.task)}
        if tasks:
            done, _ = await asyncio.wait(tasks, timeout=EXIT_S_MAX)
            for task in done:
                if not task.cancelled():
                    task.exception()  # retrieved, so that asyncio logs no error: no caller is left
        late = asyncio.all_tasks() - {asyncio.current_task()}
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=LATE_S_MAX)


class _Call(Generic[T]):
    """A call of a thread: the task that runs it, and the result until the thread has it."""

    __slots__ = (
        "_begin",
        "_error",
        "_give_back",
        "_over",
        "_portal",
        "_result",
        "abandoned",
        "failed",
        "posted",
        "succeeded",
        "task",
        "thread",
    )

    def __init__(
        self, portal: Portal, begin: Begin[T], give_back: GiveBack[T] | None = None
    ) -> None:
        self._portal = portal
        self._begin = begin
        self._give_back = give_back
        # A bare lock: whatever interrupts a thread that waits for it leaves nothing half done.
        self._over = threading.Lock()
        self._over.acquire()
        self._result: T | None = None
        self._error: BaseException | None = None
        self.thread: threading.Thread | None = None  # see `hold`
        self.task: asyncio.Task[T] | None = None
        self.posted = self.succeeded = self.failed = self.abandoned = False

    def wait(self) -> T:
        """Its result, on the thread that waits. Raises its error."""
        turns, late = -1, 0
        while not self._over.acquire(timeout=LOOK_S):
            turns, before = self._portal.look(), turns
            late = late + 1 if turns == before else 0
            if late >= BLOCKED_LOOKS_MAX:
                raise OutcomeUnknown(
                    f"raftkv's thread has not run for {late * LOOK_S:g} s: a callback such as"
                    " on_lost blocks it, or the process has no CPU; the call may have been"
                    " applied, or may be yet"
                )
        # Taken: a finalizer has nothing to do, and would swallow what a handler raises in it.
        self.__class__ = _Call
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # which refers to this frame
        return self._result  # type: ignore[return-value]  # there is one, or an error

    def start(self, loop: asyncio.AbstractEventLoop, ended: Callable[[_Call[T]], None]) -> None:
        """Run it on this loop; `ended` is called when it is over."""
        try:
            self.task = loop.create_task(self._begin())
        except Exception as error:  # noqa: BLE001 - the caller gets it
            self.fail(error)
            ended(self)
            return
        self.task.add_done_callback(partial(self._done, ended))

    def cancel(self) -> None:
        """No thread waits for it any more."""
        if self.task is not None:
            self.task.cancel()

    def give_back(self) -> Coroutine[Any, Any, object] | None:
        """Undo its result, once; a coroutine that is left to run, or None."""
        give_back, self._give_back = self._give_back, None
        if give_back is None or not self.succeeded:
            return None
        return give_back(self._result)  # type: ignore[arg-type]  # as in `wait`

    def fail(self, error: BaseException) -> None:
        """It ends with this error, unless it is over."""
        if not self.succeeded and not self.failed:
            self.failed, self._error = True, error
            self._over.release()

    def _done(self, ended: Callable[[_Call[T]], None], task: asyncio.Task[T]) -> None:
        self.task = None  # a task's finalizers are for this thread, for the same reason as above
        if task.cancelled():
            self.fail(self._portal.refusal or Unavailable("the call was cancelled"))
        elif (error := task.exception()) is not None:
            self.fail(error)
        elif not self.failed:
            self._result, self.succeeded = task.result(), True
            self._over.release()
        ended(self)


class _Taking(_Call[T]):
    """A call whose result has to be given back if its thread was interrupted."""

    __slots__ = ()

    def __del__(self) -> None:
        # The thread was interrupted again before it could abandon the call.
        if self.succeeded and self._give_back is not None:
            self._portal.finish_later(_undo, self._give_back, self._result)


def _interpreter_ends() -> RaftkvError:
    return Unavailable(
        "the interpreter is ending, and raftkv's thread has ended; close clients before"
    )


async def _undo(give_back: GiveBack[Any], result: object) -> None:
    giving_back = give_back(result)
    if giving_back is not None:
        await giving_back


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


def _after_fork_in_child() -> None:
    """A client that is made in the child gets a portal of its own."""
    global _portal, _portal_lock
    _portal_lock = threading.Lock()
    if _portal is not None:
        _inherited.append(_portal)
        _portal.forked()
    _portal = None


# Never collected: closing the loop would change the epoll set that the parent's loop waits on.
_inherited: list[Portal] = []
os.register_at_fork(after_in_child=_after_fork_in_child)

"""Checks that a client is used where it was made: in its process and on its event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import _get_running_loop
from threading import get_ident
from typing import Any

from raftkv.errors import GreenThreads, UnusableHere, WrongLoop, WrongProcess

IN_A_CHILD = (
    "make a client in each child process: in gunicorn's post_fork, in Celery's"
    " worker_process_init, or in the function that multiprocessing runs (docs/fork.md)"
)

# A forked child has another object than its parent. Cheaper to compare than process ids.
_process = object()


def _forked() -> None:
    global _process
    _process = object()


os.register_at_fork(after_in_child=_forked)


class Home:
    """The process and the event loop that a client was made in, and must be used in."""

    __slots__ = ("_loop", "_pid", "_process", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._process = _process
        self._pid = os.getpid()
        self._thread = get_ident()

    @property
    def inherited(self) -> bool:
        """Whether this process was forked from the client's, which owns the connections."""
        return self._process is not _process

    def check(self) -> None:
        """Raise `WrongProcess` or `WrongLoop` unless the client's own event loop runs here."""
        # A thread runs one loop at a time. Comparing threads is cheaper than asking for the running
        # loop, which takes a system call in Python 3.11; and every call of a client is checked.
        if (
            self._process is not _process
            or get_ident() != self._thread
            or not self._loop.is_running()
        ):
            self._check_loop()

    def _check_loop(self) -> None:
        if self.inherited or _get_running_loop() is not self._loop:
            raise self._error()

    def current_task(self) -> asyncio.Task[Any] | None:
        """The running task. Raises as `check`."""
        self.check()
        return asyncio.current_task()

    def check_process(self) -> None:
        """Raise `WrongProcess` in a child; for methods that need no event loop."""
        if self._process is not _process:
            raise self._error()

    def _error(self) -> UnusableHere:
        if self.inherited:
            return wrong_process(self._pid)
        if self._loop.is_closed():
            return WrongLoop(
                "the event loop of this client is closed; nothing was sent. Make a client inside"
                " each asyncio.run (docs/threads-and-loops.md)"
            )
        return WrongLoop(
            "this client belongs to another event loop; nothing was sent. Make a client on each"
            " loop, or share one of connect_sync among threads (docs/threads-and-loops.md)"
        )


def wrong_process(made_in: int) -> WrongProcess:
    """The error of a client that was made in process `made_in`, a parent of this one."""
    return WrongProcess(
        f"this client was made in process {made_in}, from which this one was forked, and can't be"
        f" used here; nothing was sent. Instead, {IN_A_CHILD}",
        made_in=made_in,
    )


def check_threads() -> None:
    """Raise `GreenThreads` if gevent or eventlet has replaced threads or sockets."""
    for library, module, patched in (
        ("gevent", "gevent.monkey", "is_module_patched"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched"),
    ):
        is_patched = getattr(sys.modules.get(module), patched, None)
        # eventlet calls "thread" what gevent calls both "thread" and "threading".
        if is_patched is not None and any(map(is_patched, ("thread", "socket", "select"))):
            raise GreenThreads(
                f"{library} has replaced this process's threads and sockets, which gRPC can't work"
                " with; use raftkv in a process without monkey patching, for gunicorn with the"
                " worker class sync or gthread (docs/fork.md)",
                library=library,
            )

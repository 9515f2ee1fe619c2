"""The event loop of a command: uvloop, gRPC's environment, signals, and garbage collection."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

# gRPC 1.85 passes each message from a thread of its event engine to the thread that polls for
# Python. Without the engine the polling thread reads the socket itself: measured on an echo
# stream, a third less time per message and a tenth less CPU. gRPC reads these variables when it is
# first imported, so they are set before that; variables that are set already are not changed.
GRPC_ENVIRONMENT = {
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener,"
    "-event_engine_for_all_other_endpoints,-event_engine_callback_cq",
    "GRPC_VERBOSITY": "NONE",  # our own log reports failures of connections
}

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on a new event loop; uvloop, if installed."""
    for name, value in GRPC_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PASSED_ON = (*ENDING, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def ignored(number: signal.Signals) -> bool:
    """Whether the parent process had this process ignore the signal, as nohup does, and shells for
    background processes. It must then stay ignored.
    """
    return signal.getsignal(number) is signal.SIG_IGN


class Signals:
    """Within the block, these signals call `receiver`, which may be replaced, unless `ignored`.
    Main thread only.
    """

    def __init__(self, numbers: tuple[signal.Signals, ...]) -> None:
        self.received: signal.Signals | None = None
        self.receiver: Callable[[signal.Signals], object] = lambda _: None
        self._numbers = [number for number in numbers if not ignored(number)]
        self._loop = asyncio.get_running_loop()

    @property
    def exit_code(self) -> int:
        """The exit code, as shells expect it, of a program that the last signal has ended."""
        return 128 + (self.received or 0)

    def cancel(self, task: asyncio.Task[object] | None) -> None:
        """Each signal cancels this task from now on."""
        self.receiver = lambda _: task is not None and task.cancel()

    def __enter__(self) -> Self:
        for number in self._numbers:
            self._loop.add_signal_handler(number, self._receive, number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number in self._numbers:
            self._loop.remove_signal_handler(number)

    def _receive(self, number: signal.Signals) -> None:
        self.received = number
        self.receiver(number)


YOUNG_OBJECTS: Final = 2_000
YOUNG_COLLECTIONS: Final = 10
"""New objects until a collection of the youngest, and those collections until one of the next."""

FULL_INTERVAL_S: Final = 600.0
NEVER: Final = 1 << 30


async def collect_garbage() -> None:
    """Schedule garbage collection for a node; runs until cancelled.

    A full collection visits every long-lived object, among them log entries and leases: 20 to 50 ms
    with many of them. It finds next to nothing, because reference cycles are rare here and
    short-lived. So young objects are collected as usual, and a full collection runs at long
    intervals. Objects that exist at the start are never visited again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, NEVER)
    while True:
        await asyncio.sleep(FULL_INTERVAL_S)
        gc.collect()

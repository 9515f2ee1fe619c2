"""A process per free core, for keys that are judged apart.

Commands make it. A program of one's own that does so needs the guard `if __name__ == "__main__"`:
the processes are spawned, as a fork is unsafe beside gRPC's threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Protocol, Self, TypeVar

AskedT = TypeVar("AskedT")
JudgedT = TypeVar("JudgedT")


class MapKeys(Protocol):
    """A function as `map`, which may call the function it gets in other processes."""

    def __call__(
        self, judge: Callable[[AskedT], JudgedT], keys: Iterable[AskedT], /
    ) -> Iterable[JudgedT]: ...


def free_cores() -> int:
    """How many processes this one may run at once without taking cores from others; 1 or more."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    others = max(0, round(os.getloadavg()[0]) - 1)  # this process is part of the load
    return max(1, (allowed or 1) - others)


class KeyProcesses:
    """Processes that begin with the first call of `map`, and end with the `with` statement."""

    def __init__(self, count: int | None = None) -> None:
        self._count = count
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def map(self, judge: Callable[[AskedT], JudgedT], keys: Iterable[AskedT]) -> Iterable[JudgedT]:
        """As `map`: the results are in the order of the keys."""
        count = free_cores() if self._count is None else self._count
        if count < 2:
            return map(judge, keys)
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                count, multiprocessing.get_context("spawn"), _end_with_ctrl_c
            )
        return self._executor.map(judge, keys)


def _end_with_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

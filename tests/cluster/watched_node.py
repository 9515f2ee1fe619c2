"""The `raftkv` command on an event loop that records each of its long turns.

Run as a script: `python watched_node.py TURNS serve ...` appends to the file TURNS. A turn is what
the loop does between two looks at its sockets: nothing that arrives meanwhile is heeded, heartbeats
included. The node runs on asyncio's own loop here, not on uvloop's, which shows no turn. The same
callbacks run on either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

WORTH_A_LINE_MS = 5.0
REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class Turn:
    """How long one turn of a node's loop took, and what took longest in it."""

    ended_at: float
    """Seconds since the epoch."""
    wall_ms: float
    queued_ms: float
    """Of it, how long the thread was ready to run while others had the cores."""
    process_cpu_ms: float
    """What all threads of the node used meanwhile that may hold the interpreter."""
    longest: str
    longest_ms: float

    @property
    def own_ms(self) -> float:
        """How much of the turn the node itself is to blame for, however busy the machine is.

        It runs, or waits while another of its threads holds the interpreter. A wait for a disk is
        left out: it can't be told from a wait for a thread that holds the interpreter and has no
        core.
        """
        return min(self.wall_ms - self.queued_ms, self.process_cpu_ms)


def read_turns(path: Path) -> list[Turn]:
    """The turns that were worth a line, in order. A line that is being written is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Turn(**json.loads(line)) for line in lines]


class NativeThreads:
    """The threads of RocksDB and of gRPC's core, which never hold the interpreter.

    They name themselves. A thread that Python starts keeps the name of the process.
    """

    def __init__(self) -> None:
        self._schedules: dict[str, int] = {}
        self._refreshed_at = -REFRESH_S
        self._own_name = Path("/proc/thread-self/comm").read_text()

    def refresh(self) -> None:
        """Look for new threads, now and then."""
        now = time.monotonic()
        if now - self._refreshed_at < REFRESH_S:
            return
        self._refreshed_at = now
        for thread in set(os.listdir("/proc/self/task")) - {*self._schedules}:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                folder = Path("/proc/self/task", thread)
                if (folder / "comm").read_text() != self._own_name:
                    self._schedules[thread] = os.open(folder / "schedstat", os.O_RDONLY)

    def cpu_s(self) -> float:
        used_ns = 0
        for thread, schedule in [*self._schedules.items()]:
            try:
                used_ns += int(os.pread(schedule, 100, 0).split()[0])
            except ProcessLookupError:
                os.close(self._schedules.pop(thread))
        return used_ns / 1e9


class TurnLog:
    """Measures the turns of the loop of the thread that makes it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        # Nanoseconds on a core, and in the queue for one (Linux, scheduler/sched-stats.rst).
        self._schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._natives = NativeThreads()
        self._longest: asyncio.Handle | None = None
        self._longest_s = 0.0
        self.begin()

    def begin(self) -> None:
        self._natives.refresh()
        self._queued_ns, self._cpu_s = self._queued(), self._cpu()
        self._longest, self._longest_s = None, 0.0
        self._began = time.perf_counter()

    def end(self) -> None:
        wall_ms = (time.perf_counter() - self._began) * 1e3
        if wall_ms < WORTH_A_LINE_MS:
            return
        turn = Turn(
            time.time(),
            wall_ms,
            (self._queued() - self._queued_ns) / 1e6,
            (self._cpu() - self._cpu_s) * 1e3,
            _words(self._longest),
            self._longest_s * 1e3,
        )
        self._out.write(json.dumps(asdict(turn)) + "\n")
        self._out.flush()

    def ran(self, handle: asyncio.Handle, took_s: float) -> None:
        if took_s > self._longest_s:
            self._longest, self._longest_s = handle, took_s

    def _cpu(self) -> float:
        return time.process_time() - self._natives.cpu_s()

    def _queued(self) -> int:
        return int(os.pread(self._schedule, 100, 0).split()[1])


def _words(handle: asyncio.Handle | None) -> str:
    callback = getattr(handle, "_callback", None)
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return str(getattr(task.get_coro(), "__qualname__", task.get_coro()))
    return str(getattr(callback, "__qualname__", callback))


def watch_turns(out: TextIO) -> None:
    """Have each loop that is made from now on, in this thread, write its long turns to `out`."""
    log = TurnLog(out)
    run_handle = asyncio.Handle._run

    class WatchedSelector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
        def select(self, timeout: float | None = None) -> Iterable[object]:
            log.end()
            events: Iterable[object] = super().select(timeout)
            log.begin()
            return events

    def run_watched(handle: asyncio.Handle) -> None:
        began = time.perf_counter()
        run_handle(handle)
        log.ran(handle, time.perf_counter() - began)

    selectors.DefaultSelector = WatchedSelector  # type: ignore[misc]
    asyncio.Handle._run = run_watched  # type: ignore[method-assign]


def main() -> None:
    turns, *arguments = sys.argv[1:]
    sys.argv = ["raftkv", *arguments]
    sys.modules["uvloop"] = None  # type: ignore[assignment] # importing it fails: asyncio's own then
    with open(turns, "a") as out:
        watch_turns(out)
        from raftkv.cli.main import main as raftkv

        raftkv()


if __name__ == "__main__":
    main()

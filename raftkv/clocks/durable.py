"""Durable clocks: after a crash they never issue a time that they issued before.

A write to the disk for each event would cost too much, so each clock reserves times ahead: its file
has a time that no issued time has passed, and the file is advanced and synced before one does.
After a crash the clock starts at the reserved time. The cost is a gap of at most one reservation,
and the call that needs a new reservation waits for the disk (one `fsync` of a file and one of its
directory).

Received times can't be reserved. A Lamport or hybrid time includes them in its own number, but a
vector that lost a received count would call an earlier event concurrent. So a durable vector clock
saves each received time with a new count before the call returns.

A file that is damaged, or of another kind of clock, is refused with `DamagedData`. A missing file
is a new clock. `close` writes nothing. A clock must not be used after `close`, nor in both
processes after a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from raftkv.arguments import to_callable, to_int64, to_path, to_text
from raftkv.clocks.clock import (
    DRIFT_MS_MAX,
    HybridClock,
    LamportClock,
    TimeT,
    VectorClock,
    wall_clock_ms,
)
from raftkv.clocks.clock_file import ClockFile
from raftkv.clocks.hybrid import LOGICAL_MAX, HybridTime
from raftkv.clocks.lamport import LamportTime
from raftkv.clocks.vector import VectorTime
from raftkv.errors import InvalidRequest

RESERVED_TICKS = 1 << 16
# Well below the drift that peers allow: after a quick restart a clock is ahead by this much.
RESERVED_MS = DRIFT_MS_MAX // 4


class _OnDisk:
    """Ownership of the clock's file, common to the three clocks."""

    _file: ClockFile

    def close(self) -> None:
        """Release the file. The clock must not be used any more."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()


class DurableLamportClock(_OnDisk, LamportClock):
    """A `LamportClock` that is durable in the file at `path`."""

    def __init__(
        self, path: str | os.PathLike[str], *, reserved_ticks: int = RESERVED_TICKS
    ) -> None:
        """Raises `DamagedData`, `DirectoryInUse` or `StorageError`. So does every later call."""
        self._reserved_ticks = to_int64(reserved_ticks, "reserved_ticks", 1)
        self._file, self._reserved = _open(path, "lamport", LamportTime(), LamportTime.decode)
        super().__init__(self._reserved)

    def _keep(self, to: LamportTime) -> None:
        if to > self._reserved:
            reserved = LamportTime(to.value + self._reserved_ticks)
            self._file.write(reserved.encode())
            self._reserved = reserved


class DurableHybridClock(_OnDisk, HybridClock):
    """A `HybridClock` that is durable in the file at `path`.

    After a restart it may be up to `reserved_ms` ahead of the wall clock. Keep that below the drift
    that peers allow.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        wall_ms: Callable[[], int] = wall_clock_ms,
        drift_ms_max: int = DRIFT_MS_MAX,
        reserved_ms: int = RESERVED_MS,
    ) -> None:
        """Raises `DamagedData`, `DirectoryInUse` or `StorageError`. So does every later call."""
        to_callable(wall_ms, "wall_ms")  # before the file is opened, and left locked
        to_int64(drift_ms_max, "drift_ms_max", 0)
        self._reserved_ms = to_int64(reserved_ms, "reserved_ms", 1)
        self._file, self._reserved = _open(path, "hybrid", HybridTime(), HybridTime.decode)
        super().__init__(self._reserved, wall_ms=wall_ms, drift_ms_max=drift_ms_max)

    def _keep(self, to: HybridTime) -> None:
        if to > self._reserved:
            reserved = HybridTime(to.physical_ms + self._reserved_ms, LOGICAL_MAX)
            self._file.write(reserved.encode())
            self._reserved = reserved


class DurableVectorClock(_OnDisk, VectorClock):
    """A `VectorClock` that is durable at `path`: own count reserved ahead, others exact."""

    def __init__(
        self, member: str, path: str | os.PathLike[str], *, reserved_ticks: int = RESERVED_TICKS
    ) -> None:
        """Raises `DamagedData`, `DirectoryInUse` or `StorageError`. So does every later call."""
        self._reserved_ticks = to_int64(reserved_ticks, "reserved_ticks", 1)
        kind = f"vector {to_text(member, 'member')!r}"
        self._file, self._reserved = _open(path, kind, VectorTime(), VectorTime.decode)
        super().__init__(member, self._reserved)

    def _keep(self, to: VectorTime) -> None:
        member = self.member
        if to.count(member) <= self._reserved.count(member) and _others(to, member) == _others(
            self._reserved, member
        ):
            return
        ahead = to.count(member) + self._reserved_ticks
        reserved = VectorTime({**to.counts, member: ahead}, to.retired)
        self._file.write(reserved.encode())
        self._reserved = reserved


def _others(time: VectorTime, member: str) -> tuple[dict[str, int], frozenset[str]]:
    counts = {name: count for name, count in time.counts.items() if name != member}
    return counts, time.retired


def _open(
    path: str | os.PathLike[str], kind: str, first: TimeT, decode: Callable[[bytes], TimeT]
) -> tuple[ClockFile, TimeT]:
    file = ClockFile(to_path(path, "path"), kind)
    try:
        saved = file.read()
        return file, first if saved is None else decode(saved)
    except InvalidRequest as error:
        file.close()
        raise file.damaged() from error
    except BaseException:
        file.close()
        raise

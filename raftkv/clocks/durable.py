"""Clocks that survive a crash: after it they give out no time that they gave out before.

A write to disk for each event would be too dear, so each reserves ahead: the file holds a
time that nothing given out has passed, and is moved on, synced, before something does. After a
crash a clock begins there. The price is the gap of at most one reservation, and that the call
which needs a new one waits for the disk (one `fsync` of a file and one of its directory).

What others told is different: it can't be reserved. A Lamport or hybrid time takes it over in its
own number, but a vector that forgot it would call what it had heard of concurrent. So a durable
vector clock saves every receipt that taught it something before it returns.

A file that is damaged, or of another kind of clock, is refused with `DamagedData`. A file that
is not there is a new clock. `close` writes nothing; a clock that was closed must not be used, nor
one in both halves of a process that forked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from raftkv.arguments import to_callable, to_int64, to_path, to_text
from raftkv.clocks.clock_file import ClockFile
from raftkv.clocks.holders import (
    DRIFT_MS_MAX,
    HybridClock,
    LamportClock,
    TimeT,
    VectorClock,
    wall_clock_ms,
)
from raftkv.clocks.hybrid import LOGICAL_MAX, HybridTime
from raftkv.clocks.lamport import LamportTime
from raftkv.clocks.vector import VectorTime
from raftkv.errors import InvalidRequest

RESERVED_TICKS = 1 << 16
# Well below the drift that others allow: after a quick restart a clock is that far ahead.
RESERVED_MS = DRIFT_MS_MAX // 4


class _OnDisk:
    """What the three have in common: they own a file, and give it back."""

    _file: ClockFile

    def close(self) -> None:
        """Give the file back; the clock must not be used any more."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()


class DurableLamportClock(_OnDisk, LamportClock):
    """A `LamportClock` with a memory at `path`."""

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
    """A `HybridClock` with a memory at `path`.

    After a restart it may be up to `reserved_ms` ahead of the wall clock; keep that below the
    drift that others allow.
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
    """A `VectorClock` with a memory at `path`: its own count reserved ahead, others' exact."""

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

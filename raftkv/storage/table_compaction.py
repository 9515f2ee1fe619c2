"""Table compaction: frees the space of removed rows, and drops their deletion markers.

RocksDB compacts by itself when much was written, not when much was removed. Removed rows stay on
the disk, each below a marker, and a seek passes all markers before its row: 2 ms for 10,000. One
marker for a whole range costs a seek nothing.

So a family with many new markers is flushed. RocksDB then compacts the tables that are dense with
markers, which it counts (see `rocks.py`). When removals pause, have continued for long or are many,
the removed ranges are compacted explicitly, in slices with pauses between them.

Every node compacts on its own. Compaction decides nothing that nodes must agree on.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from rocksdict import Rdict

if TYPE_CHECKING:
    from raftkv.storage.rocks import RocksDatabase

MARKERS_PER_FLUSH = 40_000
"""This many markers in a memtable cost a seek 8 ms. New ones arrive while they are compacted."""

PAUSE_S = 3.0
DELAY_S_MAX = 30.0
"""Ranges are compacted after `PAUSE_S` without removals, and after `DELAY_S_MAX` at the latest."""

ROWS_UNMARKED_MAX = 100_000
"""Rows removed one by one from a family whose markers RocksDB does not count: more are compacted
without a pause. At 10,000 small rows per second, `DELAY_S_MAX` alone would leave 170 MB of them on
the disk.
"""

ROWS_MIN = 1_000
BYTES_MIN = 16 << 20
"""Fewer rows with fewer bytes are left to RocksDB, until more are removed."""

ROWS_SHARE_MIN = 0.1
"""The share of a family's rows. If fewer were removed one by one, compacting them costs too
much."""

EDGE_BYTES_MAX = 512 << 20
"""Bytes of tables that a removed range only overlaps, and that may be rewritten for it."""

RANGES_MAX = 64
SLICE_BYTES = 64 << 20
UPPER_TABLES_BYTES_MAX = 256 << 20
FREED_BYTES_MIN = 1 << 20
"""If less was freed, the other families are not compacted. Acknowledged results are removed all the
time, and flushed rows are slower to read than rows in memory."""

WAL_BYTES_MAX = 8 << 20
"""Bytes that may stay in write-ahead logs, which also contain removed rows."""

_TABLE = re.compile(r"^ \d+:(\d+)\[[^]]*\]\['([0-9A-F]*)' .*? \.\. '([0-9A-F]*)'", re.MULTILINE)


@dataclass(slots=True)
class Removed:
    """The removals from a family: single rows between two keys, and whole ranges."""

    rows: int = 0
    first: bytes = b""
    last: bytes = b""
    ranges: list[tuple[bytes, bytes]] = field(default_factory=list)
    first_s: float = 0.0  # time of the first removal
    last_s: float = 0.0

    def add_rows(self, rows: int, first: bytes, last: bytes) -> None:
        self.first = min(self.first, first) if self.rows else first
        self.last = max(self.last, last) if self.rows else last
        self.rows += rows

    def add_range(self, start: bytes, end: bytes) -> None:
        if self.ranges and start <= self.ranges[-1][1] and end >= self.ranges[-1][0]:
            before = self.ranges.pop()
            start, end = min(start, before[0]), max(end, before[1])
        self.ranges.append((start, end))
        if len(self.ranges) > RANGES_MAX:
            self.ranges = merged(self.ranges)
        if len(self.ranges) > RANGES_MAX:
            # Many distant ranges are treated like single rows.
            self.add_rows(len(self.ranges), self.ranges[0][0], self.ranges[-1][1])
            self.ranges = []

    def add(self, other: Removed) -> None:
        if other.rows:
            self.add_rows(other.rows, other.first, other.last)
        for start, end in other.ranges:
            self.add_range(start, end)


@dataclass(frozen=True, slots=True)
class Table:
    """A table file of a family."""

    size_bytes: int
    first: bytes
    last: bytes


class TableCompaction:
    """Compacts the tables of one open database, on its own thread. `close` it before the database.

    RocksDB counts the deletion markers of the families in `marked`.
    """

    def __init__(
        self,
        database: RocksDatabase,
        marked: Collection[str],
        *,
        pause_s: float = PAUSE_S,
        delay_s_max: float = DELAY_S_MAX,
    ) -> None:
        self._database = database
        self._marked = frozenset(marked)
        self._pause_s = pause_s
        self._delay_s_max = delay_s_max
        self._log = structlog.get_logger("raftkv.storage").bind(database=str(database.path))
        self._changed = threading.Condition()
        self._closed = False
        self._removed: dict[str, Removed] = {}
        self._markers: dict[str, int] = {}  # since the family was flushed
        self._to_flush: set[str] = set()
        self._left: dict[str, Removed] = {}  # removals that are not worth a compaction yet
        self._thread: threading.Thread | None = None

    def rows_removed(self, family: str, keys: Sequence[bytes]) -> None:
        """These rows were removed one by one."""
        first, last = min(keys), max(keys)
        self._note(family, len(keys), lambda removed: removed.add_rows(len(keys), first, last))

    def range_removed(self, family: str, start: bytes, end: bytes) -> None:
        """All rows with start <= key < end were removed."""
        self._note(family, 1, lambda removed: removed.add_range(start, end))

    def close(self) -> None:
        """Complete the current slice, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _note(self, family: str, markers: int, add: Callable[[Removed], None]) -> None:
        with self._changed:
            now_s = time.monotonic()
            removed = self._removed.get(family)
            if removed is None:
                removed = self._removed[family] = Removed(first_s=now_s)
                self._changed.notify()
            removed.last_s = now_s
            add(removed)
            if self._has_many_rows(family):
                self._changed.notify()
            if family in self._marked:
                self._markers[family] = self._markers.get(family, 0) + markers
                if self._markers[family] >= MARKERS_PER_FLUSH:
                    self._to_flush.add(family)
                    self._changed.notify()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._serve, name="raftkv-table-compaction", daemon=True
                )
                self._thread.start()

    # ---- on the thread -----------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            with self._changed:
                removed, quiet = self._wait()
                flush, self._to_flush = self._to_flush, set()
                if self._closed:
                    return
            try:
                for family in sorted(flush):
                    self._flush(family)
                if removed:
                    self._compact(removed, quiet=quiet)
            except Exception as error:  # noqa: BLE001 - the database fails the next write
                self._log.warning("table_compaction_failed", reason=str(error))

    def _wait(self) -> tuple[Mapping[str, Removed], bool]:
        """Wait until a flush or a compaction is due. Returns the removals to compact, and whether
        removals pause.
        """
        while not self._closed and not self._to_flush:
            now_s, removed = time.monotonic(), self._removed
            paused = {name for name in removed if self._pause_ends_s(removed[name]) <= now_s}
            late = {
                name
                for name in removed
                if self._late_s(removed[name]) <= now_s or self._has_many_rows(name)
            }
            if paused or late:
                due = sorted(paused | late)
                return {name: removed.pop(name) for name in due}, bool(paused)
            dues_s = (min(self._pause_ends_s(r), self._late_s(r)) for r in removed.values())
            due_s = min(dues_s, default=None)
            self._changed.wait(None if due_s is None else due_s - now_s)
        return {}, False

    def _has_many_rows(self, name: str) -> bool:
        return name not in self._marked and self._removed[name].rows >= ROWS_UNMARKED_MAX

    def _pause_ends_s(self, removed: Removed) -> float:
        return removed.last_s + self._pause_s

    def _late_s(self, removed: Removed) -> float:
        return removed.first_s + self._delay_s_max

    def _flush(self, family: str) -> None:
        with self._changed:
            self._markers[family] = 0
        self._database.flush(family)

    def _compact(self, removed: Mapping[str, Removed], *, quiet: bool) -> None:
        began_s, before = time.monotonic(), self._database.size_bytes()
        done = [family for family in removed if self._compact_family(family, removed[family])]
        if not done:
            return
        freed = before - self._database.size_bytes()
        if quiet and freed >= FREED_BYTES_MIN:
            # Overwritten rows are still in tables that were not compacted.
            for family in self._database.families:
                self._compact_upper(family)
        if freed >= FREED_BYTES_MIN and self._wal_bytes() > WAL_BYTES_MAX:
            self._database.flush()
        self._log.info(
            "tables_compacted",
            families=",".join(done),
            bytes_before=before,
            bytes_after=self._database.size_bytes(),
            took_s=round(time.monotonic() - began_s, 2),
        )

    def _compact_family(self, name: str, removed: Removed) -> bool:
        """Compact the ranges that are worth it.

        The rest is considered again after more removals.
        """
        family = self._database.families[name]
        if (left := self._left.pop(name, None)) is not None:
            removed.add(left)
        ranges = list(removed.ranges)
        if removed.rows and _is_worth(family, removed.rows):
            ranges.append((removed.first, removed.last + b"\0"))
        elif removed.rows:
            self._left[name] = Removed(removed.rows, removed.first, removed.last)
        if not ranges:
            return False
        self._flush(name)
        tables = tables_of(family)
        for start, end in merged(ranges):
            if not touches_too_much(tables, start, end):
                self._compact_range(name, tables, start, end)
        return True

    def _compact_range(self, name: str, tables: Sequence[Table], start: bytes, end: bytes) -> None:
        for first, last in slices(tables, start, end):
            if self._closed:
                return
            began_s = time.monotonic()
            self._database.compact_range(name, first, last)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, time.monotonic() - began_s)

    def _compact_upper(self, name: str) -> None:
        """Compact a small family if it has tables that were never compacted."""
        family = self._database.families[name]
        upper = family.property_int_value("rocksdb.num-files-at-level0") or 0
        tables = tables_of(family)
        size_bytes = sum(table.size_bytes for table in tables)
        if int(upper) > 1 and size_bytes <= UPPER_TABLES_BYTES_MAX:
            first, last = min(each.first for each in tables), max(each.last for each in tables)
            self._compact_range(name, tables, first, last + b"\0")

    def _wal_bytes(self) -> int:
        return sum(file.stat().st_size for file in Path(self._database.path).glob("*.log"))


def tables_of(family: Rdict) -> list[Table]:
    """The tables of one family, as RocksDB lists them."""
    text = family.property_value("rocksdb.sstables") or ""
    return [
        Table(int(size), bytes.fromhex(first), bytes.fromhex(last))
        for size, first, last in _TABLE.findall(text)
    ]


def merged(ranges: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The ranges, sorted, with overlapping ones merged."""
    result: list[tuple[bytes, bytes]] = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def touches_too_much(tables: Sequence[Table], start: bytes, end: bytes) -> bool:
    """Whether more bytes would be rewritten at the edges of the range than are removed with it."""
    touched = [table for table in tables if table.last >= start and table.first < end]
    inside = sum(t.size_bytes for t in touched if t.first >= start and t.last < end)
    edges = sum(table.size_bytes for table in touched) - inside
    return edges > max(EDGE_BYTES_MAX, inside)


def slices(tables: Sequence[Table], start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
    """The range in parts of about `SLICE_BYTES`, each starting where a table starts."""
    cuts, size = [start], 0
    for table in sorted(tables, key=lambda table: table.first):
        if table.last < start or table.first >= end:
            continue
        if size >= SLICE_BYTES and table.first > cuts[-1]:
            cuts.append(table.first)
            size = 0
        size += table.size_bytes
    return list(zip(cuts, [*cuts[1:], end], strict=True))


def _is_worth(family: Rdict, rows: int) -> bool:
    """Whether a compaction of the family frees enough for its cost."""
    left = int(family.property_int_value("rocksdb.estimate-num-keys") or 0)
    size = int(family.property_int_value("rocksdb.total-sst-files-size") or 0)
    row_bytes = size / (rows + left)
    enough = rows >= ROWS_MIN or rows * row_bytes >= BYTES_MIN
    return enough and rows >= ROWS_SHARE_MIN * (rows + left)

"""The state in RocksDB, one column family per `Family`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from rocksdict import RdictIter, ReadOptions, WriteBatch

from raftkv.errors import check
from raftkv.kv.pace import Steps, run
from raftkv.kv.store import NOTHING_REMOVED, Changes, Family, Frozen, Ranges
from raftkv.storage.rocks import OPEN_TABLES_MAX, RocksDatabase, Tuning, iterate

ROWS_PER_STEP: Final = 4_096
"""Rows that one step adds to a batch: two milliseconds."""

_SIZES: Final = ("rocksdb.estimate-live-data-size", "rocksdb.cur-size-all-mem-tables")

_TUNING = Tuning(
    write_buffer_bytes=16 << 20,
    write_buffers_max=4,
    write_buffers_total_bytes=64 << 20,
    cache_bytes=64 << 20,
    wal_total_bytes=128 << 20,
    refuse_damaged_wal=False,
    unmarked=frozenset((Family.HISTORY, Family.CHANGES)),
)


class RocksStateStore:
    """A `StateStore` on disk, for one thread. Only its owner syncs and closes it."""

    def __init__(
        self,
        path: Path,
        *,
        create: bool,
        open_tables_max: int = OPEN_TABLES_MAX,
        read_only: bool = False,
    ) -> None:
        """Open the state below `path`. Raises `DamagedData` if it is not complete."""
        self.database = RocksDatabase(
            path,
            [family.value for family in Family],
            _TUNING,
            create=create,
            open_tables_max=open_tables_max,
            read_only=read_only,
        )
        # The database's own dictionaries, which it empties when it is closed. A Family is a str.
        self._families = self.database.families
        self._handles = self.database.handles

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        try:
            value: bytes | None = self._families[family].get(key)
        except Exception as error:
            raise self.database.read_failed(error, f"reading {family}") from error
        return value

    def get_many(self, family: Family, keys: list[bytes]) -> list[bytes | None]:
        """The values of `keys`, in their order. For rows in tables it takes a third of the time
        of single reads.
        """
        try:
            rows: Any = self._families[family]  # typed for lists of keys of all types at once
            values: list[bytes | None] = rows.get(keys)
        except Exception as error:
            raise self.database.read_failed(error, f"reading {family}") from error
        return values

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end as of this call, in key order or from the last down.

        A scan that is neither finished nor dropped keeps its rows on the disk, even after the store
        is closed or replaced.
        """
        try:
            rows, bounds = iterate(self._families[family], end)
        except Exception as error:
            raise self.database.read_failed(error, f"scanning {family}") from error
        walk = self._descending if reverse else self._ascending
        return walk(rows, bounds, start)

    def frozen(self) -> Frozen:
        """CURRENT and HISTORY as they are now. It keeps its rows on the disk."""
        return _FrozenState(self.database)

    def size_bytes(self, family: Family) -> int:
        """The size of the family's rows in tables, as they are compressed, and in memory."""
        try:
            properties = map(self._families[family].property_int_value, _SIZES)
            return sum(int(size or 0) for size in properties)
        except Exception as error:
            raise self.database.read_failed(error, f"measuring {family}") from error

    def write(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> None:
        """Write atomically. The write is durable after the next sync by the store's owner."""
        run(self.write_in_steps(changes, removed))

    def write_in_steps(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> Steps[None]:
        """As `write`, in steps; the last one writes."""
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        deleted: list[tuple[Family, list[bytes]]] = []
        for family, ranges in removed.items():
            handle = self._handles.get(family)
            if handle is None:
                break  # the store is closed, so `write` will raise
            for start, end in ranges:
                batch.delete_range(start, end, handle)
        for family, rows in changes.items():
            handle = self._handles.get(family)
            if handle is None:
                break  # the store is closed, so `write` will raise
            gone = []
            items = iter(rows.items())
            for first in range(0, len(rows), ROWS_PER_STEP):
                if first:
                    yield
                for key, value in islice(items, ROWS_PER_STEP):
                    if value is None:
                        delete(key, handle)
                        gone.append(key)
                    else:
                        put(key, value, handle)
            if gone:
                deleted.append((family, gone))
        if batch.len() > ROWS_PER_STEP:
            yield
        self.database.write(batch)
        compaction = self.database.compaction
        for family, keys in deleted:
            compaction.rows_removed(family, keys)
        for family, ranges in removed.items():
            for start, end in ranges:
                compaction.range_removed(family, start, end)

    def _ascending(
        self, rows: RdictIter, _bounds: ReadOptions, start: bytes
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            rows.seek(start)
            while rows.valid():
                yield rows.key(), rows.value()
                rows.next()
            rows.status()
        except Exception as error:
            raise self.database.read_failed(error, "scanning") from error

    def _descending(
        self, rows: RdictIter, _bounds: ReadOptions, start: bytes
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            rows.seek_to_last()
            while rows.valid() and (key := rows.key()) >= start:
                yield key, rows.value()
                rows.prev()
            rows.status()
        except Exception as error:
            raise self.database.read_failed(error, "scanning backwards") from error


class _FrozenState:
    """An iterator of each family, which sees the family as of its creation wherever it seeks.

    rocksdict's snapshots are no substitute: their iterators also see later writes.
    """

    def __init__(self, database: RocksDatabase) -> None:
        self._database = database
        try:
            self._rows = {
                family: iterate(database.families[family], None)
                for family in (Family.CURRENT, Family.HISTORY)
            }
        except Exception as error:
            raise database.read_failed(error, "freezing the state") from error

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        return next((value for _, value in self.scan(family, key, key + b"\0")), None)

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As `StateStore.scan`, one scan at a time."""
        check(not reverse, "what is frozen is read forward")
        rows, _options = self._rows[family]
        try:
            rows.seek(start)
            while rows.valid() and (end is None or rows.key() < end):
                yield rows.key(), rows.value()
                rows.next()
            rows.status()
        except Exception as error:
            raise self._database.read_failed(error, f"scanning {family}") from error

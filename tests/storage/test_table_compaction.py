"""The space of removed rows is freed, and their markers slow down seeks only for a short time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftkv.kv.store import Family
from raftkv.raft.entry import Entry, EntryKind
from raftkv.storage import table_compaction
from raftkv.storage.log_store import RocksLogStore
from raftkv.storage.rocks import RocksDatabase
from raftkv.storage.state_store import RocksStateStore
from raftkv.storage.table_compaction import (
    EDGE_BYTES_MAX,
    RANGES_MAX,
    SLICE_BYTES,
    Removed,
    Table,
    TableCompaction,
    merged,
    slices,
    tables_of,
    touches_too_much,
)

PATIENCE_S = 30.0
SEEK_S_MAX = 0.020
CURRENT, HISTORY = Family.CURRENT, Family.HISTORY


def key(row: int) -> bytes:
    return b"user/%08d" % row


def soon(database: RocksDatabase, pause_s: float = 0.05) -> None:
    """Compact rows that are removed from now on almost at once."""
    marked = [family for family in Family if family not in (HISTORY, Family.CHANGES)]
    database.compaction = TableCompaction(
        database, marked, pause_s=pause_s, delay_s_max=max(pause_s, PATIENCE_S)
    )


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStateStore]:
    store = RocksStateStore(tmp_path / "state", create=True)
    yield store
    store.database.close()


def load(store: RocksStateStore, family: Family, rows: int, value: bytes = b"v" * 100) -> None:
    for first in range(0, rows, 10_000):
        store.write({family: {key(row): value for row in range(first, min(first + 10_000, rows))}})
    store.database.flush()


def test_the_space_of_removed_ranges_is_freed(store: RocksStateStore) -> None:
    load(store, CURRENT, 20_000, b"v%s" % bytes(range(256)) * 4)
    soon(store.database)
    before = store.database.size_bytes()
    store.write({}, {CURRENT: [(key(0), key(19_990))]})
    wait_until(lambda: store.database.size_bytes() < before / 10)
    assert [row for row, _ in store.scan(CURRENT, b"", None)] == list(
        map(key, range(19_990, 20_000))
    )


def test_the_space_of_rows_removed_one_by_one_is_freed(store: RocksStateStore) -> None:
    load(store, HISTORY, 20_000, b"v%s" % bytes(range(256)) * 4)
    soon(store.database)
    before = store.database.size_bytes()
    for first in range(0, 20_000, 1_000):
        store.write({HISTORY: {key(row): None for row in range(first, first + 1_000)}})
    wait_until(lambda: store.database.size_bytes() < before / 10)


def test_a_few_large_rows_are_worth_it_and_a_few_small_ones_are_not(
    store: RocksStateStore,
) -> None:
    store.write({HISTORY: {key(row): bytes([row]) * 500_000 for row in range(40)}})
    load(store, CURRENT, 20_000)
    soon(store.database)
    tables = tables_of(store.database.families[CURRENT])
    store.write({CURRENT: {key(row): None for row in range(10)}})
    store.write({HISTORY: {key(row): None for row in range(40)}})
    wait_until(lambda: not tables_of(store.database.families[HISTORY]))
    assert tables_of(store.database.families[CURRENT]) == tables


def test_no_seek_takes_long_while_many_keys_are_deleted_in_pages(store: RocksStateStore) -> None:
    load(store, CURRENT, 300_000)
    store.write({CURRENT: {b"z": b"v"}})
    worst_s = 0.0
    for first in range(0, 300_000, 10_000):
        store.write({}, {CURRENT: [(key(first), key(first + 10_000))]})
        for start in (b"", b"user/"):
            began_s = time.thread_time()
            next(store.scan(CURRENT, start, None))
            worst_s = max(worst_s, time.thread_time() - began_s)
    assert worst_s < SEEK_S_MAX


def test_deletion_markers_are_compacted_before_a_seek_takes_long(
    store: RocksStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(store, CURRENT, 60_000)
    current = store.database.families[CURRENT]
    monkeypatch.setattr(table_compaction, "MARKERS_PER_FLUSH", 10_000)
    soon(store.database, pause_s=3_600.0)
    for first in range(0, 50_000, 1_000):
        store.write({CURRENT: {key(row): None for row in range(first, first + 1_000)}})
    # Long before removals pause, the family is flushed, and RocksDB compacts the dense tables. The
    # last markers, too few for a flush, are not compacted.
    before = 60_000 * 120
    wait_until(lambda: sum(table.size_bytes for table in tables_of(current)) < before / 2)
    assert next(store.scan(CURRENT, b"", None))[0] == key(50_000)


def test_closing_a_store_does_not_wait_for_a_pause_of_compaction(tmp_path: Path) -> None:
    store = RocksStateStore(tmp_path / "state", create=True)
    load(store, CURRENT, 1_000)
    soon(store.database, pause_s=3_600.0)
    store.write({}, {CURRENT: [(key(0), key(900))]})
    began_s = time.monotonic()
    store.database.close()
    assert time.monotonic() - began_s < PATIENCE_S
    again = RocksStateStore(tmp_path / "state", create=False)
    assert next(again.scan(CURRENT, b"", None))[0] == key(900)
    again.database.close()


async def test_the_space_of_a_compacted_log_is_freed(tmp_path: Path) -> None:
    log = RocksLogStore(tmp_path / "log")
    log.recover()
    soon(log._database)
    payload = bytes(range(256)) * 400
    for first in range(1, 401, 100):
        entries = [
            Entry(1, index, EntryKind.COMMANDS, payload) for index in range(first, first + 100)
        ]
        await log.append(None, entries)
    assert log._database.size_bytes() > 400 * len(payload)
    await log.compact(395, 1, 7)
    await asyncio.to_thread(wait_until, lambda: log._database.size_bytes() < 4_000_000)
    await log.close()
    log = RocksLogStore(tmp_path / "log")
    assert [entry.index for entry in log.recover().entries] == [396, 397, 398, 399, 400]
    await log.close()


def test_adjacent_ranges_are_merged() -> None:
    removed = Removed()
    for first in range(0, 100, 10):
        removed.add_range(key(first), key(first + 10))
    assert removed.ranges == [(key(0), key(100))]
    assert merged([(b"m", b"p"), (b"a", b"c"), (b"b", b"d")]) == [(b"a", b"d"), (b"m", b"p")]


def test_many_scattered_ranges_are_kept_as_rows_between_two_keys() -> None:
    removed = Removed()
    for first in range(0, 10 * (RANGES_MAX + 1), 10):
        removed.add_range(key(first), key(first + 1))
    assert removed.ranges == []
    assert removed.rows == RANGES_MAX + 1
    assert (removed.first, removed.last) == (key(0), key(10 * RANGES_MAX + 1))


def test_a_long_range_is_compacted_in_slices_that_begin_where_tables_do() -> None:
    tables = [Table(SLICE_BYTES // 2, b"%d" % n, b"%d9" % n) for n in range(6)]
    assert slices(tables, b"0", b"6") == [(b"0", b"2"), (b"2", b"4"), (b"4", b"6")]
    assert slices([], b"a", b"b") == [(b"a", b"b")]


def test_a_range_that_only_touches_large_tables_is_left_alone() -> None:
    assert touches_too_much([Table(EDGE_BYTES_MAX + 1, b"a", b"z")], b"k", b"l")
    assert not touches_too_much([Table(EDGE_BYTES_MAX - 1, b"a", b"z")], b"k", b"l")
    assert not touches_too_much([Table(EDGE_BYTES_MAX + 1, b"k", b"kk")], b"a", b"l")


def test_many_rows_removed_one_by_one_are_compacted_without_a_pause(
    store: RocksStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(store, HISTORY, 5_000, b"v%s" % bytes(range(256)) * 4)
    monkeypatch.setattr(table_compaction, "ROWS_UNMARKED_MAX", 4_000)
    soon(store.database, pause_s=3_600.0)
    before = store.database.size_bytes()
    store.write({HISTORY: {key(row): None for row in range(4_500)}})
    wait_until(lambda: store.database.size_bytes() < before / 4)

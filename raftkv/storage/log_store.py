"""The replicated log in RocksDB."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rocksdict import Rdict, WriteBatch

from raftkv.errors import check
from raftkv.files import sync_file, translated
from raftkv.metrics import table
from raftkv.metrics.histogram import Histogram
from raftkv.metrics.samples import SampleSet
from raftkv.raft.entry import Entry, HardState
from raftkv.storage.damage import damaged
from raftkv.storage.log_records import (
    COMPACTION_POINT_KEY,
    ENTRIES_END,
    HARD_STATE_KEY,
    STARTS_KEY,
    damaged_record,
    decode_compaction_point,
    decode_entry,
    decode_hard_state,
    decode_starts,
    encode_compaction_point,
    encode_entry,
    encode_hard_state,
    encode_starts,
    entry_key,
)
from raftkv.storage.ports import RecoveredLog, Starts
from raftkv.storage.rocks import OPEN_TABLES_MAX, RocksDatabase, Tuning, iterate
from raftkv.storage.verification import FileVerification, verify_open_database
from raftkv.storage.writer import WriterThread, nothing

BATCH_BYTES_MAX = 1 << 20
"""A write holds the GIL for 2.5 ms per MB, so larger appends are written in parts."""

_FAMILY = "default"

_TUNING = Tuning(
    write_buffer_bytes=16 << 20,
    write_buffers_max=3,
    write_buffers_total_bytes=48 << 20,
    cache_bytes=4 << 20,  # the log is read once at start, from its first entry to its last
    wal_total_bytes=64 << 20,
    refuse_damaged_wal=True,
)


class RocksLogStore:
    """A `LogStore` on disk. Call `recover` first, and then one method at a time."""

    def __init__(self, path: Path, *, open_tables_max: int = OPEN_TABLES_MAX) -> None:
        """Open the log below `path`, or create it. Raises `StorageError`."""
        self._database = _open(path, open_tables_max)
        self._writer = WriterThread("raftkv-log")
        self._verifier = WriterThread("raftkv-log-verification")
        self._commit_index = 0
        self._last_index = 0
        self._writes = Histogram()
        self._syncs = Histogram()
        self.writing_since_s: float | None = None
        """Begin of the append under way, in `time.monotonic`; None: none is."""

    def recover(self) -> RecoveredLog:
        """Read the whole log. Raises `DamagedData` if a record is missing or damaged."""
        recovered = _recover(self._database)
        entries = recovered.entries
        self._commit_index = recovered.hard_state.commit_index
        self._last_index = entries[-1].index if entries else recovered.compacted_index
        return recovered

    async def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Write on the caller's thread, because rocksdict holds the GIL on any thread, and sync on
        the writer thread, which releases it.

        A crash may leave a part of an append that is larger than `BATCH_BYTES_MAX`: first the term
        and the truncation are written, then the entries in order, and the commit index with the
        last of them. Each part is synced before the next one is written.
        """
        first = entries[0].index if entries else 0
        check(first <= self._last_index + 1, "the log has no gap", first=first)
        began_s = self.writing_since_s = time.monotonic()
        try:
            await self._append(hard_state, entries, first)
        finally:
            self.writing_since_s = None
        self._writes.observe(time.monotonic() - began_s)

    async def _append(
        self, hard_state: HardState | None, entries: Sequence[Entry], first: int
    ) -> None:
        batch, parts = WriteBatch(raw_mode=True), 1
        if 0 < first <= self._last_index:
            batch.delete_range(entry_key(first), ENTRIES_END)
        for entry in entries:
            if batch.size_in_bytes() >= BATCH_BYTES_MAX:
                if hard_state is not None and parts == 1:
                    batch.put(
                        HARD_STATE_KEY, encode_hard_state(self._with_known_commit(hard_state))
                    )
                self._database.write(batch)
                # RocksDB may put the next part into another write-ahead log. A power cut could tear
                # the end of the older one, and then a restart would find the parts with a hole.
                await self._writer.run(self._sync)
                self._last_index = entry.index - 1
                batch, parts = WriteBatch(raw_mode=True), parts + 1
            batch.put(entry_key(entry.index), encode_entry(entry))
        if hard_state is not None:
            batch.put(HARD_STATE_KEY, encode_hard_state(hard_state))
            self._commit_index = hard_state.commit_index
        self._database.write(batch)
        if entries:
            self._last_index = entries[-1].index
        await self._writer.run(self._sync)

    async def compact(self, through_index: int, through_term: int, through_hash: int) -> None:
        """Delete the entries up to and including `through_index`, at a cost that does not depend on
        their number.
        """
        point = encode_compaction_point(through_index, through_term, through_hash)
        await self._forget(entry_key(through_index + 1), point)

    async def reset(self, index: int, term: int, hash_there: int) -> None:
        """Delete all entries: a snapshot that ends at (index, term) replaces them."""
        await self._forget(ENTRIES_END, encode_compaction_point(index, term, hash_there))
        self._last_index = index

    async def write_starts(self, starts: Starts) -> None:
        """Replace the stored starts."""
        batch = WriteBatch(raw_mode=True)
        batch.put(STARTS_KEY, encode_starts(starts))
        self._database.write(batch)
        await self._writer.run(self._database.sync)

    def sample(self, samples: SampleSet) -> None:
        """Add the durations of the writes so far."""
        samples.set(table.LOG_WRITE, self._writes.read())
        samples.set(table.LOG_SYNC, self._syncs.read())

    def verification(self) -> FileVerification:
        """A verification of the files: the log in memory would hide damage to them."""
        database = self._database
        return FileVerification(
            self._verifier, verify_open_database(database.path, database.live_tables)
        )

    async def close(self) -> None:
        """Complete the calls in progress and release the disk."""
        await self._verifier.close(nothing)
        await self._writer.close(self._database.close)

    def _sync(self) -> None:
        began_s = time.monotonic()
        self._database.sync()
        self._syncs.observe(time.monotonic() - began_s)

    def _with_known_commit(self, hard_state: HardState) -> HardState:
        commit_index = min(hard_state.commit_index, self._commit_index)
        return replace(hard_state, commit_index=commit_index)

    async def _forget(self, end: bytes, compaction_point: bytes) -> None:
        batch = WriteBatch(raw_mode=True)
        batch.put(COMPACTION_POINT_KEY, compaction_point)
        batch.delete_range(entry_key(0), end)
        self._database.write(batch)
        self._database.compaction.range_removed(_FAMILY, entry_key(0), end)
        await self._writer.run(self._database.sync)


def read_closed_log(path: Path) -> RecoveredLog:
    """Read the whole log below `path` and leave it as it is. No process may have it open.

    Raises `StorageError`, and `DamagedData` if a record is missing or damaged.
    """
    database = RocksDatabase(path, (_FAMILY,), _TUNING, create=False, read_only=True)
    try:
        return _recover(database)
    finally:
        database.close()


def _open(path: Path, open_tables_max: int) -> RocksDatabase:
    with translated("opening the log", path):
        if not path.exists():
            path.mkdir()
            sync_file(path.parent)
        if not (path / "CURRENT").exists() and any(path.glob("*.log")):
            # RocksDB would create a new log here, and this node would have lost its votes.
            raise damaged(f"{path} has lost its file CURRENT", path=path)
    return RocksDatabase(path, (_FAMILY,), _TUNING, create=True, open_tables_max=open_tables_max)


def _recover(database: RocksDatabase) -> RecoveredLog:
    with database.guarded("recovering the log"):
        records = database.families[_FAMILY]
        hard_state, starts = _hard_state(records), _starts(records)
        index, term, running_hash = _compaction_point(records)
        entries = list(_contiguous(_entries(records), index, term))
    return RecoveredLog(hard_state, index, term, entries, running_hash, starts)


def _hard_state(records: Rdict) -> HardState:
    record = records.get(HARD_STATE_KEY)
    return HardState() if record is None else decode_hard_state(record)


def _compaction_point(records: Rdict) -> tuple[int, int, int]:
    record = records.get(COMPACTION_POINT_KEY)
    return (0, 0, 0) if record is None else decode_compaction_point(record)


def _starts(records: Rdict) -> Starts:
    record = records.get(STARTS_KEY)
    return Starts() if record is None else decode_starts(record)


def _entries(records: Rdict) -> Iterator[Entry]:
    rows, _bounds = iterate(records, ENTRIES_END)
    rows.seek(entry_key(0))
    while rows.valid():
        yield decode_entry(rows.key(), rows.value())
        rows.next()
    rows.status()


def _contiguous(entries: Iterator[Entry], index: int, term: int) -> Iterator[Entry]:
    for entry in entries:
        if entry.index != index + 1:
            raise damaged_record(f"entry {index + 1} (missing before entry {entry.index})")
        if entry.term < term:
            raise damaged_record(f"entry {entry.index} (its term {entry.term} follows term {term})")
        index, term = entry.index, entry.term
        yield entry

"""One RocksDB database: its options, and the typed errors for its failures.

rocksdict raises every failure as a bare `Exception`; this module translates all of them. The
docstring of a call that holds the GIL, also during its disk work, mentions it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    ChecksumType,
    ColumnFamily,
    CompactOptions,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from raftkv.errors import DamagedData, DirectoryInUse, DiskFull, StorageError
from raftkv.files import out_of_resources, size_bytes
from raftkv.storage.damage import damaged
from raftkv.storage.table_compaction import TableCompaction
from raftkv.storage.table_file import FORMAT_VERSION

_DAMAGED = re.compile(r"corruption|checksum mismatch|no such file|does not exist", re.IGNORECASE)
_FULL = re.compile(r"no space left|disk quota|file too large", re.IGNORECASE)
# Bytes that the disk can't read are as lost as wrong ones.
_UNREADABLE = re.compile(r"input/output error|bad message|structure needs clean", re.IGNORECASE)
_NO_RESOURCES = re.compile(
    r"too many open files|cannot allocate memory|resource temporarily unavailable", re.IGNORECASE
)
_LOCKED = re.compile(r"/LOCK: ")


OPEN_TABLES_MAX = 1_000
_NOT_TABLES = 10  # of RocksDB's max_open_files: RocksDB reserves these for its logs and MANIFEST


@dataclass(frozen=True, slots=True)
class Tuning:
    """The options in which the two databases of a node differ."""

    write_buffer_bytes: int
    write_buffers_max: int
    write_buffers_total_bytes: int
    cache_bytes: int
    wal_total_bytes: int
    # The treatment of a damaged record in the write-ahead log. True: only a record that is cut
    # short by the end of the file is dropped, because all records before it may have been
    # acknowledged. False: the records before the first damaged one are the state, because no record
    # after it was acknowledged.
    refuse_damaged_wal: bool
    # Families whose rows are removed everywhere at once. Compacting each of their tables that is
    # dense with deletion markers would rewrite tables without markers again and again.
    unmarked: frozenset[str] = frozenset()


class RocksDatabase:
    """An open database, which refuses writes after a failed write or after damage was found.

    After a failed write or sync the content of the disk is unknown, so a later success proves
    nothing. A failed read does not put earlier writes in doubt.
    """

    def __init__(
        self,
        path: Path,
        families: Sequence[str],
        tuning: Tuning,
        *,
        create: bool,
        open_tables_max: int = OPEN_TABLES_MAX,
        read_only: bool = False,
    ) -> None:
        """Open with all `families`. A database that is opened to read only stays as it is.

        Raises `StorageError`, and `DamagedData` if it can't be read.
        """
        self.path = path
        self._failure: StorageError | None = None
        cache = Cache(tuning.cache_bytes)
        options = _options(tuning, cache, create=create)
        options.set_max_open_files(open_tables_max + _NOT_TABLES)
        marked = set(families) - tuning.unmarked
        with self.guarded("opening the database"):
            self._database = Rdict(
                str(path),
                options,
                column_families={
                    name: _options(tuning, cache, create=create, marked=name in marked)
                    for name in families
                },
                access_type=AccessType.read_only() if read_only else AccessType.read_write(),
            )
        self.families: dict[str, Rdict] = {
            name: self._database.get_column_family(name) for name in families
        }
        self.handles: dict[str, ColumnFamily] = {
            name: self._database.get_column_family_handle(name) for name in families
        }
        self._write_options = WriteOptions()
        self._compact_options = CompactOptions()
        # RocksDB's own compactions continue meanwhile; otherwise writes would wait for this one.
        self._compact_options.set_exclusive_manual_compaction(False)
        self.compaction = TableCompaction(self, marked)

    @contextmanager
    def guarded(self, doing: str) -> Iterator[None]:
        """Run a body that writes.

        An exception in it becomes a `StorageError` and ends all writes.
        """
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except Exception as error:
            raise self.failed(error, doing) from error

    def failed(self, error: Exception, doing: str) -> StorageError:
        """The error for a failed write. The first one ends all writes."""
        if self._failure is None:
            self._failure = translated_error(error, doing, self.path)
        return self._failure

    def read_failed(self, error: Exception, doing: str) -> StorageError:
        """The error for a failed read.

        Damage ends all writes. A lack of descriptors or memory does not, nor does an unknown error:
        the next read may succeed.
        """
        if self._failure is not None:
            return self._failure
        if _UNREADABLE.search(str(error)):
            return self.failed(
                damaged(f"{self.path} can't be read (while {doing}): {error}", path=self.path),
                doing,
            )
        translated = translated_error(error, doing, self.path)
        if isinstance(translated, DamagedData):
            return self.failed(translated, doing)
        return translated

    @property
    def sequence(self) -> int:
        """A number that every write increases."""
        try:
            return self._database.latest_sequence_number()
        except Exception as error:
            raise self.read_failed(error, "reading the sequence number") from error

    def live_tables(self) -> list[str]:
        """The names of the current table files; empty if the database is closed."""
        try:
            return [str(table["name"]).lstrip("/") for table in self._database.live_files()]
        except Exception as error:
            if isinstance(self._failure, _Closed):
                return []  # the owner may close it while another thread calls this
            raise translated_error(error, "listing the tables", self.path) from error

    def write(self, batch: WriteBatch) -> None:
        """Apply a batch, without waiting for the disk. Holds the GIL for 2.5 ms per MB."""
        if self._failure is not None:
            raise self._failure
        try:
            self._database.write(batch, self._write_options)
        except Exception as error:
            raise self.failed(error, "writing") from error

    def sync(self) -> None:
        """Sync everything that was written so far to the disk. Releases the GIL."""
        with self.guarded("syncing the write-ahead log"):
            self._database.flush_wal(True)

    def flush(self, *names: str) -> None:
        """Write the memtables of these families, or of all, to tables. Releases the GIL."""
        with self.guarded("flushing memtables"):
            for name in names or self.families:
                self.families[name].flush(True)

    def compact_range(self, name: str, first: bytes, last: bytes) -> None:
        """Rewrite the family's tables between two keys without removed rows and markers.

        Releases the GIL.
        """
        try:
            self.families[name].compact_range(first, last, self._compact_options)
        except Exception as error:
            raise self.read_failed(error, "compacting tables") from error

    def size_bytes(self) -> int:
        """The size of all files."""
        return size_bytes(self.path)

    def checkpoint(self, path: Path) -> None:
        """Hard-link the database into the new directory `path`.

        Holds the GIL, also while it flushes the writes since the last `flush`.
        """
        try:
            Checkpoint(self._database).create_checkpoint(str(path))
        except Exception as error:
            raise self.read_failed(error, "making a checkpoint") from error

    def end_writes(self) -> None:
        """Refuse writes from now on, because another database replaces this one.

        Reads still work.
        """
        self._failure = _Replaced(f"the database in {self.path} is closed: another replaced it")

    def close(self) -> None:
        """Flush and release the files. An iterator keeps its files open until it is dropped."""
        if isinstance(self._failure, _Closed):
            return
        self.compaction.close()
        failure, self._failure = self._failure, _Closed(f"the database in {self.path} is closed")
        databases = [*self.families.values(), self._database]
        # A single family or handle would keep the database and its lock.
        self.families.clear()
        self.handles.clear()
        del self._database
        errors = [error for database in databases if (error := _close(database)) is not None]
        if errors and failure is None:
            raise translated_error(errors[0], "closing the database", self.path) from errors[0]


def _close(database: Rdict) -> Exception | None:
    try:
        database.close()
    except Exception as error:  # noqa: BLE001 - the others must be closed as well
        return error
    return None


class _Replaced(StorageError):
    """A write to a replaced database, which would be lost."""


class _Closed(StorageError):
    """A call after `close`."""


def iterate(family: Rdict, end: bytes | None) -> tuple[RdictIter, ReadOptions]:
    """An iterator over the family as it is now, which ends before `end`. Seek before use.

    Keep the options as long as the iterator: it has no reference of its own to `end`, and would
    read its bound from freed memory.

    rocksdict's `items()` is no substitute: it ends silently at a damaged block, where this
    iterator's `status()` raises. Neither honours `set_iterate_lower_bound`.
    """
    options = ReadOptions()
    if end is not None:
        options.set_iterate_upper_bound(end)
    return family.iter(options), options


def _options(tuning: Tuning, cache: Cache, *, create: bool, marked: bool = False) -> Options:
    options = Options(raw_mode=True)
    if marked:
        # A table is compacted if half of 4,096 adjacent rows, or of all rows, are deletion markers.
        options.add_compact_on_deletion_collector_factory(4096, 2048, 0.5)
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(
        DBRecoveryMode.tolerate_corrupted_tail_records()
        if tuning.refuse_damaged_wal
        else DBRecoveryMode.point_in_time()
    )
    options.set_write_buffer_size(tuning.write_buffer_bytes)
    options.set_max_write_buffer_number(tuning.write_buffers_max)
    options.set_db_write_buffer_size(tuning.write_buffers_total_bytes)
    options.set_max_total_wal_size(tuning.wal_total_bytes)
    # There is one writer. Support for concurrent writers costs each write 15 %.
    options.set_allow_concurrent_memtable_write(False)
    options.set_enable_write_thread_adaptive_yield(False)
    # Most lookups are of keys that do not exist yet. With this filter the memtable reports an
    # absent key in 0.3 us instead of 1.7 us.
    options.set_memtable_prefix_bloom_ratio(0.02)
    options.set_memtable_whole_key_filtering(True)
    # Compaction took a quarter of the CPU of a busy node. It now runs after 256 MB in one family.
    options.set_level_zero_file_num_compaction_trigger(16)
    # A write that RocksDB slows down holds the GIL, which also delays heartbeats.
    options.set_level_zero_slowdown_writes_trigger(40)
    options.set_level_zero_stop_writes_trigger(64)
    options.set_max_background_jobs(2)
    options.set_compression_type(DBCompressionType.lz4())
    none, lz4 = DBCompressionType.none(), DBCompressionType.lz4()
    options.set_compression_per_level([none, none, lz4, lz4, lz4, lz4, lz4])
    options.set_bytes_per_sync(1 << 20)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 << 20)
    options.set_stats_dump_period_sec(0)
    options.set_block_based_table_factory(_table_options(cache))
    return options


def _table_options(cache: Cache) -> BlockBasedOptions:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(10, False)
    # Verification (table_file.py) reads these formats, and no others.
    table.set_format_version(FORMAT_VERSION)
    table.set_checksum_type(ChecksumType.xxh3())
    table.set_index_type(BlockBasedIndexType.binary_search())
    table.set_index_block_restart_interval(1)
    # Index and filter blocks stay in memory with their open table (about 2 bytes per key). In the
    # cache, a block larger than a shard would be read and checked again for every get.
    table.set_cache_index_and_filter_blocks(False)
    return table


def translated_error(error: Exception, doing: str, path: Path) -> StorageError:
    """The typed error for an exception of rocksdict, with the fix for the operator."""
    if isinstance(error, StorageError):
        return error
    text = str(error)
    if _FULL.search(text):
        return DiskFull(
            f"no space while {doing} in {path}: {text}; free space on this disk, then restart",
            path=path,
        )
    if _LOCKED.search(text):
        return DirectoryInUse(f"the database in {path} is already open: {text}", path=path)
    if _DAMAGED.search(text):
        return damaged(f"{path} is damaged (while {doing}): {text}", path=path)
    if _NO_RESOURCES.search(text):
        return out_of_resources(doing, path, text)
    return StorageError(f"the disk failed while {doing} in {path}: {text}", path=path)

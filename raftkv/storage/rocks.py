"""One RocksDB database: how it is opened and tuned, and what its errors mean.

rocksdict reports every failure as a bare `Exception`; nothing above this file sees one.
Where a call holds the GIL, also through its disk work, its docstring says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rocksdict import (
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
# What the disk refuses to return is as lost as what it returns wrongly.
_UNREADABLE = re.compile(r"input/output error|bad message|structure needs clean", re.IGNORECASE)
_NO_RESOURCES = re.compile(
    r"too many open files|cannot allocate memory|resource temporarily unavailable", re.IGNORECASE
)
_LOCKED = re.compile(r"/LOCK: ")


OPEN_TABLES_MAX = 1_000
_NOT_TABLES = 10  # of RocksDB's max_open_files: so many it sets aside for its logs and MANIFEST


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the two databases of a node do differently."""

    write_buffer_bytes: int
    write_buffers_max: int
    write_buffers_total_bytes: int
    cache_bytes: int
    wal_total_bytes: int
    # What to make of a bad record in the write-ahead log. True: only a record cut short by the
    # end of the file is forgiven, for whatever stands before it may have been promised. False:
    # the records before the first bad one are the state, for nothing behind it was promised.
    refuse_damaged_wal: bool
    # Families whose rows are removed all over them at once: to compact each table that is dense
    # with deletion markers would rewrite what has none, again and again.
    unmarked: frozenset[str] = frozenset()


class RocksDatabase:
    """An open database that stops taking writes when one has failed, or damage was found.

    After a failed write or sync it is not known what the disk has, so no later success could
    be believed. A read that failed says nothing of what is written.
    """

    def __init__(
        self,
        path: Path,
        families: Sequence[str],
        tuning: Tuning,
        *,
        create: bool,
        open_tables_max: int = OPEN_TABLES_MAX,
    ) -> None:
        """Open with all `families`. Raises `StorageError`; `DamagedData` if it can't be read."""
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
            )
        self.families: dict[str, Rdict] = {
            name: self._database.get_column_family(name) for name in families
        }
        self.handles: dict[str, ColumnFamily] = {
            name: self._database.get_column_family_handle(name) for name in families
        }
        self._write_options = WriteOptions()
        self._compact_options = CompactOptions()
        # RocksDB's own compactions go on meanwhile, or writes would have to wait for this one.
        self._compact_options.set_exclusive_manual_compaction(False)
        self.compaction = TableCompaction(self, marked)

    @contextmanager
    def guarded(self, doing: str) -> Iterator[None]:
        """Make the exception of a body that writes a `StorageError`, and the last write."""
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except Exception as error:
            raise self.failed(error, doing) from error

    def failed(self, error: Exception, doing: str) -> StorageError:
        """The error to raise where a write has failed; from the first on, no writes."""
        if self._failure is None:
            self._failure = translated_error(error, doing, self.path)
        return self._failure

    def read_failed(self, error: Exception, doing: str) -> StorageError:
        """The error to raise where a read has failed.

        Damage is a reason to write no more. A lack of descriptors or memory is none, nor is what
        nobody here understands: the next read may work.
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
        """The names of the table files that the database reads from now; none once it is closed."""
        try:
            return [str(table["name"]).lstrip("/") for table in self._database.live_files()]
        except Exception as error:
            if isinstance(self._failure, _Closed):
                return []  # its owner may close it while another thread asks
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
        """Wait until everything written so far would survive a power cut. Releases the GIL."""
        with self.guarded("syncing the write-ahead log"):
            self._database.flush_wal(True)

    def flush(self, *names: str) -> None:
        """Wait until the memtables of these families, or of all, are tables. Releases the GIL."""
        with self.guarded("flushing memtables"):
            for name in names or self.families:
                self.families[name].flush(True)

    def compact_range(self, name: str, first: bytes, last: bytes) -> None:
        """Rewrite the family's tables between two keys without what is not there any more.

        Releases the GIL.
        """
        try:
            self.families[name].compact_range(first, last, self._compact_options)
        except Exception as error:
            raise self.read_failed(error, "compacting tables") from error

    def size_bytes(self) -> int:
        """Sum of the sizes of its files."""
        return size_bytes(self.path)

    def checkpoint(self, path: Path) -> None:
        """Hard-link the database as it is into the new directory `path`.

        Holds the GIL, also while it flushes what was written since the last `flush`.
        """
        try:
            Checkpoint(self._database).create_checkpoint(str(path))
        except Exception as error:
            raise self.read_failed(error, "making a checkpoint") from error

    def end_writes(self) -> None:
        """Something has taken its place: it can still be read."""
        self._failure = _Replaced(f"the database in {self.path} is closed: another replaced it")

    def close(self) -> None:
        """Flush and release. An iterator still in use keeps the files open until it is dropped."""
        if isinstance(self._failure, _Closed):
            return
        self.compaction.close()
        failure, self._failure = self._failure, _Closed(f"the database in {self.path} is closed")
        databases = [*self.families.values(), self._database]
        # A family or a handle alone would keep the database, and its lock, alive.
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
    """What is written now would be lost."""


class _Closed(StorageError):
    """The caller closed the database and used it again."""


def iterate(family: Rdict, end: bytes | None) -> tuple[RdictIter, ReadOptions]:
    """An iterator over the family as it is now, that ends before `end`. Seek before use.

    The options must live as long as the iterator: it does not keep `end` alive itself, and would
    read its bound from memory that is somebody else's by then.

    rocksdict's `items()` is no substitute: it ends in silence at a damaged block, where this
    iterator's `status()` raises. Neither honours `set_iterate_lower_bound`.
    """
    options = ReadOptions()
    if end is not None:
        options.set_iterate_upper_bound(end)
    return family.iter(options), options


def _options(tuning: Tuning, cache: Cache, *, create: bool, marked: bool = False) -> Options:
    options = Options(raw_mode=True)
    if marked:
        # A table is compacted if of 4,096 rows in a row, or of all, half are deletion markers.
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
    # There is one writer: what makes concurrent ones possible costs each write 15 %.
    options.set_allow_concurrent_memtable_write(False)
    options.set_enable_write_thread_adaptive_yield(False)
    # Most keys that are looked up are being written for the first time: with this filter the
    # memtable answers 'not here' in 0.3 us instead of 1.7 us.
    options.set_memtable_prefix_bloom_ratio(0.02)
    options.set_memtable_whole_key_filtering(True)
    # Compaction was a quarter of the CPU of a busy node: it is due after 256 MB in one family.
    options.set_level_zero_file_num_compaction_trigger(16)
    # A write that is slowed down holds the GIL meanwhile, so that heartbeats stop too.
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
    # What verifies the tables reads these formats, and no others (table_file.py).
    table.set_format_version(FORMAT_VERSION)
    table.set_checksum_type(ChecksumType.xxh3())
    table.set_index_type(BlockBasedIndexType.binary_search())
    table.set_index_block_restart_interval(1)
    # Index and filter blocks stay with their open table (about 2 bytes per key). In the cache,
    # one that is larger than a shard would be read and checked again for every single get.
    table.set_cache_index_and_filter_blocks(False)
    return table


def translated_error(error: Exception, doing: str, path: Path) -> StorageError:
    """What an exception of rocksdict means for the node, and what its operator can do."""
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

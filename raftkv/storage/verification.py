"""Verification: reads the files of a database completely, and compares them with their checksums.

RocksDB checks only the blocks that it reads: none that no client requests, and neither the index
nor the filter of a table, which it has in memory. Snapshots contain all of them. Verification reads
the files themselves (`table_file.py`, `record_file.py`). That takes a third of the CPU time of
reading all rows, and holds the GIL for parts of a millisecond.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raftkv.errors import DamagedData
from raftkv.files import from_os_error
from raftkv.storage.ports import Slice, Verification
from raftkv.storage.record_file import damaged_record, verify_records
from raftkv.storage.table_file import DiskReader, verify_table
from raftkv.storage.writer import WriterThread

SLICE_BYTES_MIN = 256 << 10
"""Bytes that are read per call on the thread. A slice takes half a millisecond."""

CPU_SHARE_MAX = 0.25
"""The share of a core for the verification of a snapshot, which a peer or the node waits for."""

UNFINISHED_S_MAX = 60.0
"""The time in which a record that is being written must be complete: usually milliseconds."""

_UNREADABLE = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)


class FileVerification:
    """A `Verification` that reads on `thread`."""

    def __init__(self, thread: WriterThread, reading: Iterator[int]) -> None:
        self._thread = thread
        self._reading = reading

    async def step(self) -> Slice:
        """Read and check the next slice."""
        return await self._thread.run(self._read_slice)

    def _read_slice(self) -> Slice:
        began_s, bytes_read, last = time.thread_time(), 0, True
        for count in self._reading:
            bytes_read += count
            if count == 0 or bytes_read >= SLICE_BYTES_MIN:
                last = False
                break
        return Slice(bytes_read, time.thread_time() - began_s, last)


async def verify(verification: Verification) -> None:
    """Run the whole verification, with `CPU_SHARE_MAX` of a core. Raises `DamagedData`."""
    last = False
    while not last:
        read = await verification.step()
        last = read.last
        await asyncio.sleep(read.cpu_s * (1 / CPU_SHARE_MAX - 1))


def verify_closed_database(directory: Path) -> Iterator[int]:
    """Check the files of a database that is not open. Yields the number of bytes read each time.

    It does not check that no table is missing; opening the database does. Raises `StorageError`.
    """
    reader = DiskReader()
    for path in sorted(directory.glob("*.sst")):
        with _translated(path):
            yield from verify_table(path, reader)
    for path in sorted(directory.glob("*.log")):
        with _translated(path):
            yield from verify_records(path)
    for path in directory.glob("MANIFEST-*"):
        with _translated(path):
            cut_short_at = yield from verify_records(path)
        if cut_short_at is not None:
            raise damaged_record(path, cut_short_at, "is cut short")


def verify_open_database(
    directory: Path, live_tables: Callable[[], Collection[str]]
) -> Iterator[int]:
    """Check all tables, write-ahead logs and MANIFESTs of a database that may be written meanwhile.

    Yields the number of bytes read each time; 0: a record is incomplete, try again later.
    `live_tables` returns the names of the current tables. Tables that are removed meanwhile are
    skipped, and new ones are left to the next verification. Raises `StorageError`.
    """
    reader = DiskReader()
    for name in sorted(live_tables()):
        path = directory / name
        try:
            with _translated(path):
                yield from verify_table(path, reader)
        except _Gone:
            if name in live_tables():
                raise
    for path in sorted((*directory.glob("*.log"), *directory.glob("MANIFEST-*"))):
        with suppress(_Gone), _translated(path):
            cut_short_at = yield from verify_records(path)
            if cut_short_at is not None:
                yield from _until_finished(path, cut_short_at)


def _until_finished(path: Path, offset: int) -> Iterator[int]:
    """Wait until the rest of a record at the end of the file is written."""
    size, began_s = path.stat().st_size, time.monotonic()
    while path.stat().st_size == size:
        if time.monotonic() - began_s > UNFINISHED_S_MAX:
            raise damaged_record(path, offset, "is longer than its file")
        yield 0


class _Gone(DamagedData):
    """A file was removed meanwhile."""


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise the typed error for an `OSError`: unreadable bytes are as lost as wrong ones."""
    try:
        yield
    except FileNotFoundError as error:
        raise _Gone(f"the file {path} is gone", path=path) from error
    except OSError as error:
        if error.errno in _UNREADABLE:
            raise DamagedData(f"{path} can't be read: {error.strerror}", path=path) from error
        raise from_os_error(error, "verifying it", path) from error

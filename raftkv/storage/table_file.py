"""Verifies RocksDB's table files, block by block.

    table    data blocks | meta blocks: filter, index, range deletions, properties | metaindex
             | footer
    block    contents | compression (1) | checksum (4): XXH3 of the contents and the compression
    footer   type of checksum (1) | handles of metaindex and index, padded to 40 | version (4)
             | magic number (8)
    handle   offset and size of a block's contents, as varints
    index    an entry for each data block: shared and own length of its key | the rest of
             its key | handle

Blocks follow each other without a gap, so every byte of a table is in a block or in the footer.
Source: RocksDB's table/format.cc and table/block_based (format version 5).
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lz4.block import LZ4BlockError, decompress
from xxhash import xxh3_64_intdigest

from raftkv.errors import DamagedData

FORMAT_VERSION = 5
"""The version of the tables that we write. Other versions have other footers."""

WINDOW_BYTES = 256 << 10
"""Bytes that are read at once. Their checksums take 0.3 ms."""

_FOOTER_BYTES = 53
_HANDLES_END = 41
_VERSION_AND_MAGIC = struct.Struct("<IQ")
_MAGIC = 0x88E241B785F4CFF7
_TRAILER = struct.Struct("<BI")
_XXH3 = 4
_LAST_BYTE_PRIME = 0x6B9083D9
_UNCOMPRESSED, _LZ4 = 0, 4
_RESTART_BYTES = 4
_PROPERTIES = b"rocksdb.properties"
_FAMILY = b"rocksdb.column.family.name"


class BlockHandle(NamedTuple):
    """The offset and size of a block's contents."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The offset after the block's checksum."""
        return self.offset + self.size + _TRAILER.size


def verify_table(path: Path, reader: DiskReader) -> Iterator[int]:
    """Check every block of the table, by windows; yields the bytes of each.

    Raises `DamagedData`, and `OSError` if the disk can't read it.
    """
    table = _Table(path, reader)
    try:
        yield from table.verify()
    except (IndexError, UnicodeDecodeError, LZ4BlockError) as error:
        # The checksum of the block is right, but the footer points to another kind of block.
        raise table.damaged(f"its footer names blocks that make no sense ({error})") from error


class _Table:
    def __init__(self, path: Path, reader: DiskReader) -> None:
        self._path = path
        self._reader = reader
        self._size = path.stat().st_size
        self._family = "unknown"

    def verify(self) -> Iterator[int]:
        metaindex, index = self._footer()
        meta = {name: _handle(value, 0)[0] for name, value in _entries(self._contents(metaindex))}
        if _PROPERTIES in meta:
            properties = dict(_entries(self._contents(meta[_PROPERTIES])))
            self._family = properties.get(_FAMILY, b"unknown").decode()
        rest = sorted([*meta.values(), metaindex, index])
        window: list[BlockHandle] = []
        end = 0
        for handle in chain(_data_handles(self._contents(index)), rest):
            if handle.offset != end:
                raise self.damaged(f"no block is where one should begin, at offset {end}")
            end = handle.end
            window.append(handle)
            if end - window[0].offset >= WINDOW_BYTES:
                yield self._check(window)
                window.clear()
        if end != self._size - _FOOTER_BYTES:
            raise self.damaged(f"its last block ends at {end}, and its footer is elsewhere")
        yield self._check(window) + _FOOTER_BYTES

    def damaged(self, how: str) -> DamagedData:
        return DamagedData(
            f"the table {self._path} of {self._size} bytes (family {self._family}) is damaged:"
            f" {how}",
            path=self._path,
            family=self._family,
        )

    def _footer(self) -> tuple[BlockHandle, BlockHandle]:
        """The handles of metaindex and index."""
        if self._size < _FOOTER_BYTES:
            raise self.damaged("it is too short for a table")
        footer = bytes(self._read(self._size - _FOOTER_BYTES, _FOOTER_BYTES))
        version, magic = _VERSION_AND_MAGIC.unpack_from(footer, _HANDLES_END)
        if magic != _MAGIC or version != FORMAT_VERSION or footer[0] != _XXH3:
            raise self.damaged("it does not end as a table does")
        metaindex, at = _handle(footer, 1)
        index, at = _handle(footer, at)
        if any(footer[at:_HANDLES_END]):
            raise self.damaged("its footer is not what was written")
        return metaindex, index

    def _check(self, window: list[BlockHandle]) -> int:
        """Check the blocks in one window. Returns their bytes."""
        start = window[0].offset
        size = window[-1].end - start
        data = self._read(start, size)
        for offset, length in window:
            at = offset - start
            contents = data[at : at + length]
            compression, checksum = _TRAILER.unpack_from(data, at + length)
            # RocksDB uses the lower half, and mixes in the last byte separately.
            mixed = xxh3_64_intdigest(contents) ^ compression * _LAST_BYTE_PRIME
            if mixed & 0xFFFFFFFF != checksum:
                raise self.damaged(f"the checksum of the block at offset {offset} does not fit")
        return size

    def _contents(self, handle: BlockHandle) -> bytes:
        """The contents of a block that is not data, checked and unpacked."""
        if handle.end > self._size:
            raise self.damaged(f"its footer names a block at offset {handle.offset}")
        self._check([handle])
        data = self._read(handle.offset, handle.size + 1)
        contents, compression = bytes(data[:-1]), data[-1]
        if compression == _UNCOMPRESSED:
            return contents
        if compression != _LZ4:
            raise self.damaged(f"a block is compressed in a way ({compression}) that we never use")
        size, at = _varint(contents, 0)
        unpacked: bytes = decompress(contents[at:], uncompressed_size=size)
        return unpacked

    def _read(self, offset: int, size: int) -> memoryview:
        data = self._reader.read(self._path, offset, size)
        if len(data) != size:
            raise self.damaged(f"it ends before offset {offset + size}")
        return data


def _data_handles(index: bytes) -> Iterator[BlockHandle]:
    """Each entry is a restart point (see `_table_options`), so each handle is complete."""
    at, end = 0, _entries_end(index)
    while at < end:
        _shared, at = _varint(index, at)
        own, at = _varint(index, at)
        handle, at = _handle(index, at + own)
        yield handle


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of any other block. A key shares a prefix with the one before."""
    at, end, key = 0, _entries_end(block), b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length


def _entries_end(block: bytes) -> int:
    """The end of a block's entries. The offsets of its restart points and their number follow."""
    restarts = int.from_bytes(block[-_RESTART_BYTES:], "little")
    return len(block) - _RESTART_BYTES * (restarts + 1)


def _handle(data: bytes, at: int) -> tuple[BlockHandle, int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return BlockHandle(offset, size), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and the offset after it."""
    number = shift = 0
    while (byte := data[at]) & 0x80:
        number |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1


_ALIGNMENT_BYTES = 4096
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)


class DiskReader:
    """Reads parts of files from the disk itself, with O_DIRECT where the file system supports it.

    The page cache may still have the written bytes when the disk no longer does, and pages that are
    read once a day should not fill it. The reader keeps no file open. It is for one thread, and for
    files that are not written any more.
    """

    def __init__(self) -> None:
        self._buffer = mmap.mmap(-1, _ALIGNMENT_BYTES)
        self._flags = os.O_RDONLY | os.O_CLOEXEC | _O_DIRECT

    def read(self, path: Path, offset: int, size: int) -> memoryview:
        """`size` bytes from `offset`, fewer if the file ends before; valid until the next call.

        Raises `OSError`.
        """
        start = offset - offset % _ALIGNMENT_BYTES
        length = -(-(offset + size - start) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        if len(self._buffer) < length:
            self._buffer = mmap.mmap(-1, length)
        try:
            end = start + self._fill(path, start, length)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._flags & _O_DIRECT:
                raise
            self._flags &= ~_O_DIRECT
            end = start + self._fill(path, start, length)
        return memoryview(self._buffer)[offset - start : min(offset + size, end) - start]

    def _fill(self, path: Path, start: int, length: int) -> int:
        """Read into the buffer. Returns the number of bytes."""
        file = os.open(path, self._flags)
        try:
            filled = 0
            with memoryview(self._buffer) as buffer:
                while filled < length:
                    count = os.preadv(file, [buffer[filled:length]], start + filled)
                    filled += count
                    if count == 0 or count % _ALIGNMENT_BYTES:
                        break  # the end of the file
            return filled
        finally:
            os.close(file)

"""RocksDB's table files: where their blocks are, and whether the checksum of each one fits.

    table    data blocks | meta blocks: filter, index, range deletions, properties | metaindex
             | footer
    block    contents | compression (1) | checksum (4): XXH3 of the contents and the compression
    footer   type of checksum (1) | places of metaindex and index, padded to 40 | version (4)
             | magic number (8)
    place    offset and size of a block's contents, as varints
    index    an entry for each data block: shared and own length of its key | what is not shared
             | place

Blocks follow each other without a gap, so every byte of a table is in a block or in the footer.
Source: RocksDB's table/format.cc and table/block_based (format version 5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lz4.block import LZ4BlockError, decompress
from xxhash import xxh3_64_intdigest

from raftkv.errors import DamagedData
from raftkv.storage.disk_reader import DiskReader

FORMAT_VERSION = 5
"""What tables are written with: another version puts other things into its footer."""

WINDOW_BYTES = 256 << 10
"""So many are read at once. Their checksums take 0.3 ms."""

_FOOTER_BYTES = 53
_PLACES_END = 41
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
    """Where the contents of a block are."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Behind the block's checksum."""
        return self.offset + self.size + _TRAILER.size


def verify_table(path: Path, reader: DiskReader) -> Iterator[int]:
    """Check every block of the table, by windows; yields how many bytes each had.

    Raises `DamagedData`, and `OSError` if the disk can't read it.
    """
    table = _Table(path, reader)
    try:
        yield from table.verify()
    except (IndexError, UnicodeDecodeError, LZ4BlockError) as error:
        # A checksum that fits, of a block that is something else: the footer leads astray.
        raise table.damaged(f"its footer names blocks that make no sense ({error})") from error


class _Table:
    def __init__(self, path: Path, reader: DiskReader) -> None:
        self._path = path
        self._reader = reader
        self._size = path.stat().st_size
        self._family = "unknown"

    def verify(self) -> Iterator[int]:
        metaindex, index = self._footer()
        meta = {name: _place(value, 0)[0] for name, value in _entries(self._contents(metaindex))}
        if _PROPERTIES in meta:
            properties = dict(_entries(self._contents(meta[_PROPERTIES])))
            self._family = properties.get(_FAMILY, b"unknown").decode()
        rest = sorted([*meta.values(), metaindex, index])
        window: list[BlockHandle] = []
        end = 0
        for place in chain(_data_places(self._contents(index)), rest):
            if place.offset != end:
                raise self.damaged(f"no block is where one should begin, at offset {end}")
            end = place.end
            window.append(place)
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
        """The places of metaindex and index."""
        if self._size < _FOOTER_BYTES:
            raise self.damaged("it is too short for a table")
        footer = bytes(self._read(self._size - _FOOTER_BYTES, _FOOTER_BYTES))
        version, magic = _VERSION_AND_MAGIC.unpack_from(footer, _PLACES_END)
        if magic != _MAGIC or version != FORMAT_VERSION or footer[0] != _XXH3:
            raise self.damaged("it does not end as a table does")
        metaindex, at = _place(footer, 1)
        index, at = _place(footer, at)
        if any(footer[at:_PLACES_END]):
            raise self.damaged("its footer is not what was written")
        return metaindex, index

    def _check(self, window: list[BlockHandle]) -> int:
        """Check the blocks in one window; how many bytes they had."""
        start = window[0].offset
        size = window[-1].end - start
        data = self._read(start, size)
        for offset, length in window:
            at = offset - start
            contents = data[at : at + length]
            compression, checksum = _TRAILER.unpack_from(data, at + length)
            # RocksDB takes the lower half, and the last byte apart from the others.
            mixed = xxh3_64_intdigest(contents) ^ compression * _LAST_BYTE_PRIME
            if mixed & 0xFFFFFFFF != checksum:
                raise self.damaged(f"the checksum of the block at offset {offset} does not fit")
        return size

    def _contents(self, place: BlockHandle) -> bytes:
        """The contents of a block that is not data, checked and unpacked."""
        if place.end > self._size:
            raise self.damaged(f"its footer names a block at offset {place.offset}")
        self._check([place])
        data = self._read(place.offset, place.size + 1)
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


def _data_places(index: bytes) -> Iterator[BlockHandle]:
    """Each entry is a restart point of its own (see `_table_options`), so each place is whole."""
    at, end = 0, _entries_end(index)
    while at < end:
        _shared, at = _varint(index, at)
        own, at = _varint(index, at)
        place, at = _place(index, at + own)
        yield place


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of any other block; a key shares its beginning with the one before."""
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
    """A block ends with the offsets of its restart points, and how many they are."""
    restarts = int.from_bytes(block[-_RESTART_BYTES:], "little")
    return len(block) - _RESTART_BYTES * (restarts + 1)


def _place(data: bytes, at: int) -> tuple[BlockHandle, int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return BlockHandle(offset, size), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where the next thing begins."""
    number = shift = 0
    while (byte := data[at]) & 0x80:
        number |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1

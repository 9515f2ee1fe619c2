"""Verifies RocksDB's files of records, write-ahead logs and MANIFESTs, record by record.

    file     blocks of 32 KiB; what is too short for a header at a block's end is not used
    record   CRC-32C of type and payload, masked (4) | length (2) | type (1) | payload
             A type of a recycled log has the log's number (4) before its payload.

Source: RocksDB's db/log_format.h and db/log_writer.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from pathlib import Path

from google_crc32c import value as crc32c

from raftkv.errors import DamagedData

WINDOW_BYTES = 256 << 10
"""Bytes that are read at once. Their checksums take 0.1 ms."""

_BLOCK_BYTES = 32 << 10
_HEADER = struct.Struct("<IHB")
_CHECKED_FROM = 6
_RECYCLED_TYPES = frozenset((5, 6, 7, 8, 11, 131))
_LOG_NUMBER_BYTES = 4
_MASK_DELTA = 0xA282EAD8


def verify_records(path: Path) -> Generator[int, None, int | None]:
    """Check every record that the file has now, by windows; yields the bytes of each.

    Returns the offset of a record that the end of the file cuts short, None if there is none. Such
    a record is being written, or has a damaged length, or was torn by a power cut.
    Raises `DamagedData`, and `OSError` if the disk can't read the file.
    """
    size = path.stat().st_size
    reading = _Reading(path)
    for start in range(0, size, WINDOW_BYTES):
        with path.open("rb") as file:
            file.seek(start)
            window = file.read(min(WINDOW_BYTES, size - start))
        for at in range(0, len(window), _BLOCK_BYTES):
            reading.verify_block(window[at : at + _BLOCK_BYTES], start + at)
        yield len(window)
    return reading.cut_short_at


class _Reading:
    """The state of a pass over a file, block by block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blank = False
        self.cut_short_at: int | None = None

    def verify_block(self, block: bytes, offset: int) -> None:
        if self.cut_short_at is not None:
            raise self._damaged(self.cut_short_at, "is longer than its block")
        at = 0
        while len(block) - at >= _HEADER.size:
            checksum, length, kind = _HEADER.unpack_from(block, at)
            self._blank = self._blank or kind == length == 0
            if self._blank:
                if any(block[at:]):
                    raise self._damaged(offset + at, "is blank, and something follows")
                return
            end = at + _HEADER.size + length + _LOG_NUMBER_BYTES * (kind in _RECYCLED_TYPES)
            if end > len(block):
                self.cut_short_at = offset + at
                return
            if _masked(crc32c(block[at + _CHECKED_FROM : end])) != checksum:
                raise self._damaged(offset + at, "does not fit its checksum")
            at = end

    def _damaged(self, offset: int, how: str) -> DamagedData:
        return damaged_record(self._path, offset, how)


def damaged_record(path: Path, offset: int, how: str) -> DamagedData:
    """The error for a damaged record."""
    return DamagedData(f"{path} is damaged: the record at offset {offset} {how}", path=path)


def _masked(checksum: int) -> int:
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF

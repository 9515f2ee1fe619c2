"""RocksDB's files of records, write-ahead logs and MANIFESTs: whether each record's checksum fits.

    file     blocks of 32 KiB; what is too short for a header at a block's end is not used
    record   CRC-32C of type and payload, masked (4) | length (2) | type (1) | payload
             A type of a recycled log has the log's number (4) before its payload.

Source: RocksDB's db/log_format.h and db/log_writer.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from google_crc32c import value as crc32c

from raftkv.errors import DamagedData

WINDOW_BYTES = 256 << 10
"""So many are read at once. Their checksums take 0.1 ms."""

_BLOCK_BYTES = 32 << 10
_HEADER = struct.Struct("<IHB")
_CHECKED_FROM = 6
_RECYCLED_TYPES = frozenset((5, 6, 7, 8, 11, 131))
_LOG_NUMBER_BYTES = 4
_MASK_DELTA = 0xA282EAD8


def verify_records(path: Path) -> Iterator[int]:
    """Check every record that the file has now, by windows; yields how many bytes each had.

    Whoever writes the file may go on: a record that its end cuts short is not finished, or was
    not when the power went. Raises `DamagedData`, and `OSError` if the disk can't read it.
    """
    size = path.stat().st_size
    blank = False
    for start in range(0, size, WINDOW_BYTES):
        with path.open("rb") as file:
            file.seek(start)
            window = file.read(min(WINDOW_BYTES, size - start))
        for at in range(0, len(window), _BLOCK_BYTES):
            block, offset = window[at : at + _BLOCK_BYTES], start + at
            blank = _verify_block(path, block, offset, blank, offset + len(block) >= size)
        yield len(window)


def _verify_block(path: Path, block: bytes, offset: int, blank: bool, last: bool) -> bool:
    """Check the block at `offset`; whether the rest of the file must be blank, as it was before."""
    at = 0
    while len(block) - at >= _HEADER.size:
        checksum, length, kind = _HEADER.unpack_from(block, at)
        blank = blank or kind == length == 0
        if blank:
            if any(block[at:]):
                raise _damaged(path, offset + at, "is blank, and something follows")
            return True
        end = at + _HEADER.size + length + _LOG_NUMBER_BYTES * (kind in _RECYCLED_TYPES)
        if end > len(block):
            if last:
                return False
            raise _damaged(path, offset + at, "is longer than its block")
        if _masked(crc32c(block[at + _CHECKED_FROM : end])) != checksum:
            raise _damaged(path, offset + at, "does not fit its checksum")
        at = end
    return blank


def _masked(checksum: int) -> int:
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _damaged(path: Path, offset: int, how: str) -> DamagedData:
    return DamagedData(f"{path} is damaged: the record at offset {offset} {how}", path=path)

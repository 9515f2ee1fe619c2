"""Disk faults, applied to the files of a node."""

from __future__ import annotations

import resource
from pathlib import Path

ROOM_BYTES = 256 << 10
SPOILED_BYTES_MIN = 256 << 10
# A record of a RocksDB write-ahead log: checksum (4), length (2), type (1), payload.
RECORD_HEADER_BYTES = 7


def write_ahead_log(database: Path) -> Path:
    """The one that is being written."""
    return max(database.glob("*.log"), key=lambda file: int(file.stem))


def flip_bit(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


def flip_bit_of(text: bytes, database: Path) -> None:
    """Damage the first table file that has `text` in it, right there."""
    for table in sorted(database.glob("*.sst")):
        at = table.read_bytes().find(text)
        if at >= 0:
            flip_bit(table, at + len(text) // 2)
            return
    raise AssertionError(f"no table file in {database} holds {text!r}")


def spoil_tables(database: Path) -> list[Path]:
    """Flip bits in the middle of each table that has some size; which those are."""
    tables = [each for each in database.glob("*.sst") if each.stat().st_size > SPOILED_BYTES_MIN]
    for table in tables:
        for eighth in range(2, 6):
            flip_bit(table, table.stat().st_size * eighth // 8)
    return tables


def tear_tail(database: Path) -> None:
    """End the log in half a record, as a power cut during a write does."""
    file = write_ahead_log(database)
    content = file.read_bytes()
    length = int.from_bytes(content[4:6], "little")
    assert length > 1
    file.write_bytes(content + content[: RECORD_HEADER_BYTES + length // 2])


def fill_up(pid: int, directory: Path) -> None:
    """Let no file of the process grow beyond the largest of today by more than `ROOM_BYTES`.

    The process sees EFBIG where a full disk says ENOSPC. Needs neither root nor a disk to fill.
    """
    largest = max(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest + ROOM_BYTES, hard))

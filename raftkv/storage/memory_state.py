"""A state store in memory, for tests and the simulator. It passes the same suite as RocksDB's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from google_crc32c import value as crc32c
from sortedcontainers import SortedDict

from raftkv.errors import DamagedData
from raftkv.kv.pace import Steps
from raftkv.kv.store import NOTHING_REMOVED, Changes, Family, Frozen, Ranges


class MemoryRow(NamedTuple):
    """A row as the disk has it, with the checksum of the written value."""

    family: Family
    key: bytes
    value: bytes
    checksum: int

    @property
    def damaged(self) -> bool:
        return checksum_of(self.family, self.key, self.value) != self.checksum


class MemoryStateStore:
    """A `StateStore` in memory. Its rows can be damaged."""

    def __init__(self) -> None:
        self._families: dict[Family, SortedDict] = {family: SortedDict() for family in Family}
        # Of damaged rows only. A new write of such a row repairs it.
        self._checksums: dict[tuple[Family, bytes], int] = {}

    @property
    def damaged(self) -> bool:
        return bool(self._checksums)

    def damage(self, family: Family, key: bytes, bit: int) -> None:
        """Flip a bit of the row's value, if it is not empty.

        Reads of the row raise `DamagedData`.
        """
        value = self.unverified(family, key)
        if value:
            self._checksums.setdefault((family, key), checksum_of(family, key, value))
            self._families[family][key] = turned(value, bit)

    def verify(self) -> None:
        """Raise `DamagedData` if any row is damaged."""
        for family, key in self._checksums:
            raise _damaged(family, key)

    def get(self, family: Family, key: bytes) -> bytes | None:
        if self._checksums and (family, key) in self._checksums:
            raise _damaged(family, key)
        return self.unverified(family, key)

    def unverified(self, family: Family, key: bytes) -> bytes | None:
        """The value as it is, damaged or not."""
        value: bytes | None = self._families[family].get(key)
        return value

    def get_many(self, family: Family, keys: list[bytes]) -> list[bytes | None]:
        return [self.get(family, key) for key in keys]

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        rows = self._families[family]
        if end is not None and start >= end:
            return iter(())
        # Copied at the call, because a scan sees the store as of the call.
        copied = [
            (key, rows[key])
            for key in rows.irange(start, end, inclusive=(True, False), reverse=reverse)
        ]
        damaged = {key for at, key in self._checksums if at is family}
        return _up_to_damage(family, copied, damaged) if damaged else iter(copied)

    def frozen(self) -> Frozen:
        return self.copy()

    def size_bytes(self, family: Family) -> int:
        return sum(len(key) + len(value) for key, value in self._families[family].items())

    def write(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> None:
        for family, ranges in removed.items():
            for start, end in ranges:
                gone = self._families[family].irange(start, end, inclusive=(True, False))
                for key in list(gone):
                    self._set(family, key, None)
        for family, rows in changes.items():
            for key, value in rows.items():
                self._set(family, key, value)

    def _set(self, family: Family, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._families[family].pop(key, None)
        else:
            self._families[family][key] = value
        if self._checksums:
            self._checksums.pop((family, key), None)

    def write_in_steps(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> Steps[None]:
        yield from ()
        self.write(changes, removed)

    def rows(self) -> Iterator[MemoryRow]:
        """All rows, damaged or not."""
        for family, rows in self._families.items():
            for key, value in rows.items():
                checksum = self._checksums.get((family, key))
                if checksum is None:
                    checksum = checksum_of(family, key, value)
                yield MemoryRow(family, key, value, checksum)

    def add(self, row: MemoryRow) -> None:
        """Put a row as it is, with its damage."""
        self._families[row.family][row.key] = row.value
        if row.damaged:
            self._checksums[row.family, row.key] = row.checksum

    def copy(self) -> MemoryStateStore:
        """The same rows, with their damage."""
        copy = MemoryStateStore()
        for family, rows in self._families.items():
            copy._families[family].update(rows)
        copy._checksums.update(self._checksums)
        return copy


def checksum_of(family: Family, key: bytes, value: bytes) -> int:
    """The checksum of a row."""
    checksum: int = crc32c(b"\0".join((family.value.encode(), key, value)))
    return checksum


def turned(value: bytes, bit: int) -> bytes:
    """The value with one bit flipped; the number of the bit wraps around."""
    at = bit % (8 * len(value))
    byte = value[at // 8] ^ (1 << at % 8)
    return value[: at // 8] + bytes((byte,)) + value[at // 8 + 1 :]


def _up_to_damage(
    family: Family, rows: list[tuple[bytes, bytes]], damaged: set[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    for key, value in rows:
        if key in damaged:
            raise _damaged(family, key)
        yield key, value


def _damaged(family: Family, key: bytes) -> DamagedData:
    return DamagedData(f"the row {key!r} of the state (family {family}) is damaged")

"""A state store in memory, for tests and the simulator. Passes the same suite as RocksDB's."""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict

from raftkv.kv.store import Changes, Family


class MemoryStateStore:
    """A `StateStore` that forgets everything with the process."""

    def __init__(self) -> None:
        self._families: dict[Family, SortedDict] = {family: SortedDict() for family in Family}

    def get(self, family: Family, key: bytes) -> bytes | None:
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
        # Copied at the call: the port promises the store as it was then.
        return iter(
            [
                (key, rows[key])
                for key in rows.irange(start, end, inclusive=(True, False), reverse=reverse)
            ]
        )

    def write(self, changes: Changes) -> None:
        for family, rows in changes.items():
            stored = self._families[family]
            for key, value in rows.items():
                if value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value

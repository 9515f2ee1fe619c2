"""Changes that are not in the store yet, readable together with the store's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from sortedcontainers import SortedList

from raftkv.kv.limits import ROW_BYTES
from raftkv.kv.store import Changes, Family

REMOVED_AT_ONCE_MIN: Final = 256
"""This many adjacent deleted rows are written as one range deletion."""

_FAMILIES: Final = tuple(Family)
"""All families: iterating the enum itself is slow, and each transaction makes an overlay."""


class StateReader(Protocol):
    """The reading half of a `StateStore`."""

    def get(self, family: Family, key: bytes) -> bytes | None: ...

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]: ...


class Overlay:
    """Changes on top of a base, which is not modified.

    `changes` may be written directly (key -> value, None deletes). Only `take` and `clear` remove
    keys from it: the index finds the keys that it lacks by the order of insertion.

    `effects` are what the present entry has changed, for the running hash of the state: whoever
    changes a row appends what identifies the change.

    `known` caches rows of the base's CURRENT that were read ahead.

    `removed` are ranges in which only `changes` still have rows. They replace deletions of single
    keys in the store. A read of the overlay sees the base's rows in them, unless `changes` hide
    them.
    """

    __slots__ = ("_index", "_spared", "base", "changes", "effects", "known", "removed")

    def __init__(self, base: StateReader) -> None:
        self.base = base
        self.changes: dict[Family, dict[bytes, bytes | None]] = {each: {} for each in _FAMILIES}
        self.effects: list[bytes] = []
        self.known: dict[bytes, bytes | None] = {}
        self.removed: dict[Family, list[tuple[bytes, bytes]]] = {}
        self._spared: dict[Family, set[bytes]] = {}
        self._index: dict[Family, SortedList] = {}

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value of `key` in the changes, or else in the base."""
        changes = self.changes[family]
        if key in changes:
            return changes[key]
        if family is Family.CURRENT and key in self.known:
            return self.known[key]
        return self.base.get(family, key)

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As `StateStore.scan`, over base and changes together.

        The rows are read lazily, so the family's changes must not be modified during the scan.
        """
        base = self.base.scan(family, start, end, reverse=reverse)
        changes = self.changes[family]
        if not changes:
            return base
        keys = self._sorted(family).irange(start, end, inclusive=(True, False), reverse=reverse)
        return _merge(base, keys, changes, reverse)

    def absorb(self, above: Overlay) -> None:
        """Take over the changes of an overlay on top of this one."""
        self.effects += above.effects
        for family, rows in above.changes.items():
            if rows:
                self.changes[family].update(rows)
        for family, ranges in above.removed.items():
            self.removed.setdefault(family, []).extend(ranges)
        for family, spared in above._spared.items():
            self._spared.setdefault(family, set()).update(spared)

    def take(self, family: Family, size_bytes: int) -> tuple[dict[bytes, bytes], int]:
        """Take out the first rows, of about `size_bytes`. Returns the rows and their counted size,
        which includes `ROW_BYTES` for each.

        The caller writes them to the base at once.
        """
        changes = self.changes[family]
        taken: dict[bytes, bytes] = {}
        size = 0
        for key, value in changes.items():
            if size >= size_bytes:
                break
            if value is not None:
                taken[key] = value
                size += len(value) + ROW_BYTES
        for key in taken:
            del changes[key]
        self._index.pop(family, None)
        return taken, size

    def remove(self, family: Family, start: bytes, end: bytes) -> None:
        """Remove all rows with start <= key < end."""
        changes = self.changes[family]
        if changes:
            # The store removes the range before it applies the changes.
            for key in list(self._sorted(family).irange(start, end, inclusive=(True, False))):
                changes[key] = None
        self.removed.setdefault(family, []).append((start, end))

    def removes(self, family: Family, keys: Sequence[bytes]) -> None:
        """All rows from the first to the last of these sorted keys have just been deleted."""
        self.removed.setdefault(family, []).append((keys[0], keys[-1] + b"\0"))
        self._spared.setdefault(family, set()).update(keys)

    def for_store(self) -> Changes:
        """The changes without the deletions that the removed ranges include."""
        if not self._spared:
            return self.changes
        changes: dict[Family, Mapping[bytes, bytes | None]] = dict(self.changes)
        for family, spared in self._spared.items():
            changes[family] = {
                key: row
                for key, row in self.changes[family].items()
                if row is not None or key not in spared
            }
        return changes

    def clear(self) -> None:
        """Forget everything in place: other objects keep references to the dicts."""
        for rows in self.changes.values():
            rows.clear()
        self.known.clear()
        self.removed.clear()
        self._spared.clear()
        self._index.clear()

    def _sorted(self, family: Family) -> SortedList:
        """The changed keys in order. Only families that are scanned have an index."""
        changes = self.changes[family]
        index = self._index.get(family)
        if index is None:
            index = self._index[family] = SortedList(changes)
        elif (unseen := len(changes) - len(index)) == 1:
            index.add(next(reversed(changes)))
        elif unseen:
            index.update(list(islice(reversed(changes), unseen)))
        return index


def _merge(
    base: Iterator[tuple[bytes, bytes]],
    changed_keys: Iterator[bytes],
    changes: Mapping[bytes, bytes | None],
    reverse: bool,
) -> Iterator[tuple[bytes, bytes]]:
    """The rows of both in key order. A changed key hides the base's row."""
    changed_key = next(changed_keys, None)
    for row in base:
        key = row[0]
        hidden = False
        while changed_key is not None:
            if changed_key != key and (changed_key > key) is not reverse:
                break
            hidden = changed_key == key
            value = changes[changed_key]
            if value is not None:
                yield changed_key, value
            changed_key = next(changed_keys, None)
        if not hidden:
            yield row
    while changed_key is not None:
        value = changes[changed_key]
        if value is not None:
            yield changed_key, value
        changed_key = next(changed_keys, None)

"""An index from keys to the watcher groups whose range contains them.

Single keys are in a dict. Ranges are in a centred interval tree, which is rebuilt after enough
changes; ranges added since the last rebuild are in a list that is scanned linearly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from raftkv.server.watch.filter import WatchFilter

T = TypeVar("T")

LOOSE_RANGES_MAX: Final = 32
"""Ranges that are scanned linearly; for more of them the tree is rebuilt."""


class _IndexedRange(Generic[T]):
    __slots__ = ("end", "start", "value")

    def __init__(self, start: bytes, end: bytes | None, value: T) -> None:
        self.start = start
        self.end = end
        self.value = value


class _IntervalNode(Generic[T]):
    """The ranges that contain `centre`; ranges wholly before it are in `left`, later ones in
    `right`.
    """

    __slots__ = ("by_end", "by_start", "centre", "left", "right")

    def __init__(self, ranges: list[_IndexedRange[T]]) -> None:
        """`ranges` are sorted by start."""
        self.centre = ranges[len(ranges) // 2].start
        before = [each for each in ranges if each.end is not None and each.end <= self.centre]
        after = [each for each in ranges if each.start > self.centre]
        self.by_start = [each for each in ranges if _holds(each, self.centre)]
        self.by_end = sorted(self.by_start, key=_end_of, reverse=True)
        self.left = _IntervalNode(before) if before else None
        self.right = _IntervalNode(after) if after else None


class IntervalIndex(Generic[T]):
    """Values by key range. A value that was removed must not be added again."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[T]] = {}
        self._ranges: dict[T, _IndexedRange[T]] = {}
        self._loose: dict[T, _IndexedRange[T]] = {}  # not in the tree
        self._removed = 0  # but still in the tree
        self._root: _IntervalNode[T] | None = None

    def add(self, watch_filter: WatchFilter, value: T) -> None:
        """Index `value` under the keys of `watch_filter`."""
        if watch_filter.is_one_key:
            self._by_key.setdefault(watch_filter.key, []).append(value)
            return
        self._ranges[value] = self._loose[value] = _IndexedRange(
            watch_filter.key, watch_filter.end, value
        )
        if len(self._loose) > max(LOOSE_RANGES_MAX, len(self._ranges) // 4):
            self._build()

    def remove(self, watch_filter: WatchFilter, value: T) -> None:
        """Remove `value`, which was added under this filter."""
        if watch_filter.is_one_key:
            values = self._by_key[watch_filter.key]
            values.remove(value)
            if not values:
                del self._by_key[watch_filter.key]
            return
        del self._ranges[value]
        if self._loose.pop(value, None) is None:
            self._removed += 1
            if self._removed > max(LOOSE_RANGES_MAX, len(self._ranges)):
                self._build()

    def find(self, key: bytes) -> Iterable[T]:
        """Every value whose range contains the key."""
        exact = self._by_key.get(key, ())
        return [*exact, *self._ranges_with(key)] if self._ranges else exact

    def _ranges_with(self, key: bytes) -> list[T]:
        found = [each.value for each in self._loose.values() if _holds(each, key)]
        node = self._root
        while node is not None:
            if key < node.centre:
                for each in node.by_start:
                    if each.start > key:
                        break
                    found.append(each.value)
                node = node.left
            else:
                for each in node.by_end:
                    if each.end is not None and each.end <= key:
                        break
                    found.append(each.value)
                node = node.right
        return [value for value in found if value in self._ranges] if self._removed else found

    def _build(self) -> None:
        ranges = sorted(self._ranges.values(), key=lambda each: each.start)
        self._root = _IntervalNode(ranges) if ranges else None
        self._loose.clear()
        self._removed = 0


def _holds(each: _IndexedRange[T], key: bytes) -> bool:
    return each.start <= key and (each.end is None or key < each.end)


def _end_of(each: _IndexedRange[T]) -> tuple[bool, bytes]:
    return each.end is None, each.end or b""

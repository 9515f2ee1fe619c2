"""Finds the ranges that hold a key. Knows ranges and what stands for them, not what that is.

Single keys are found in a dict. The others stand in a centred interval tree, which is built anew
when enough has changed; what was added since is looked through one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from raftkv.server.watch.filter import WatchFilter

T = TypeVar("T")

LOOSE_RANGES_MAX: Final = 32
"""Ranges that are looked through one by one; for more of them a tree is built."""


class _IndexedRange(Generic[T]):
    __slots__ = ("end", "start", "value")

    def __init__(self, start: bytes, end: bytes | None, value: T) -> None:
        self.start = start
        self.end = end
        self.value = value


class _IntervalNode(Generic[T]):
    """The ranges that hold `centre`; those wholly before it are on the left, the others right."""

    __slots__ = ("by_end", "by_start", "centre", "left", "right")

    def __init__(self, ranges: list[_IndexedRange[T]]) -> None:
        """Of ranges in the order of their starts."""
        self.centre = ranges[len(ranges) // 2].start
        before = [each for each in ranges if each.end is not None and each.end <= self.centre]
        after = [each for each in ranges if each.start > self.centre]
        self.by_start = [each for each in ranges if _holds(each, self.centre)]
        self.by_end = sorted(self.by_start, key=_end_of, reverse=True)
        self.left = _IntervalNode(before) if before else None
        self.right = _IntervalNode(after) if after else None


class IntervalIndex(Generic[T]):
    """Values by the keys that they are about. One that was removed does not come back."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[T]] = {}
        self._ranges: dict[T, _IndexedRange[T]] = {}
        self._loose: dict[T, _IndexedRange[T]] = {}  # not in the tree
        self._removed = 0  # but still in the tree
        self._root: _IntervalNode[T] | None = None

    def add(self, interest: WatchFilter, value: T) -> None:
        """From now on `value` is found for the keys of `interest`."""
        if interest.is_one_key:
            self._by_key.setdefault(interest.key, []).append(value)
            return
        self._ranges[value] = self._loose[value] = _IndexedRange(interest.key, interest.end, value)
        if len(self._loose) > max(LOOSE_RANGES_MAX, len(self._ranges) // 4):
            self._build()

    def remove(self, interest: WatchFilter, value: T) -> None:
        """It is found no more."""
        if interest.is_one_key:
            values = self._by_key[interest.key]
            values.remove(value)
            if not values:
                del self._by_key[interest.key]
            return
        del self._ranges[value]
        if self._loose.pop(value, None) is None:
            self._removed += 1
            if self._removed > max(LOOSE_RANGES_MAX, len(self._ranges)):
                self._build()

    def find(self, key: bytes) -> Iterable[T]:
        """Every value that is about this key."""
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

"""Reading keys, now or at an old revision, in steps that leave the caller time to breathe.

Knows the semantics of a `Range`, nothing about who asks or why.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator
from typing import Final, TypeAlias, TypeVar

from raftkv.errors import InvalidRequest, RevisionCompacted, RevisionInFuture, TooLarge
from raftkv.kv.overlay import Reader
from raftkv.kv.records import (
    VERSION_BYTES,
    escape,
    fill_key_value,
    history_end,
    history_key,
    mod_revision,
    split_history_key,
    unpack_version,
)
from raftkv.kv.store import Family
from raftkv.rpc import kv_pb2

KEYS_PER_STEP: Final = 1_000
KEY_VALUE_OVERHEAD_BYTES: Final = 32
"""What an encoded KeyValue needs beside key and value, about."""

FROM_KEY: Final = b"\x00"
"""The range_end that means: every key >= key."""

INVISIBLE: Final = b""
"""Stands for a row that was visited and does not show at the revision."""

Row: TypeAlias = tuple[bytes, bytes]
"""Key and record."""

Returned = TypeVar("Returned")
Steps: TypeAlias = Generator[None, None, Returned]
"""Work that pauses now and then, and returns its result in the end."""


class Budget:
    """Bytes that a reply may still take up."""

    __slots__ = ("bytes_left", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_left = bytes_max

    def take_key_value(self, key: bytes, record: bytes) -> None:
        """Account for one KeyValue; raises `TooLarge` when it does not fit any more."""
        self.take(KEY_VALUE_OVERHEAD_BYTES + len(key) + len(record) - VERSION_BYTES)

    def take(self, size_bytes: int) -> None:
        self.bytes_left -= size_bytes
        if self.bytes_left < 0:
            raise TooLarge(
                f"the reply would be larger than {self.bytes_max} bytes; ask for fewer keys "
                "with limit (and go on from the last key), or use keys_only or count_only",
                bytes_max=self.bytes_max,
            )


def run(steps: Steps[Returned]) -> Returned:
    """All steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Returned = done.value
            return result


def check_revision(requested: int, current: int, compacted: int) -> None:
    """Raise unless the store can be read as it was at `requested` (<= 0: now)."""
    if requested > current:
        raise RevisionInFuture(
            f"revision {requested} does not exist yet, the store is at {current}; "
            "read at that revision or an older one, or leave revision at 0 for the latest",
            revision=current,
        )
    if 0 < requested < compacted:
        raise RevisionCompacted(
            f"revision {requested} has been compacted; read at {compacted} or a later revision",
            compacted_revision=compacted,
        )


def end_of(key: bytes, range_end: bytes) -> bytes | None:
    """The exclusive end of [key, range_end), None if it is open. Never before `key`."""
    if range_end == FROM_KEY:
        return None
    return max(key, range_end)


def record_at(view: Reader, key: bytes, revision: int) -> bytes | None:
    """The record of the version of `key` that was visible at `revision` (<= 0: now)."""
    current = view.get(Family.CURRENT, key)
    if revision <= 0 or (current is not None and mod_revision(current) <= revision):
        return current
    for _, record in view.scan(Family.HISTORY, history_key(key, revision + 1), history_end(key)):
        return record if mod_revision(record) <= revision else None
    return None


def rows_at(view: Reader, key: bytes, end: bytes | None, revision: int) -> Iterator[Row]:
    """Rows of [key, end) visible at `revision` (<= 0: now), in key order.

    Old revisions also give `INVISIBLE` for every row that had to be looked at. What the
    rows are is fixed at the call.
    """
    current = view.scan(Family.CURRENT, key, end)
    if revision <= 0:
        return current
    history = view.scan(Family.HISTORY, escape(key), None if end is None else escape(end))
    # A key has at most one version that is visible, so at most one of the two shows it.
    return heapq.merge(_current_rows(current, revision), _history_rows(history, revision))


def _current_rows(rows: Iterator[Row], revision: int) -> Iterator[Row]:
    for key, record in rows:
        yield key, record if mod_revision(record) <= revision else INVISIBLE


def _history_rows(rows: Iterator[Row], revision: int) -> Iterator[Row]:
    for row, record in rows:
        key, superseded_at = split_history_key(row)
        visible = mod_revision(record) <= revision < superseded_at
        yield key, record if visible else INVISIBLE


def read_range(
    view: Reader, request: kv_pb2.Range, result: kv_pb2.RangeResult, budget: Budget
) -> Steps[None]:
    """Fill `result` with what `request` asks for. Its revision must have been checked.

    What is shown is fixed at the call. The steps raise `TooLarge` when the keys to return pass the
    budget.
    """
    key, range_end, revision = request.key, request.range_end, request.revision
    if not range_end:
        record = record_at(view, key, revision)
        rows: Iterator[Row] = iter(()) if record is None else iter(((key, record),))
    else:
        rows = rows_at(view, key, end_of(key, range_end), revision)
    return _fill(rows, request, result, budget)


def _fill(
    rows: Iterator[Row], request: kv_pb2.Range, result: kv_pb2.RangeResult, budget: Budget
) -> Steps[None]:
    if request.count_only:
        result.count = yield from _count(rows)
        return
    selection = _Selection(request, budget)
    count = 0
    for visited, row in enumerate(rows, 1):
        if not visited % KEYS_PER_STEP:
            yield
        if row[1]:
            count += 1
            selection.offer(row)
    result.count = count
    selection.fill(result)


def _count(rows: Iterator[Row]) -> Steps[int]:
    count = 0
    for visited, (_, record) in enumerate(rows, 1):
        if record:
            count += 1
        if not visited % KEYS_PER_STEP:
            yield
    return count


class _Selection:
    """The rows of a range that will be in the reply: filtered, sorted and cut at the limit.

    Holds not much more than the limit allows, however many rows are offered.
    """

    def __init__(self, request: kv_pb2.Range, budget: Budget) -> None:
        self._request = request
        self._budget = budget
        self._limit = max(request.limit, 0)
        self._keep = _filter(request)
        self._sort_key = _sort_key(request.sort_target)
        self._descending = request.sort_order == kv_pb2.SORT_ORDER_DESCEND
        self._natural = request.sort_target == kv_pb2.SORT_TARGET_KEY and not self._descending
        self._rows: list[Row] = []
        self._more = False

    def offer(self, row: Row) -> None:
        if self._keep is not None and not self._keep(row[1]):
            return
        rows = self._rows
        if self._natural and self._limit and len(rows) >= self._limit:
            self._more = True
            return
        rows.append(row)
        if not self._limit or self._natural:
            # It stays: too large is seen at once, not after the whole range was gathered.
            self._charge(row)
        elif len(rows) >= 2 * self._limit + KEYS_PER_STEP:
            self._cut()

    def fill(self, result: kv_pb2.RangeResult) -> None:
        self._cut()
        result.more = self._more
        keys_only = self._request.keys_only
        add = result.kvs.add
        for row in self._rows:
            if self._limit and not self._natural:
                self._charge(row)
            fill_key_value(add(), *row, keys_only=keys_only)

    def _cut(self) -> None:
        if not self._natural:
            self._rows.sort(key=self._sort_key, reverse=self._descending)
        if self._limit and len(self._rows) > self._limit:
            del self._rows[self._limit :]
            self._more = True

    def _charge(self, row: Row) -> None:
        key, record = row
        self._budget.take_key_value(
            key, record[:VERSION_BYTES] if self._request.keys_only else record
        )


def _filter(request: kv_pb2.Range) -> Callable[[bytes], bool] | None:
    """Whether a record is within the inclusive bounds of the request; None if it has none."""
    mod_min, mod_max = request.min_mod_revision, request.max_mod_revision
    create_min, create_max = request.min_create_revision, request.max_create_revision
    if not (mod_min or mod_max or create_min or create_max):
        return None

    def keep(record: bytes) -> bool:
        create_revision, mod, _, _ = unpack_version(record)
        return (
            mod >= mod_min
            and create_revision >= create_min
            and (not mod_max or mod <= mod_max)
            and (not create_max or create_revision <= create_max)
        )

    return keep


def _sort_key(target: int) -> Callable[[Row], bytes | int]:
    match target:
        case kv_pb2.SORT_TARGET_KEY:
            return lambda row: row[0]
        case kv_pb2.SORT_TARGET_VALUE:
            return lambda row: row[1][VERSION_BYTES:]
        case kv_pb2.SORT_TARGET_CREATE:
            return lambda row: unpack_version(row[1])[0]
        case kv_pb2.SORT_TARGET_MOD:
            return lambda row: unpack_version(row[1])[1]
        case kv_pb2.SORT_TARGET_VERSION:
            return lambda row: unpack_version(row[1])[2]
    raise InvalidRequest(
        f"range.sort_target {target} is unknown; use one of SortTarget", sort_target=target
    )

"""Reads of ranges of keys, now or at an old revision, in bounded steps."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from raftkv.errors import InvalidRequest, RevisionCompacted, RevisionInFuture
from raftkv.kv.budget import Budget, key_value_bytes, rows_of
from raftkv.kv.limits import MIB, UNBOUNDED
from raftkv.kv.overlay import StateReader
from raftkv.kv.pace import Steps
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
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.ranges import exclusive_end

ROWS_AT_ONCE: Final = 256
"""Rows that are scanned before they are counted."""

SORTED_AT_ONCE: Final = 1_000
"""Rows that are sorted in one step. More rows are merged from sorted runs of this size."""

SORTED_BYTES_MAX: Final = 16 * MIB
"""Rows that are kept in memory to be sorted."""

INVISIBLE: Final = b""
"""In place of a row that was scanned and is not visible at the revision."""

Row: TypeAlias = tuple[bytes, bytes]
"""Key and record."""


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


def record_at(view: StateReader, key: bytes, revision: int) -> bytes | None:
    """The record of the version of `key` that was visible at `revision` (<= 0: now)."""
    current = view.get(Family.CURRENT, key)
    if revision <= 0 or (current is not None and mod_revision(current) <= revision):
        return current
    for _, record in view.scan(Family.HISTORY, history_key(key, revision + 1), history_end(key)):
        return record if mod_revision(record) <= revision else None
    return None


def rows_at(
    view: StateReader, key: bytes, end: bytes | None, revision: int, newest: int
) -> Iterator[Row]:
    """Rows of [key, end) visible at `revision` (<= 0: now), in key order.

    At an old revision the iterator also yields `INVISIBLE` for every other scanned row. The rows
    are those of the call. `newest` is the revision of the view: the store may already have old
    versions that a later revision supersedes, and that are not old in the view.
    """
    current = view.scan(Family.CURRENT, key, end)
    if revision <= 0:
        return current
    history = view.scan(Family.HISTORY, escape(key), None if end is None else escape(end))
    # A key has at most one version that is visible, so at most one of the two shows it.
    return heapq.merge(_current_rows(current, revision), _history_rows(history, revision, newest))


def _current_rows(rows: Iterator[Row], revision: int) -> Iterator[Row]:
    for key, record in rows:
        yield key, record if mod_revision(record) <= revision else INVISIBLE


def _history_rows(rows: Iterator[Row], revision: int, newest: int) -> Iterator[Row]:
    for row, record in rows:
        key, superseded_at = split_history_key(row)
        visible = mod_revision(record) <= revision < superseded_at <= newest
        yield key, record if visible else INVISIBLE


def read_range(
    view: StateReader,
    request: kv_pb2.Range,
    result: kv_pb2.RangeResult,
    budget: Budget,
    newest: int,
) -> Steps[None]:
    """Fill `result` with what `request` asks for. Its revision must have been checked.

    The rows are those of the call; `newest` is the view's revision. The steps raise `TooLarge` if
    the keys to return exceed the budget, and `TooManyKeys` if the scanned rows do.
    """
    key, range_end, revision = request.key, request.range_end, request.revision
    if not range_end:
        record = record_at(view, key, revision)
        rows: Iterator[Row] = iter(()) if record is None else iter(((key, record),))
    else:
        rows = rows_at(view, key, exclusive_end(key, range_end), revision, newest)
    if request.page:
        return _fill_page(rows, request, result, budget)
    return _fill(rows, request, result, budget)


def _fill(
    rows: Iterator[Row], request: kv_pb2.Range, result: kv_pb2.RangeResult, budget: Budget
) -> Steps[None]:
    selection = None if request.count_only else _Selection(request, budget)
    count = looked_at = 0
    for row in rows:
        looked_at += rows_of(row[1])
        if looked_at >= ROWS_AT_ONCE:
            if budget.count_rows(looked_at):
                yield
            looked_at = 0
        if row[1]:
            count += 1
            if selection is not None:
                selection.offer(row)
    budget.count_rows(looked_at)
    result.count = count
    if selection is not None:
        yield from selection.fill(result)


def _fill_page(
    rows: Iterator[Row], request: kv_pb2.Range, result: kv_pb2.RangeResult, budget: Budget
) -> Steps[None]:
    """As `_fill`, up to the limit or to the end of the budget, whichever comes first."""
    limit = request.limit if request.limit > 0 else UNBOUNDED
    keep, keys_only, count_only = _filter(request), request.keys_only, request.count_only
    add = result.kvs.add
    returned, last = 0, b""
    for key, record in rows:
        cost = rows_of(record)
        full = returned >= limit or budget.rows_left < cost
        chosen = bool(record) and (keep is None or keep(record))
        if chosen and not full and not count_only:
            shown = record[:VERSION_BYTES] if keys_only else record
            full = returned > 0 and key_value_bytes(key, shown) > budget.bytes_left
        if full:
            result.more = True
            result.next_key = last + b"\0" if key == last else key
            if result.next_key == request.key:
                budget.count_rows(cost)  # raises, because the page would be empty
            return
        if budget.count_rows(cost):
            yield
        if record:
            result.count += 1
        if chosen:
            returned += 1
            last = key
            if not count_only:
                budget.count_key_value(key, shown)
                fill_key_value(add(), key, record, keys_only=keys_only)


class _Selection:
    """The rows of a range that will be in the reply: filtered, sorted and cut at the limit.

    It keeps few more rows than the limit, however many are offered, and never more than
    `SORTED_BYTES_MAX`.
    """

    def __init__(self, request: kv_pb2.Range, budget: Budget) -> None:
        self._keys_only = request.keys_only
        self._budget = budget
        self._limit = max(request.limit, 0)
        self._keep = _filter(request)
        self._sort_key = _sort_key(request.sort_target)
        self._descending = request.sort_order == kv_pb2.SORT_ORDER_DESCEND
        self._natural = request.sort_target == kv_pb2.SORT_TARGET_KEY and not self._descending
        self._rows: list[Row] = []
        self._runs: list[list[Row]] = []  # sorted ones, of rows that were offered before
        self._held_bytes = 0
        self._more = False

    def offer(self, row: Row) -> None:
        """Keep the row, if it may be in the reply. Raises `TooLarge`."""
        if self._keep is not None and not self._keep(row[1]):
            return
        rows, limit = self._rows, self._limit
        if self._natural and limit and len(rows) >= limit:
            self._more = True
            return
        rows.append(row)
        if not limit or self._natural:
            # The row stays in the reply, so a reply that is too large fails before all is read.
            self._charge(row)
        if self._natural:
            return
        self._held_bytes += len(row[0]) + len(row[1])
        if len(rows) >= SORTED_AT_ONCE + (limit if limit <= SORTED_AT_ONCE else 0):
            self._sort_rows()
        if self._held_bytes > SORTED_BYTES_MAX:
            self._sort_rows()
            if self._held_bytes > SORTED_BYTES_MAX // 2:
                raise self._budget.too_large()

    def _sort_rows(self) -> None:
        rows, limit = self._rows, self._limit
        rows.sort(key=self._sort_key, reverse=self._descending)
        if not 0 < limit <= SORTED_AT_ONCE:
            self._runs.append(rows)
            self._rows = []
            return
        if len(rows) > limit:
            del rows[limit:]
            self._more = True
        self._held_bytes = sum(len(key) + len(record) for key, record in rows)

    def fill(self, result: kv_pb2.RangeResult) -> Steps[None]:
        """Add the rows to the reply. Raises `TooLarge`."""
        budget, limit, keys_only, add = self._budget, self._limit, self._keys_only, result.kvs.add
        for filled, row in enumerate(self._in_order()):
            if limit and filled >= limit:
                self._more = True
                break
            if limit and not self._natural:
                self._charge(row)
            fill_key_value(add(), *row, keys_only=keys_only)
            if budget.pace.spend(rows_of(row[1])):
                yield
        result.more = self._more

    def _in_order(self) -> Iterable[Row]:
        if self._natural:
            return self._rows
        self._sort_rows()
        runs = self._runs or [self._rows]
        return heapq.merge(*runs, key=self._sort_key, reverse=self._descending)

    def _charge(self, row: Row) -> None:
        key, record = row
        self._budget.count_key_value(key, record[:VERSION_BYTES] if self._keys_only else record)


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

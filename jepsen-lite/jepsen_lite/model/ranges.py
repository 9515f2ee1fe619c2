"""Reads of ranges: filters, order, limit, pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.model.budget import Budget, result_bytes, rows_of
from jepsen_lite.model.keys import Draft, Version
from raftkv.rpc.v1 import kv_pb2

SORTED_BY: dict[int, Callable[[Version], Any]] = {
    kv_pb2.SORT_TARGET_KEY: lambda row: row.key,
    kv_pb2.SORT_TARGET_VERSION: lambda row: row.version,
    kv_pb2.SORT_TARGET_CREATE: lambda row: row.create_revision,
    kv_pb2.SORT_TARGET_MOD: lambda row: row.mod_revision,
    kv_pb2.SORT_TARGET_VALUE: lambda row: row.value,
}


def read(draft: Draft, request: kv_pb2.Range, budget: Budget) -> kv_pb2.RangeResult:
    """The result of a range."""
    if request.revision > 0:
        draft.keys.check_readable(request.revision)
        rows = draft.range_at(request.key, request.range_end, request.revision)
    else:
        rows = draft.range(request.key, request.range_end)
    if request.page:
        return _page(rows, request, budget)
    budget.examine(sum(rows_of(row) for row in rows))
    if request.count_only:
        return kv_pb2.RangeResult(count=len(rows))
    descending = request.sort_order == kv_pb2.SORT_ORDER_DESCEND
    chosen = [row for row in rows if _is_selected(row, request)]
    chosen.sort(key=SORTED_BY[request.sort_target], reverse=descending)
    kept = chosen[: request.limit] if request.limit > 0 else chosen
    for row in kept:
        budget.show(row, keys_only=request.keys_only)
    return kv_pb2.RangeResult(
        kvs=[row.message(keys_only=request.keys_only) for row in kept],
        count=len(rows),
        more=len(kept) < len(chosen),
    )


def _page(rows: list[Version], request: kv_pb2.Range, budget: Budget) -> kv_pb2.RangeResult:
    """As many keys as the limit and the budget allow, and where the next page begins."""
    result = kv_pb2.RangeResult()
    returned = 0
    for row in rows:
        selected = _is_selected(row, request)
        shown = selected and not request.count_only
        size_bytes = result_bytes(row, keys_only=request.keys_only)
        if (
            0 < request.limit <= returned
            or not budget.allows_rows(rows_of(row))
            or (shown and returned and not budget.allows_result(size_bytes))
        ):
            if row is rows[0]:
                budget.examine(rows_of(row))  # raises: a page has at least one key
            result.more, result.next_key = True, row.key
            break
        budget.examine(rows_of(row))
        result.count += 1
        returned += selected
        if shown:
            budget.show(row, keys_only=request.keys_only)
            result.kvs.append(row.message(keys_only=request.keys_only))
    return result


def _is_selected(row: Version, request: kv_pb2.Range) -> bool:
    return (
        row.mod_revision >= request.min_mod_revision
        and (not request.max_mod_revision or row.mod_revision <= request.max_mod_revision)
        and row.create_revision >= request.min_create_revision
        and (not request.max_create_revision or row.create_revision <= request.max_create_revision)
    )

"""Put, delete_range and compare_and_swap: each from its message to changes and a result.

The functions run single commands and the operations of a transaction. Each raises before it changes
anything. Those that may take long run in bounded steps.
"""

from __future__ import annotations

from raftkv.errors import InvalidRequest, KeyNotFound
from raftkv.kv.budget import key_value_bytes, rows_of
from raftkv.kv.execution import Execution
from raftkv.kv.limits import UNBOUNDED
from raftkv.kv.overlay import REMOVED_AT_ONCE_MIN
from raftkv.kv.pace import CHANGE_UNITS, Steps
from raftkv.kv.records import VERSION_BYTES, fill_key_value, lease_of, mod_revision
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.ranges import exclusive_end


def put(execution: Execution, request: kv_pb2.Put, result: kv_pb2.Result) -> None:
    writer, budget = execution.writer, execution.budget
    key = request.key
    old = writer.get(key)
    budget.count_value(old)
    value, lease = request.value, request.lease
    if lease:
        _require_lease(execution, lease, old)
    if request.ignore_value or request.ignore_lease:
        if old is None:
            raise KeyNotFound(
                "put with ignore_value or ignore_lease needs an existing key; "
                "put the key with its value and lease first"
            )
        if request.ignore_value:
            value = old[VERSION_BYTES:]
        if request.ignore_lease:
            lease = lease_of(old)
    if request.prev_kv and old is not None:
        budget.count_key_value(key, old)
        fill_key_value(result.put.prev_kv, key, old)
    if old is not None:
        budget.count_replaced(len(old))
    writer.put(key, value, lease, old)
    result.revision = writer.revision


def _require_lease(execution: Execution, lease: int, old: bytes | None) -> None:
    """Raise unless the lease is living and may be attached to the key with the record `old`."""
    if old is not None and lease_of(old) == lease:
        execution.leases.require(lease)
    else:
        execution.leases.require_room(lease, execution.lease_sizes)


def delete_range(
    execution: Execution, request: kv_pb2.DeleteRange, result: kv_pb2.Result
) -> Steps[None]:
    writer, budget = execution.writer, execution.budget
    key, range_end = request.key, request.range_end
    answer = result.delete_range
    if not range_end:
        record = writer.get(key)
        rows = [] if record is None else [(key, record)]
        budget.count_replaced(0 if record is None else len(record))
    else:
        rows, answer.more = yield from _keys_to_delete(execution, request)
    answer.deleted = len(rows)
    if request.prev_kv:
        for old_key, old in rows:
            budget.count_key_value(old_key, old)
            fill_key_value(answer.prev_kvs.add(), old_key, old)
            if budget.pace.spend(1):
                yield
    for old_key, old in rows:
        writer.delete(old_key, old)
        if budget.pace.spend(CHANGE_UNITS):
            yield
    if len(rows) >= REMOVED_AT_ONCE_MIN and budget.bounded:
        writer.overlay.removes(Family.CURRENT, [old_key for old_key, _ in rows])
    result.revision = writer.visible_revision


def _keys_to_delete(
    execution: Execution, request: kv_pb2.DeleteRange
) -> Steps[tuple[list[tuple[bytes, bytes]], bool]]:
    """The keys to delete, with their records, and whether the limit leaves keys of the range.

    Raises `TooManyKeys` for more than the budget has left, unless the request has a limit.
    """
    budget, limit = execution.budget, max(request.limit, 0)
    if limit and not budget.bounded:
        raise InvalidRequest(
            "delete_range.limit needs the cluster version 2, which the leader raises once all"
            " nodes can; delete without a limit, or upgrade the nodes"
        )
    keys_max = min(limit or UNBOUNDED, budget.deletions_left)
    reply_left = budget.bytes_left if request.prev_kv and limit else UNBOUNDED
    rows: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for key, record in execution.writer.overlay.scan(
        Family.CURRENT, request.key, exclusive_end(request.key, request.range_end)
    ):
        reply_left -= key_value_bytes(key, record)
        full = (
            size_bytes + len(record) > budget.replaced_left
            or rows_of(record) > budget.rows_left
            or reply_left < 0
        )
        if full or len(rows) >= keys_max:
            if limit and rows:
                more = True
                break
            raise budget.too_many_deletions()
        rows.append((key, record))
        size_bytes += len(record)
        if budget.count_rows(rows_of(record)):
            yield
    else:
        more = False
    budget.deletions_left -= len(rows)
    budget.count_replaced(size_bytes)
    return rows, more


def compare_and_swap(
    execution: Execution, request: kv_pb2.CompareAndSwap, result: kv_pb2.Result
) -> None:
    writer, budget = execution.writer, execution.budget
    key = request.key
    old = writer.get(key)
    budget.count_value(old)
    swapped = _is_as_expected(request, old)
    if swapped:
        if request.lease:
            _require_lease(execution, request.lease, old)
        if old is not None:
            budget.count_replaced(len(old))
        writer.put(key, request.new_value, request.lease, old)
        current = writer.get(key)
    else:
        current = old
    answer = result.compare_and_swap
    answer.swapped = swapped
    if current is not None:
        if not swapped:
            budget.count_key_value(key, current)
        fill_key_value(answer.current, key, current)
    result.revision = writer.visible_revision


def _is_as_expected(request: kv_pb2.CompareAndSwap, old: bytes | None) -> bool:
    match request.WhichOneof("expected"):
        case "absent":
            return (old is None) is request.absent
        case "value":
            return old is not None and old[VERSION_BYTES:] == request.value
        case "mod_revision":
            return (mod_revision(old) if old is not None else 0) == request.mod_revision
    raise InvalidRequest("compare_and_swap.expected is not set; say absent, value or mod_revision")

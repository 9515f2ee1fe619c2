"""What a put, a deletion and a swap mean: from message to changes and result.

The same functions serve stand-alone commands and the operations of a transaction. Each raises
before it changes anything.
"""

from __future__ import annotations

from raftkv.errors import InvalidRequest, KeyNotFound
from raftkv.kv.leases import Leases
from raftkv.kv.mvcc import Writer
from raftkv.kv.ranges import Budget, end_of
from raftkv.kv.records import VERSION_BYTES, fill_key_value, mod_revision, unpack_version
from raftkv.kv.store import Family
from raftkv.rpc import kv_pb2


def put(
    writer: Writer,
    request: kv_pb2.Put,
    result: kv_pb2.Result,
    leases: Leases,
    budget: Budget,
) -> None:
    key = request.key
    old = writer.get(key)
    value, lease = request.value, request.lease
    if lease:
        leases.require(lease)
    if request.ignore_value or request.ignore_lease:
        if old is None:
            raise KeyNotFound(
                "put with ignore_value or ignore_lease needs an existing key; "
                "put the key with its value and lease first"
            )
        if request.ignore_value:
            value = old[VERSION_BYTES:]
        if request.ignore_lease:
            lease = unpack_version(old)[3]
    if request.prev_kv and old is not None:
        budget.take_key_value(key, old)
        fill_key_value(result.put.prev_kv, key, old)
    writer.put(key, value, lease, old)
    result.revision = writer.revision


def delete_range(
    writer: Writer, request: kv_pb2.DeleteRange, result: kv_pb2.Result, budget: Budget
) -> None:
    key, range_end = request.key, request.range_end
    if not range_end:
        record = writer.get(key)
        doomed = [] if record is None else [(key, record)]
    else:
        doomed = list(writer.overlay.scan(Family.CURRENT, key, end_of(key, range_end)))
    answer = result.delete_range
    answer.deleted = len(doomed)
    if request.prev_kv:
        for old_key, old in doomed:
            budget.take_key_value(old_key, old)
            fill_key_value(answer.prev_kvs.add(), old_key, old)
    for old_key, old in doomed:
        writer.delete(old_key, old)
    result.revision = writer.visible_revision


def compare_and_swap(
    writer: Writer,
    request: kv_pb2.CompareAndSwap,
    result: kv_pb2.Result,
    leases: Leases,
    budget: Budget,
) -> None:
    key = request.key
    old = writer.get(key)
    swapped = _is_as_expected(request, old)
    if swapped:
        if request.lease:
            leases.require(request.lease)
        writer.put(key, request.new_value, request.lease, old)
        current = writer.get(key)
    else:
        current = old
    answer = result.compare_and_swap
    answer.swapped = swapped
    if current is not None:
        if not swapped:
            budget.take_key_value(key, current)
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

"""What a put, a deletion and a swap mean: from message to changes and result.

The same functions serve stand-alone commands and the operations of a transaction. Each raises
before it changes anything; what may be long runs in steps.
"""

from __future__ import annotations

from raftkv.errors import InvalidRequest, KeyNotFound
from raftkv.kv.budget import Budget, key_value_bytes, rows_of
from raftkv.kv.leases import Leases
from raftkv.kv.limits import UNBOUNDED
from raftkv.kv.mvcc import Writer
from raftkv.kv.overlay import REMOVED_AT_ONCE_MIN
from raftkv.kv.pace import CHANGE_UNITS, Steps
from raftkv.kv.records import VERSION_BYTES, fill_key_value, mod_revision, unpack_version
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.ranges import exclusive_end


def put(
    writer: Writer,
    request: kv_pb2.Put,
    result: kv_pb2.Result,
    leases: Leases,
    budget: Budget,
) -> None:
    key = request.key
    old = writer.get(key)
    budget.look_at_value(old)
    value, lease = request.value, request.lease
    if lease:
        require_lease(leases, writer, lease, old)
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
    if old is not None:
        budget.replace(len(old))
    writer.put(key, value, lease, old)
    result.revision = writer.revision


def require_lease(leases: Leases, writer: Writer, lease: int, old: bytes | None) -> None:
    """Raise unless the lease lives and takes the key whose present record is `old`."""
    if old is not None and unpack_version(old)[3] == lease:
        leases.require(lease)
    else:
        leases.require_room(lease, writer.lease_sizes)


def delete_range(
    writer: Writer, request: kv_pb2.DeleteRange, result: kv_pb2.Result, budget: Budget
) -> Steps[None]:
    key, range_end = request.key, request.range_end
    answer = result.delete_range
    if not range_end:
        record = writer.get(key)
        doomed = [] if record is None else [(key, record)]
        budget.replace(0 if record is None else len(record))
    else:
        doomed, answer.more = yield from _doomed(writer, request, budget)
    answer.deleted = len(doomed)
    if request.prev_kv:
        for old_key, old in doomed:
            budget.take_key_value(old_key, old)
            fill_key_value(answer.prev_kvs.add(), old_key, old)
            if budget.pace.spend(1):
                yield
    for old_key, old in doomed:
        writer.delete(old_key, old)
        if budget.pace.spend(CHANGE_UNITS):
            yield
    if len(doomed) >= REMOVED_AT_ONCE_MIN and budget.bounded:
        writer.overlay.removes(Family.CURRENT, [old_key for old_key, _ in doomed])
    result.revision = writer.visible_revision


def _doomed(
    writer: Writer, request: kv_pb2.DeleteRange, budget: Budget
) -> Steps[tuple[list[tuple[bytes, bytes]], bool]]:
    """The keys of the range to delete, with their records, and whether there are more.

    Raises `TooManyKeys` for more than the budget has left, unless the request has a limit.
    """
    limit = max(request.limit, 0)
    if limit and not budget.bounded:
        raise InvalidRequest(
            "delete_range.limit needs the cluster version 2, which the leader raises once all"
            " nodes can; delete without a limit, or upgrade the nodes"
        )
    keys_max = min(limit or UNBOUNDED, budget.deletions_left)
    reply_left = budget.bytes_left if request.prev_kv and limit else UNBOUNDED
    doomed: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for key, record in writer.overlay.scan(
        Family.CURRENT, request.key, exclusive_end(request.key, request.range_end)
    ):
        reply_left -= key_value_bytes(key, record)
        full = (
            size_bytes + len(record) > budget.replaced_left
            or rows_of(record) > budget.rows_left
            or reply_left < 0
        )
        if full or len(doomed) >= keys_max:
            if limit and doomed:
                more = True
                break
            raise budget.too_many_deletions()
        doomed.append((key, record))
        size_bytes += len(record)
        if budget.look_at(rows_of(record)):
            yield
    else:
        more = False
    budget.deletions_left -= len(doomed)
    budget.replace(size_bytes)
    return doomed, more


def compare_and_swap(
    writer: Writer,
    request: kv_pb2.CompareAndSwap,
    result: kv_pb2.Result,
    leases: Leases,
    budget: Budget,
) -> None:
    key = request.key
    old = writer.get(key)
    budget.look_at_value(old)
    swapped = _is_as_expected(request, old)
    if swapped:
        if request.lease:
            require_lease(leases, writer, request.lease, old)
        if old is not None:
            budget.replace(len(old))
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

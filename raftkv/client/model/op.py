"""The operations of a transaction: `client.txn(success=[op.put("k", "v"), op.delete("old")])`."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from raftkv.arguments import to_bytes, to_flag, to_instance, to_int64, to_list
from raftkv.client.model.when import Compare
from raftkv.rpc.v1 import kv_pb2


class Sort(enum.Enum):
    """The field by which a range is sorted; the default is the key."""

    KEY = "SORT_TARGET_KEY"
    VERSION = "SORT_TARGET_VERSION"
    CREATE_REVISION = "SORT_TARGET_CREATE"
    MOD_REVISION = "SORT_TARGET_MOD"
    VALUE = "SORT_TARGET_VALUE"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a transaction. Made by the functions of this module."""

    wire: kv_pb2.Operation


def put(
    key: str | bytes,
    value: str | bytes = b"",
    *,
    lease: int = 0,
    prev_kv: bool = False,
    ignore_value: bool = False,
    ignore_lease: bool = False,
) -> Operation:
    """Set a key. `ignore_value` and `ignore_lease` keep the key's present value and lease."""
    return Operation(
        kv_pb2.Operation(
            put=kv_pb2.Put(
                key=to_bytes(key, "key"),
                value=to_bytes(value, "value"),
                lease=to_int64(lease, "lease"),
                prev_kv=to_flag(prev_kv, "prev_kv"),
                ignore_value=to_flag(ignore_value, "ignore_value"),
                ignore_lease=to_flag(ignore_lease, "ignore_lease"),
            )
        )
    )


def get(key: str | bytes) -> Operation:
    """Read one key."""
    return range(to_bytes(key, "key"), b"")


def range(
    start: str | bytes,
    end: str | bytes,
    *,
    limit: int = 0,
    sort: Sort = Sort.KEY,
    descending: bool = False,
    keys_only: bool = False,
    count_only: bool = False,
) -> Operation:
    """Read the keys from `start` up to and without `end`; b"\\0" as the end: without end."""
    return Operation(
        kv_pb2.Operation(
            range=kv_pb2.Range(
                key=to_bytes(start, "start"),
                range_end=to_bytes(end, "end"),
                limit=to_int64(limit, "limit", 0),
                sort_order=sort_order(sort, descending),
                sort_target=sort.value,
                keys_only=to_flag(keys_only, "keys_only"),
                count_only=to_flag(count_only, "count_only"),
            )
        )
    )


def delete(key: str | bytes, *, prev_kv: bool = False) -> Operation:
    """Delete one key."""
    return delete_range(to_bytes(key, "key"), b"", prev_kv=prev_kv)


def delete_range(
    start: str | bytes, end: str | bytes, *, limit: int = 0, prev_kv: bool = False
) -> Operation:
    """Delete the keys from `start` up to and without `end`; b"\\0" as the end: without end.

    Only the first `limit` of them (0: all), and the result's `more` says whether there are others.
    """
    deletion = kv_pb2.DeleteRange(
        key=to_bytes(start, "start"),
        range_end=to_bytes(end, "end"),
        limit=to_int64(limit, "limit", 0),
        prev_kv=to_flag(prev_kv, "prev_kv"),
    )
    return Operation(kv_pb2.Operation(delete_range=deletion))


def transaction(
    compare: Sequence[Compare] = (),
    success: Sequence[Operation] = (),
    failure: Sequence[Operation] = (),
) -> Operation:
    """A transaction inside a transaction."""
    return Operation(kv_pb2.Operation(transaction=transaction_of(compare, success, failure)))


def transaction_of(
    compare: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]
) -> kv_pb2.Transaction:
    """The message of a transaction. Raises `InvalidRequest` for lists of other types."""
    conditions = to_list(compare, Compare, "compare", "what raftkv.when makes")
    succeeding = to_list(success, Operation, "success", "what raftkv.op makes")
    failing = to_list(failure, Operation, "failure", "what raftkv.op makes")
    return kv_pb2.Transaction(
        compare=[each.wire for each in conditions],
        success=[each.wire for each in succeeding],
        failure=[each.wire for each in failing],
    )


def sort_order(sort: Sort, descending: bool) -> kv_pb2.SortOrder:
    """The sort order on the wire; the order of the keys needs none. Raises `InvalidRequest`."""
    to_instance(sort, Sort, "sort", "one of raftkv.Sort")
    if to_flag(descending, "descending"):
        return kv_pb2.SORT_ORDER_DESCEND
    return kv_pb2.SORT_ORDER_NONE if sort is Sort.KEY else kv_pb2.SORT_ORDER_ASCEND

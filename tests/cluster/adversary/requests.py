"""The requests that ask for the most work: over 200,000 keys, as many at once as are allowed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from raftkv.kv.limits import TRANSACTION_DEPTH_MAX, Limits
from raftkv.rpc.v1 import kv_pb2

KEYS = 200_000
ALL = {"key": b"k/", "range_end": b"k0"}
LIMITS = Limits()
BATCH = LIMITS.batch_commands_max
OPERATIONS = LIMITS.transaction_operations_max
LEASE = 1_000_000
QUEUE, QUEUE_LEASE = b"queue", 77
KEYS_OF_ONE_LEASE, HEAVY_LEASE = 10_000, 78


def key(number: int) -> bytes:
    return b"k/%06d" % number


def put(number: int, value: bytes = b"", **fields: int) -> kv_pb2.Command:
    return kv_pb2.Command(put=kv_pb2.Put(key=key(number), value=value, **fields))


def puts(first: int, count: int, word: int) -> list[kv_pb2.Command]:
    """Values in another order than their keys."""
    return [
        put(number, b"%07d %07d" % (number * 7919 % 1_000_003, word))
        for number in range(first, first + count)
    ]


def ranges() -> Iterator[kv_pb2.Range]:
    """Every flavour of a range over all keys: each field alone, and sorting with selection."""
    yield kv_pb2.Range(**ALL)
    for limit in (1, 10_000, 2**63 - 1):
        yield kv_pb2.Range(**ALL, limit=limit)
        yield kv_pb2.Range(**ALL, limit=limit, page=True)
    yield kv_pb2.Range(**ALL, keys_only=True)
    yield kv_pb2.Range(**ALL, count_only=True)
    yield kv_pb2.Range(key=b"\x00", range_end=b"\x00", limit=1, revision=KEYS // 2)
    yield kv_pb2.Range(**ALL, count_only=True, revision=KEYS + 1)
    for bound in ("min_mod", "max_mod", "min_create", "max_create"):
        value = 1 if bound.startswith("max") else 2**62
        yield kv_pb2.Range(**ALL, limit=1, **{f"{bound}_revision": value})
    for target in kv_pb2.SortTarget.values():
        for order in (kv_pb2.SORT_ORDER_ASCEND, kv_pb2.SORT_ORDER_DESCEND):
            yield kv_pb2.Range(**ALL, sort_target=target, sort_order=order, limit=1)
    by_value = {"sort_target": kv_pb2.SORT_TARGET_VALUE, "sort_order": kv_pb2.SORT_ORDER_ASCEND}
    yield kv_pb2.Range(**ALL, **by_value, keys_only=True)
    yield kv_pb2.Range(**ALL, **by_value, limit=10_000, revision=KEYS + 1)


def compares() -> Iterator[kv_pb2.Compare]:
    """Each holds for every key of the range, so that none can be left out."""
    never = kv_pb2.COMPARE_RESULT_NOT_EQUAL
    for number in (-5, 2**62):
        yield kv_pb2.Compare(**ALL, result=never, version=number)
        yield kv_pb2.Compare(**ALL, result=never, create_revision=number)
        yield kv_pb2.Compare(**ALL, result=never, mod_revision=number)
        yield kv_pb2.Compare(**ALL, result=never, lease=number)
        yield kv_pb2.Compare(**ALL, result=never, value=b"no such value")


def transactions() -> Iterator[kv_pb2.Transaction]:
    """As many compares and ranges as a transaction takes, in a row and within each other."""
    taken = list(itertools.islice(itertools.cycle(compares()), OPERATIONS))
    yield kv_pb2.Transaction(compare=taken[:1])
    yield kv_pb2.Transaction(compare=taken)
    for each in (
        kv_pb2.Range(**ALL, count_only=True),
        kv_pb2.Range(
            **ALL,
            limit=1,
            sort_target=kv_pb2.SORT_TARGET_VALUE,
            sort_order=kv_pb2.SORT_ORDER_DESCEND,
        ),
        kv_pb2.Range(**ALL, limit=1, min_mod_revision=2**62),
        kv_pb2.Range(**ALL, count_only=True, revision=KEYS),
    ):
        yield kv_pb2.Transaction(success=[kv_pb2.Operation(range=each)] * OPERATIONS)
    nested = kv_pb2.Transaction(compare=taken[:4])
    for level in range(TRANSACTION_DEPTH_MAX - 1):
        within = kv_pb2.Operation(transaction=nested)
        nested = kv_pb2.Transaction(compare=taken[level : level + 4], success=[within])
    yield nested

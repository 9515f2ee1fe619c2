"""Whether what a transaction expects is so. Reads, never changes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, Final

from raftkv.errors import InvalidRequest
from raftkv.kv.budget import Budget, rows_of
from raftkv.kv.overlay import Reader
from raftkv.kv.ranges import end_of
from raftkv.kv.records import VERSION_BYTES, unpack_version
from raftkv.kv.steps import Steps
from raftkv.kv.store import Family
from raftkv.rpc import kv_pb2

_HOLDS: Final[dict[int, Callable[[Any, Any], bool]]] = {
    kv_pb2.COMPARE_RESULT_EQUAL: operator.eq,
    kv_pb2.COMPARE_RESULT_GREATER: operator.gt,
    kv_pb2.COMPARE_RESULT_LESS: operator.lt,
    kv_pb2.COMPARE_RESULT_NOT_EQUAL: operator.ne,
}

_FIELD_OF_VERSION: Final = {"create_revision": 0, "mod_revision": 1, "version": 2, "lease": 3}


def all_hold(view: Reader, compares: Iterable[kv_pb2.Compare], budget: Budget) -> Steps[bool]:
    """Whether every one holds; true if there are none. Raises `TooManyKeys`."""
    for compare in compares:
        if not compare.range_end:
            record = view.get(Family.CURRENT, compare.key)
            if budget.look_at(rows_of(record or b"")):
                yield
            if not _record_holds(compare, record):
                return False
        elif not (yield from _range_holds(view, compare, budget)):
            return False
    return True


def _range_holds(view: Reader, compare: kv_pb2.Compare, budget: Budget) -> Steps[bool]:
    empty = True
    for _, record in view.scan(Family.CURRENT, compare.key, end_of(compare.key, compare.range_end)):
        empty = False
        if budget.look_at(rows_of(record)):
            yield
        if not _record_holds(compare, record):
            return False
    return _record_holds(compare, None) if empty else True


def _record_holds(compare: kv_pb2.Compare, record: bytes | None) -> bool:
    target = compare.WhichOneof("target")
    holds = _HOLDS.get(compare.result)
    if target is None or holds is None:
        raise InvalidRequest(
            "compare needs a target and a known result; set one of version, create_revision, "
            "mod_revision, value, lease, and EQUAL, GREATER, LESS or NOT_EQUAL"
        )
    if target == "value":
        # A missing key has no value: it is neither equal nor unequal to any.
        return record is not None and holds(record[VERSION_BYTES:], compare.value)
    actual = unpack_version(record)[_FIELD_OF_VERSION[target]] if record is not None else 0
    return holds(actual, getattr(compare, target))

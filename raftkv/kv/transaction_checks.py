"""The rule that a transaction changes a key at most once. Knows messages, not the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from raftkv.errors import InvalidRequest
from raftkv.kv.ranges import end_of
from raftkv.rpc import kv_pb2

_End: TypeAlias = tuple[bool, bytes]
"""Exclusive end of an interval, comparable: (whether it is open, end)."""


class _Interval(NamedTuple):
    start: bytes
    end: _End


@dataclass(slots=True)
class _Writes:
    """What an operation or branch may write: keys that it puts, and intervals it deletes."""

    puts: set[bytes] = field(default_factory=set)
    deletes: list[_Interval] = field(default_factory=list)


def check_duplicates(transaction: kv_pb2.Transaction) -> None:
    """Raise `InvalidRequest` if a branch may put a key twice, or put and delete it.

    Both branches of a nested transaction count for the branch it stands in: which one runs is
    not known yet. But they exclude each other, so a key may be written in both.
    """
    _writes_of_either(transaction)


def _writes_of_either(transaction: kv_pb2.Transaction) -> _Writes:
    success, failure = (
        _writes_of_branch(branch) for branch in (transaction.success, transaction.failure)
    )
    return _Writes(success.puts | failure.puts, success.deletes + failure.deletes)


def _writes_of_branch(branch: Iterable[kv_pb2.Operation]) -> _Writes:
    each = [_writes_of_operation(operation) for operation in branch]
    _check_apart(each)
    together = _Writes()
    for writes in each:
        together.puts |= writes.puts
        together.deletes += writes.deletes
    return together


def _writes_of_operation(operation: kv_pb2.Operation) -> _Writes:
    match operation.WhichOneof("operation"):
        case "put":
            return _Writes(puts={operation.put.key})
        case "delete_range":
            key, range_end = operation.delete_range.key, operation.delete_range.range_end
            end = end_of(key, range_end) if range_end else key + b"\x00"
            return _Writes(deletes=[_Interval(key, (end is None, end or b""))])
        case "transaction":
            return _writes_of_either(operation.transaction)
    return _Writes()


class _Reach(NamedTuple):
    """How far the intervals of one operation, by its number, reach."""

    end: _End
    number: int


_NOWHERE: Final = _Reach((False, b""), -1)


def _check_apart(each: Sequence[_Writes]) -> None:
    """Raise if a key that one operation puts is also put, or deleted, by another.

    One sweep over the sorted keys: a client must not be able to buy quadratic work.
    """
    putter: dict[bytes, int] = {}
    for number, writes in enumerate(each):
        for key in writes.puts:
            if putter.setdefault(key, number) != number:
                raise _duplicate(key)
    deletes = sorted(
        (interval, number) for number, writes in enumerate(each) for interval in writes.deletes
    )
    # Of the intervals that start at or before the key, the farthest end, and the farthest
    # among the other operations than the one that has it.
    farthest = other = _NOWHERE
    position = 0
    for key in sorted(putter):
        while position < len(deletes) and deletes[position][0].start <= key:
            interval, number = deletes[position]
            position += 1
            if number == farthest.number:
                farthest = max(farthest, _Reach(interval.end, number))
            elif interval.end > farthest.end:
                farthest, other = _Reach(interval.end, number), farthest
            elif interval.end > other.end:
                other = _Reach(interval.end, number)
        deleter = other if farthest.number == putter[key] else farthest
        if deleter.end > (False, key):
            raise _duplicate(key)


def _duplicate(key: bytes) -> InvalidRequest:
    return InvalidRequest(
        f"key {key!r} is put twice, or put and deleted, in one branch of the transaction; "
        "let each branch write a key once",
        key=key.hex(),
    )

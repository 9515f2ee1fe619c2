"""The conditions of a transaction: `when.version("k") == 0`, `when.value("k") != b"x"`.

A key that is absent has version, revisions and lease 0, and fails every comparison of its value.
Over a range (`end` given) every key in it must satisfy the condition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftkv.arguments import to_bytes, to_int64
from raftkv.rpc.v1 import kv_pb2


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction, made by comparing the result of a function of this module."""

    wire: kv_pb2.Compare


class _Number:
    """A number of a key; comparing it makes a condition."""

    __slots__ = ("_compare",)
    __hash__ = None  # type: ignore[assignment]  # `==` makes a condition, so it can't be hashed

    def __init__(self, compare: Callable[[kv_pb2.CompareResult, int], kv_pb2.Compare]) -> None:
        self._compare = compare

    # `==` and `!=` make a condition, as in every query builder, where object's make a bool.
    def __eq__(self, other: int) -> Compare:  # type: ignore[override]
        return Compare(self._compare(kv_pb2.COMPARE_RESULT_EQUAL, to_int64(other, "number")))

    def __ne__(self, other: int) -> Compare:  # type: ignore[override]
        return Compare(self._compare(kv_pb2.COMPARE_RESULT_NOT_EQUAL, to_int64(other, "number")))

    def __lt__(self, other: int) -> Compare:
        return Compare(self._compare(kv_pb2.COMPARE_RESULT_LESS, to_int64(other, "number")))

    def __gt__(self, other: int) -> Compare:
        return Compare(self._compare(kv_pb2.COMPARE_RESULT_GREATER, to_int64(other, "number")))


class _Value:
    """The value of a key, compared byte by byte; comparing it makes a condition."""

    __slots__ = ("_end", "_key")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: bytes, end: bytes) -> None:
        self._key = key
        self._end = end

    def _compare(self, result: kv_pb2.CompareResult, other: str | bytes) -> Compare:
        value = to_bytes(other, "value")
        return Compare(
            kv_pb2.Compare(result=result, key=self._key, range_end=self._end, value=value)
        )

    def __eq__(self, other: str | bytes) -> Compare:  # type: ignore[override]
        return self._compare(kv_pb2.COMPARE_RESULT_EQUAL, other)

    def __ne__(self, other: str | bytes) -> Compare:  # type: ignore[override]
        return self._compare(kv_pb2.COMPARE_RESULT_NOT_EQUAL, other)

    def __lt__(self, other: str | bytes) -> Compare:
        return self._compare(kv_pb2.COMPARE_RESULT_LESS, other)

    def __gt__(self, other: str | bytes) -> Compare:
        return self._compare(kv_pb2.COMPARE_RESULT_GREATER, other)


def version(key: str | bytes, end: str | bytes = b"") -> _Number:
    """The key's version: 1 on creation, +1 per put; 0: the key is absent."""
    first, last = to_bytes(key, "key"), to_bytes(end, "end")
    return _Number(
        lambda result, number: kv_pb2.Compare(
            result=result, key=first, range_end=last, version=number
        )
    )


def create_revision(key: str | bytes, end: str | bytes = b"") -> _Number:
    """The revision at which the key was created."""
    first, last = to_bytes(key, "key"), to_bytes(end, "end")
    return _Number(
        lambda result, number: kv_pb2.Compare(
            result=result, key=first, range_end=last, create_revision=number
        )
    )


def mod_revision(key: str | bytes, end: str | bytes = b"") -> _Number:
    """The revision at which the key was last changed."""
    first, last = to_bytes(key, "key"), to_bytes(end, "end")
    return _Number(
        lambda result, number: kv_pb2.Compare(
            result=result, key=first, range_end=last, mod_revision=number
        )
    )


def lease(key: str | bytes, end: str | bytes = b"") -> _Number:
    """The lease that the key is attached to."""
    first, last = to_bytes(key, "key"), to_bytes(end, "end")
    return _Number(
        lambda result, number: kv_pb2.Compare(
            result=result, key=first, range_end=last, lease=number
        )
    )


def value(key: str | bytes, end: str | bytes = b"") -> _Value:
    """The key's value."""
    return _Value(to_bytes(key, "key"), to_bytes(end, "end"))


def exists(key: str | bytes) -> Compare:
    """The key exists."""
    return version(key) > 0


def absent(key: str | bytes) -> Compare:
    """The key does not exist."""
    return version(key) == 0

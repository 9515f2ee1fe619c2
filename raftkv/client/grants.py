"""What the store says of locks and grants, as immutable values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raftkv.rpc import api_pb2


@dataclass(frozen=True, slots=True)
class Grant:
    """A name taken with one compare-and-swap, and kept by whoever renews it in time.

    It ends `ttl` seconds after it was acquired or last renewed: count from before the call.
    """

    name: bytes
    token: int  # the fencing token: greater than that of every holder before
    lease: int
    ttl: float
    key: bytes


@dataclass(frozen=True, slots=True)
class LockMember:
    """One who holds a lock or waits for it; `left_s` is what is left of its lease."""

    token: int
    value: bytes
    lease: int
    left_s: float


@dataclass(frozen=True, slots=True)
class LockInfo:
    """A lock's holder, None if it is free, and who waits, in order."""

    holder: LockMember | None
    waiters: tuple[LockMember, ...]


def lock_info_of(queue: Iterable[api_pb2.LockMember]) -> LockInfo:
    """A LockInfo from the wire: the holder and who waits, in order."""
    members = tuple(
        LockMember(each.token, each.value, each.lease, each.ttl_ms / 1000) for each in queue
    )
    return LockInfo(members[0] if members else None, members[1:])

"""What each command needs, and what the roles of a user allow (the table of the issue and of
docs/security.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from raftkv.rpc.v1 import auth_pb2, kv_pb2

READ: Final = auth_pb2.ACCESS_READ
WRITE: Final = auth_pb2.ACCESS_WRITE


@dataclass(frozen=True, slots=True)
class Span:
    """The keys from `start` to before `end`; None: all keys from `start` on."""

    start: bytes
    end: bytes | None

    def begins_in(self, other: Span) -> bool:
        return other.start <= self.start and (other.end is None or self.start < other.end)


def span(key: bytes, range_end: bytes) -> Span:
    """The keys of a request. An empty range counts as its first key."""
    if range_end == b"\0":
        return Span(key, None)
    return Span(key, range_end if range_end > key else key + b"\0")


Need: TypeAlias = "tuple[int, Span] | int"
"""An access (READ or WRITE) to all keys of a span; or an administrative right."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The union of the rights of a user's roles."""

    permissions: tuple[auth_pb2.Permission, ...]
    admin_rights: frozenset[int]

    @classmethod
    def by(cls, roles: Iterable[auth_pb2.AuthRole]) -> Allowed:
        roles = list(roles)
        return cls(
            tuple(each for role in roles for each in role.permissions),
            frozenset(right for role in roles for right in role.admin_rights),
        )

    def allows(self, need: Need) -> bool:
        if isinstance(need, int):
            return need in self.admin_rights
        access, wanted = need
        found = [each for each in self.permissions if each.access & access]
        spans = [span(each.key, each.range_end) for each in found]
        return _is_covered(wanted, spans)


def _is_covered(wanted: Span, spans: list[Span]) -> bool:
    """Whether each key of `wanted` is in one of the spans.

    The first key that is left over is covered by a span, and then the first one after that.
    """
    left: Span | None = wanted
    while left is not None:
        ends = [each.end for each in spans if left.begins_in(each)]
        if not ends:
            return False
        if None in ends:
            return True
        furthest = max(end for end in ends if end is not None)
        left = Span(furthest, wanted.end) if wanted.end is None or furthest < wanted.end else None
    return True


def needs_of(command: kv_pb2.Command) -> Iterator[Need]:
    """What the command needs, whichever branch of a transaction it takes.

    A lease belongs to a user: what a command does with leases needs no right.
    """
    for fence in command.fences:
        yield READ, _queue(fence.name)
    match command.WhichOneof("command"):
        case "put":
            yield from _needs_of_put(command.put)
        case "delete_range":
            yield from _needs_of_delete(command.delete_range)
        case "transaction":
            yield from _needs_of_transaction(command.transaction)
        case "compare_and_swap":
            yield from _both(span(command.compare_and_swap.key, b""))
        case "acquire":
            yield from _both(_queue(command.acquire.name))
        case "compact":
            yield auth_pb2.ADMIN_RIGHT_MAINTENANCE
        case "auth":
            yield auth_pb2.ADMIN_RIGHT_AUTH


def _needs_of_transaction(transaction: kv_pb2.Transaction) -> Iterator[Need]:
    for compare in transaction.compare:
        yield READ, span(compare.key, compare.range_end)
    for operation in [*transaction.success, *transaction.failure]:
        match operation.WhichOneof("operation"):
            case "range":
                yield READ, span(operation.range.key, operation.range.range_end)
            case "put":
                yield from _needs_of_put(operation.put)
            case "delete_range":
                yield from _needs_of_delete(operation.delete_range)
            case "transaction":
                yield from _needs_of_transaction(operation.transaction)


def _needs_of_put(put: kv_pb2.Put) -> Iterator[Need]:
    """To keep the value or the lease of a key is to learn whether the key is there."""
    key = span(put.key, b"")
    yield WRITE, key
    if put.prev_kv or put.ignore_value or put.ignore_lease:
        yield READ, key


def _needs_of_delete(delete: kv_pb2.DeleteRange) -> Iterator[Need]:
    keys = span(delete.key, delete.range_end)
    yield WRITE, keys
    if delete.prev_kv:
        yield READ, keys


def _both(keys: Span) -> Iterator[Need]:
    yield READ, keys
    yield WRITE, keys


def _queue(name: bytes) -> Span:
    """Where all entries of a lock's queue are: `<name>/` and a token of 63 bits in 16 digits."""
    return Span(name + b"/0", name + b"/8")

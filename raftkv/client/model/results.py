"""The results of calls as immutable values, and their decoding."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from raftkv.rpc.v1 import api_pb2, kv_pb2


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value and history."""

    key: bytes
    value: bytes
    create_revision: int  # revision that created this generation of the key
    mod_revision: int  # revision of its last change
    version: int  # 1 on creation, +1 per put
    lease: int  # 0: not attached to a lease


@dataclass(frozen=True, slots=True)
class PutResult:
    """A put was applied at `revision`; `prev_kv` is what it replaced, if that was asked for."""

    revision: int
    prev_kv: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """`deleted` keys are gone; `prev_kvs` are what they were, if that was asked for."""

    revision: int  # of the deletion; of the store, if nothing was deleted
    deleted: int
    prev_kvs: tuple[KeyValue, ...] = ()
    more: bool = False  # the limit has left some in the range


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Which node answered a read, and how. Unset in results of writes and inside transactions."""

    node: int = 0
    term: int = 0  # in which that node was
    staleness: float | None = 0.0  # maximal age of the state in seconds; None: unknown
    fallback: bool = False  # read stale, because no node could serve the requested level


@dataclass(frozen=True, slots=True)
class Reading(Answer):
    """A key as it was at `revision`; `kv` is None if it was absent."""

    revision: int
    kv: KeyValue | None


@dataclass(frozen=True, slots=True)
class RangeResult(Answer):
    """The keys of a range as they were at `revision`."""

    revision: int
    kvs: tuple[KeyValue, ...]
    count: int  # keys in the whole range, whatever the limit
    more: bool  # the limit has cut some off
    next_key: bytes = b""  # of a scan's page that is not the last: where the next one begins


@dataclass(frozen=True, slots=True)
class TransactionResult(Answer):
    """`succeeded` says which branch ran; `responses` has one result per operation of it."""

    revision: int
    succeeded: bool
    responses: tuple[OperationResult, ...]


OperationResult: TypeAlias = PutResult | DeleteResult | RangeResult | TransactionResult


@dataclass(frozen=True, slots=True)
class SwapResult:
    """Whether the value was swapped, and what the key is now: None if it is absent."""

    revision: int
    swapped: bool
    current: KeyValue | None


@dataclass(frozen=True, slots=True)
class LeaseResult:
    """A lease lives for `ttl_s` seconds from when it was granted or renewed."""

    revision: int
    lease: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class LeaseTimeToLive:
    """What is left of a lease, in seconds, and the keys attached to it, if they were asked for."""

    lease: int
    left_s: float
    granted_ttl_s: float
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AcquireResult:
    """A new entry in a queue; token 0 and `holder`, if the name was wanted only if free."""

    held: bool
    key: bytes
    token: int
    lease: int
    ttl_s: float  # of a lease that was granted with it
    holder: KeyValue | None  # None: the caller


def key_value_of(kv: kv_pb2.KeyValue) -> KeyValue:
    """A KeyValue from the wire."""
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def put_result(result: kv_pb2.Result) -> PutResult:
    """The result of a put."""
    if result.HasField("put") and result.put.HasField("prev_kv"):
        return PutResult(result.revision, key_value_of(result.put.prev_kv))
    return PutResult(result.revision)


def delete_result(result: kv_pb2.Result) -> DeleteResult:
    """The result of a deletion."""
    deletion = result.delete_range
    return DeleteResult(
        result.revision,
        deletion.deleted,
        tuple(map(key_value_of, deletion.prev_kvs)),
        deletion.more,
    )


def range_result(result: kv_pb2.Result) -> RangeResult:
    """The result of a range."""
    found = result.range
    return RangeResult(
        result.revision,
        tuple(map(key_value_of, found.kvs)),
        found.count,
        found.more,
        found.next_key,
    )


def first_of_range(result: kv_pb2.Result, _: api_pb2.PipelineReply) -> KeyValue | None:
    """The result of a read of one key."""
    kvs = result.range.kvs
    return key_value_of(kvs[0]) if kvs else None


def reading(result: kv_pb2.Result, reply: api_pb2.PipelineReply) -> Reading:
    """The result of a read of one key, with the node that answered."""
    return Reading(result.revision, first_of_range(result, reply), **_answer_of(reply))


def range_reading(result: kv_pb2.Result, reply: api_pb2.PipelineReply) -> RangeResult:
    """The result of a read of a range, with the node that answered."""
    return replace(range_result(result), **_answer_of(reply))


def transaction_reading(result: kv_pb2.Result, reply: api_pb2.PipelineReply) -> TransactionResult:
    """The result of a read-only transaction, with the node that answered."""
    return replace(transaction_result(result), **_answer_of(reply))


def _answer_of(reply: api_pb2.PipelineReply) -> dict[str, Any]:
    staleness_ms = reply.reads.staleness_ms
    return {
        "node": reply.header.node_id,
        "term": reply.header.term,
        "staleness": staleness_ms / 1000 if staleness_ms >= 0 else None,
    }


def transaction_result(result: kv_pb2.Result) -> TransactionResult:
    """The result of a transaction, with those of its operations."""
    transaction = result.transaction
    return TransactionResult(
        result.revision,
        transaction.succeeded,
        tuple(map(_operation_result, transaction.responses)),
    )


def swap_result(result: kv_pb2.Result) -> SwapResult:
    """The result of a compare-and-swap."""
    swap = result.compare_and_swap
    current = key_value_of(swap.current) if swap.HasField("current") else None
    return SwapResult(result.revision, swap.swapped, current)


def lease_result(result: kv_pb2.Result) -> LeaseResult:
    """The result of a grant, renewal or revocation."""
    return LeaseResult(result.revision, result.lease.lease, result.lease.ttl_ms / 1000)


def acquire_result(result: kv_pb2.Result) -> AcquireResult:
    """The result of joining a queue."""
    acquire = result.acquire
    holder = key_value_of(acquire.holder) if acquire.HasField("holder") else None
    return AcquireResult(
        acquire.held, acquire.key, acquire.token, acquire.lease, acquire.ttl_ms / 1000, holder
    )


def ended_leases(result: kv_pb2.Result) -> frozenset[int]:
    """The result of a renewal of many: which of them have ended."""
    return frozenset(result.lease_keep_alive.ended)


def revision_of(result: kv_pb2.Result) -> int:
    """The revision alone."""
    return result.revision


def _operation_result(result: kv_pb2.Result) -> OperationResult:
    match result.WhichOneof("result"):
        case "range":
            return range_result(result)
        case "delete_range":
            return delete_result(result)
        case "transaction":
            return transaction_result(result)
        case _:  # a put without prev_kv sets only the revision
            return put_result(result)


@dataclass(frozen=True, slots=True)
class Grant:
    """A name that was acquired with `client.acquire`, until it is released or not renewed in time.

    It ends `ttl` seconds after it was acquired or last renewed: count from before that call.
    """

    name: bytes
    token: int  # the fencing token: greater than that of every holder before
    lease: int
    ttl: float
    key: bytes


@dataclass(frozen=True, slots=True)
class LockMember:
    """A holder or waiter of a lock; `left_s` is the remaining time of its lease."""

    token: int
    value: bytes
    lease: int
    left_s: float


@dataclass(frozen=True, slots=True)
class LockInfo:
    """A lock's holder, None if it is free, and the waiters in the order of the queue."""

    holder: LockMember | None
    waiters: tuple[LockMember, ...]


def lock_info_of(queue: Iterable[api_pb2.LockMember]) -> LockInfo:
    """A LockInfo from the wire: the first member is the holder, the others wait."""
    members = tuple(
        LockMember(each.token, each.value, each.lease, each.ttl_ms / 1000) for each in queue
    )
    return LockInfo(members[0] if members else None, members[1:])


class EventKind(enum.Enum):
    """The kind of a `WatchEvent`."""

    PUT = "put"
    DELETE = "delete"
    PROGRESS = "progress"  # no change: everything up to `revision` was delivered


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One key changed at `revision`."""

    kind: EventKind
    revision: int
    key: bytes = b""
    value: bytes = b""  # of a put
    created: bool = False  # the put began a new generation of the key
    kv: KeyValue | None = None  # what a put made
    prev_kv: KeyValue | None = None  # the previous value, if requested and not compacted

    @property
    def size_bytes(self) -> int:
        """The approximate size in memory."""
        previous = 0 if self.prev_kv is None else len(self.prev_kv.value)
        return EVENT_OVERHEAD_BYTES + len(self.key) + len(self.value) + previous


EVENT_OVERHEAD_BYTES = 400


def events_of(events: Iterable[api_pb2.WatchEvent]) -> list[WatchEvent]:
    """The events of a message, in order."""
    return [_event_of(event) for event in events]


def _event_of(event: api_pb2.WatchEvent) -> WatchEvent:
    prev_kv = key_value_of(event.prev_kv) if event.HasField("prev_kv") else None
    if event.deleted:
        revision = event.kv.mod_revision
        return WatchEvent(EventKind.DELETE, revision, event.kv.key, prev_kv=prev_kv)
    kv = key_value_of(event.kv)
    return WatchEvent(EventKind.PUT, kv.mod_revision, kv.key, kv.value, event.created, kv, prev_kv)

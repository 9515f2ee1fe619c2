"""What the store answers, as immutable values, and how they are read from the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from raftkv.errors import RaftkvError, from_wire
from raftkv.rpc import kv_pb2


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

    revision: int  # of the deletion; of the store, if there was nothing to delete
    deleted: int
    prev_kvs: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class RangeResult:
    """The keys of a range as they were at `revision`."""

    revision: int
    kvs: tuple[KeyValue, ...]
    count: int  # keys in the whole range, whatever the limit
    more: bool  # the limit has cut some off


@dataclass(frozen=True, slots=True)
class TransactionResult:
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


def error_of(failure: kv_pb2.Failure) -> RaftkvError:
    """The error that a Failure stands for."""
    return from_wire(
        failure.reason,
        failure.message,
        failure.outcome,
        failure.retry_after_ms / 1000,
        dict(failure.facts),
    )


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
        result.revision, deletion.deleted, tuple(map(key_value_of, deletion.prev_kvs))
    )


def range_result(result: kv_pb2.Result) -> RangeResult:
    """The result of a range."""
    found = result.range
    return RangeResult(
        result.revision, tuple(map(key_value_of, found.kvs)), found.count, found.more
    )


def first_of_range(result: kv_pb2.Result) -> KeyValue | None:
    """The result of a range of one key."""
    kvs = result.range.kvs
    return key_value_of(kvs[0]) if kvs else None


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

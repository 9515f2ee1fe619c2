"""Checks of requests that need no state, made before a command enters the log.

Each error names the field, the limit and the fix. Checks that need the state (is the lease living,
does the key exist) are made at apply.

Sizes are `ByteSize`, which protobuf libraries may count differently. That is safe: one node decides
whether it accepts a request, nodes need not agree, and commands in the log are not measured again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from raftkv.errors import InvalidRequest, RaftkvError, TooLarge
from raftkv.kv.limits import (
    IDEMPOTENCY_TTL_MS_MAX,
    LEASE_TTL_MS_MAX,
    SEQUENCE_MAX,
    TRANSACTION_DEPTH_MAX,
    Limits,
)
from raftkv.kv.pace import Pace, Steps, run
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.lock_keys import entry_key
from raftkv.wire.ranges import check_reads_only, exclusive_end

UNITS_PER_CHECK: Final = 4
"""The cost of the check of one operation, in units of a step."""

HEAVY_COMMAND_WEIGHT: Final = 512
"""The weight of a command that may change or scan many keys, in commands on one key. It is the most
that an entry may hold, so two such batches never share an entry: an entry is one write of the
store."""

WHOLE_BATCH: Final = -1
"""The position of an error of the batch itself, not of one command."""

_SORT_ORDERS: Final = frozenset(kv_pb2.SortOrder.values())
_SORT_TARGETS: Final = frozenset(kv_pb2.SortTarget.values())
_COMPARE_RESULTS: Final = frozenset(kv_pb2.CompareResult.values())


class Checked(NamedTuple):
    """The result of the checks of a batch."""

    refused: list[tuple[int, RaftkvError]]
    """All errors, each with the position of its command or `WHOLE_BATCH`."""
    weight: int
    """The cost of the batch at most, in commands on one key."""

    compactions: Sequence[tuple[int, int]] = ()
    """The revisions to compact, each after the position of its command: administrative acts."""


def check_batch(batch: kv_pb2.CommandBatch, limits: Limits) -> Checked:
    """Check all commands of the batch, and weigh it."""
    return run(check_in_steps(batch, limits))


def check_in_steps(
    batch: kv_pb2.CommandBatch, limits: Limits, *, of_node: bool = False
) -> Steps[Checked]:
    """As `check_batch`, in bounded steps: a batch of large commands takes long.

    `of_node`: a node has sent it, whose commands on users and roles are allowed.
    """
    pace = Pace()
    refused: list[tuple[int, RaftkvError]] = []
    compactions: list[tuple[int, int]] = []
    weight = len(batch.commands)
    batch_bytes = batch.ByteSize()
    try:
        _check_frame(batch, batch_bytes, limits)
    except InvalidRequest as error:
        refused.append((WHOLE_BATCH, error))
    # No part of a small batch can exceed a limit, and most batches are small.
    small = batch_bytes <= min(limits.value_bytes_max, limits.request_bytes_max)
    key_bytes_max = limits.key_bytes_max
    for position, command in enumerate(batch.commands):
        if small and not command.idempotency_key and not command.fences:
            put = command.put  # of another command: an empty one
            if 0 < len(put.key) <= key_bytes_max and not put.ignore_value and not put.ignore_lease:
                continue
        try:
            check_command(command, limits, of_node=of_node)
        except InvalidRequest as error:
            refused.append((position, error))
        else:
            weight += _further_weight(command)
            if command.HasField("compact"):
                compactions.append((position, command.compact.revision))
        operations = _operations_total(command.transaction)  # of another command: none
        if pace.spend(UNITS_PER_CHECK * (2 + operations)):
            yield
    return Checked(refused, weight, compactions)


def check_forwarded(commands: bytes, limits: Limits) -> Steps[Checked]:
    """As `check_in_steps`, for a CommandBatch that another node has accepted."""
    try:
        batch = kv_pb2.CommandBatch.FromString(commands)
    except DecodeError as error:
        wrong = InvalidRequest(f"what was forwarded is not a CommandBatch: {error}")
        return Checked([(WHOLE_BATCH, wrong)], 0)
    return (yield from check_in_steps(batch, limits, of_node=True))


def _further_weight(command: kv_pb2.Command) -> int:
    """The weight of the command beyond that of every command."""
    match command.WhichOneof("command"):
        case "delete_range":
            return HEAVY_COMMAND_WEIGHT if command.delete_range.range_end else 0
        case "lease_revoke":
            return HEAVY_COMMAND_WEIGHT
        case "lease_keep_alive":
            return len(command.lease_keep_alive.leases)
        case "transaction":
            return _weight_of_transaction(command.transaction)
    return 0


def _weight_of_transaction(transaction: kv_pb2.Transaction) -> int:
    branches = (*transaction.success, *transaction.failure)
    if any(compare.range_end for compare in transaction.compare) or any(
        operation.delete_range.range_end or operation.range.range_end for operation in branches
    ):
        return HEAVY_COMMAND_WEIGHT
    return len(transaction.compare) + sum(
        1 + _weight_of_transaction(operation.transaction) for operation in branches
    )


def check_command(command: kv_pb2.Command, limits: Limits, *, of_node: bool = False) -> None:
    """Raise `InvalidRequest` for a command that can never succeed, or that only nodes create."""
    _check_size("the command", command.ByteSize(), limits)
    _check_idempotency(command, limits)
    if len(command.fences) > limits.fences_max:
        raise InvalidRequest(
            f"the command has {len(command.fences)} fences, the limit is {limits.fences_max};"
            " split it",
            field="fences",
        )
    for fence in command.fences:
        _check_name("fence.name", fence.name, limits)
    match command.WhichOneof("command"):
        case "put":
            _check_put(command.put, limits)
        case "delete_range":
            _check_key("delete_range.key", command.delete_range.key, limits)
        case "transaction":
            _check_whole_transaction(command.transaction, limits)
            check_duplicates(command.transaction)
        case "compare_and_swap":
            _check_compare_and_swap(command.compare_and_swap, limits)
        case "acquire":
            _check_acquire(command.acquire, limits)
        case "lease_keep_alive":
            count = len(command.lease_keep_alive.leases)
            if count > limits.leases_per_command_max:
                raise InvalidRequest(
                    f"lease_keep_alive.leases has {count} leases, the limit is"
                    f" {limits.leases_per_command_max}; split it",
                    field="lease_keep_alive.leases",
                )
        case "lease_grant":
            _check_ttl("lease_grant.ttl_ms", command.lease_grant.ttl_ms)
        case "auth" if not of_node:
            raise InvalidRequest(
                "command.auth is created by nodes only; call the service Auth", field="auth"
            )
        case None:
            raise InvalidRequest("command is not set; say what to do")


def check_range(request: kv_pb2.Range, limits: Limits) -> None:
    """Raise `InvalidRequest` for a read that can never succeed."""
    _check_key("range.key", request.key, limits)
    if request.sort_order not in _SORT_ORDERS:
        raise InvalidRequest(
            f"range.sort_order {request.sort_order} is unknown; use NONE, ASCEND or DESCEND"
        )
    if request.sort_target not in _SORT_TARGETS:
        raise InvalidRequest(
            f"range.sort_target {request.sort_target} is unknown; "
            "use KEY, VERSION, CREATE, MOD or VALUE"
        )
    natural = request.sort_target == kv_pb2.SORT_TARGET_KEY
    if request.page and not (natural and request.sort_order != kv_pb2.SORT_ORDER_DESCEND):
        raise InvalidRequest(
            "range.page is given with a sort order; pages are in the order of the keys",
            field="range.page",
        )


def check_read_transaction(transaction: kv_pb2.Transaction, limits: Limits) -> None:
    """Raise `InvalidRequest` for a transaction that can never succeed or is not read-only."""
    _check_size("the transaction", transaction.ByteSize(), limits)
    _check_whole_transaction(transaction, limits)
    check_reads_only(transaction)


def _check_size(what: str, size_bytes: int, limits: Limits) -> None:
    if size_bytes > limits.request_bytes_max:
        raise TooLarge(
            f"{what} has {size_bytes} bytes, the limit is {limits.request_bytes_max}; split it",
            bytes_max=limits.request_bytes_max,
        )


def _check_frame(batch: kv_pb2.CommandBatch, batch_bytes: int, limits: Limits) -> None:
    if batch_bytes > limits.batch_bytes_max:
        raise TooLarge(
            f"the batch has {batch_bytes} bytes, the limit is {limits.batch_bytes_max}; "
            "send fewer commands at once",
            bytes_max=limits.batch_bytes_max,
        )
    if len(batch.commands) > limits.batch_commands_max:
        raise TooLarge(
            f"the batch has {len(batch.commands)} commands, the limit is "
            f"{limits.batch_commands_max}; send fewer commands at once",
            commands_max=limits.batch_commands_max,
        )
    if batch.sequence > SEQUENCE_MAX:
        raise InvalidRequest(f"sequence {batch.sequence} is over the limit of {SEQUENCE_MAX}")
    if batch.session and batch.acknowledged >= batch.sequence:
        raise InvalidRequest(
            f"sequence {batch.sequence} is not above acknowledged {batch.acknowledged}; number "
            "the batches of a session from 1 and acknowledge only what was answered"
        )


def _check_idempotency(command: kv_pb2.Command, limits: Limits) -> None:
    key_bytes, ttl_ms = len(command.idempotency_key), command.idempotency_ttl_ms
    if key_bytes > limits.idempotency_key_bytes_max:
        raise TooLarge(
            f"idempotency_key has {key_bytes} bytes, the limit is "
            f"{limits.idempotency_key_bytes_max}; use a shorter one, such as a UUID",
            bytes_max=limits.idempotency_key_bytes_max,
        )
    if key_bytes and not 0 <= ttl_ms <= IDEMPOTENCY_TTL_MS_MAX:
        raise InvalidRequest(
            f"idempotency_ttl_ms is {ttl_ms}, the limit is {IDEMPOTENCY_TTL_MS_MAX}; "
            "use a shorter time, or 0 for the default",
            ttl_ms_max=IDEMPOTENCY_TTL_MS_MAX,
        )


def _check_key(field: str, key: bytes, limits: Limits) -> None:
    if not key:
        raise InvalidRequest(f"{field} is empty; a key has at least one byte", field=field)
    if len(key) > limits.key_bytes_max:
        raise TooLarge(
            f"{field} has {len(key)} bytes, the limit is {limits.key_bytes_max}; use a shorter key",
            field=field,
            bytes_max=limits.key_bytes_max,
        )


def _check_name(field: str, name: bytes, limits: Limits) -> None:
    """A name must leave room for the token in the keys of its queue."""
    _check_key(field, name, limits)
    name_bytes_max = limits.key_bytes_max - len(entry_key(b"", 0))
    if len(name) > name_bytes_max:
        raise TooLarge(
            f"{field} has {len(name)} bytes, the limit is {name_bytes_max}; use a shorter name",
            field=field,
            bytes_max=name_bytes_max,
        )


def _check_ttl(field: str, ttl_ms: int) -> None:
    if ttl_ms > LEASE_TTL_MS_MAX:
        raise InvalidRequest(
            f"{field} is {ttl_ms}, the limit is {LEASE_TTL_MS_MAX}; ask for a shorter time and"
            " renew the lease",
            ttl_ms_max=LEASE_TTL_MS_MAX,
        )


def _check_acquire(request: kv_pb2.Acquire, limits: Limits) -> None:
    _check_name("acquire.name", request.name, limits)
    _check_value("acquire.value", request.value, limits)
    if request.lease and request.ttl_ms:
        raise InvalidRequest(
            "acquire.ttl_ms is given with acquire.lease, which has its own; leave one away",
            field="acquire.ttl_ms",
        )
    _check_ttl("acquire.ttl_ms", request.ttl_ms)


def _check_value(field: str, value: bytes, limits: Limits) -> None:
    if len(value) > limits.value_bytes_max:
        raise TooLarge(
            f"{field} has {len(value)} bytes, the limit is {limits.value_bytes_max}; "
            "split it over several keys",
            field=field,
            bytes_max=limits.value_bytes_max,
        )


def _check_put(put: kv_pb2.Put, limits: Limits) -> None:
    _check_key("put.key", put.key, limits)
    _check_value("put.value", put.value, limits)
    if put.ignore_value and put.value:
        raise InvalidRequest(
            "put.value is given with ignore_value; leave one of the two away", field="put.value"
        )
    if put.ignore_lease and put.lease:
        raise InvalidRequest(
            "put.lease is given with ignore_lease; leave one of the two away", field="put.lease"
        )


def _check_compare_and_swap(request: kv_pb2.CompareAndSwap, limits: Limits) -> None:
    _check_key("compare_and_swap.key", request.key, limits)
    _check_value("compare_and_swap.new_value", request.new_value, limits)
    if request.WhichOneof("expected") is None:
        raise InvalidRequest(
            "compare_and_swap.expected is not set; say absent, value or mod_revision",
            field="compare_and_swap.expected",
        )


def _check_whole_transaction(transaction: kv_pb2.Transaction, limits: Limits) -> None:
    total = _operations_total(transaction)
    if total > limits.transaction_operations_total_max:
        raise InvalidRequest(
            f"the transaction and those in it have {total} compares and operations, the limit is"
            f" {limits.transaction_operations_total_max}; split it",
            operations_max=limits.transaction_operations_total_max,
        )
    _check_transaction(transaction, limits, limits.transaction_operations_max, 1)


def _operations_total(transaction: kv_pb2.Transaction, depth: int = 1) -> int:
    """The number of compares and operations in it, nested ones included."""
    branches = (*transaction.success, *transaction.failure)
    total = len(transaction.compare) + len(branches)
    if depth <= TRANSACTION_DEPTH_MAX:  # else it is refused in any case
        for operation in branches:
            if operation.HasField("transaction"):
                total += _operations_total(operation.transaction, depth + 1)
    return total


def _check_transaction(
    transaction: kv_pb2.Transaction, limits: Limits, operations_max: int, depth: int
) -> None:
    if depth > TRANSACTION_DEPTH_MAX:
        raise InvalidRequest(
            f"transactions are nested more than {TRANSACTION_DEPTH_MAX} deep; "
            "split the transaction, or compare everything in its outer ones",
            depth_max=TRANSACTION_DEPTH_MAX,
        )
    longest = max(len(transaction.compare), len(transaction.success), len(transaction.failure))
    if longest > operations_max:
        raise InvalidRequest(
            f"a list of the transaction has {longest} members, the limit is {operations_max} "
            f"(of {limits.transaction_operations_max}, less what the transactions around it use); "
            "split the transaction",
            operations_max=limits.transaction_operations_max,
        )
    for compare in transaction.compare:
        _check_compare(compare, limits)
    nested_max = operations_max - longest
    _check_operations(transaction.success, limits, nested_max, depth + 1)
    _check_operations(transaction.failure, limits, nested_max, depth + 1)


def _check_compare(compare: kv_pb2.Compare, limits: Limits) -> None:
    _check_key("compare.key", compare.key, limits)
    if compare.WhichOneof("target") is None or compare.result not in _COMPARE_RESULTS:
        raise InvalidRequest(
            "compare needs a target and a known result; set one of version, create_revision, "
            "mod_revision, value, lease, and EQUAL, GREATER, LESS or NOT_EQUAL",
            field="compare",
        )


def _check_operations(
    operations: Iterable[kv_pb2.Operation], limits: Limits, nested_max: int, depth: int
) -> None:
    for operation in operations:
        match operation.WhichOneof("operation"):
            case "put":
                _check_put(operation.put, limits)
            case "delete_range":
                _check_key("delete_range.key", operation.delete_range.key, limits)
            case "range":
                check_range(operation.range, limits)
            case "transaction":
                _check_transaction(operation.transaction, limits, nested_max, depth)
            case None:
                raise InvalidRequest(
                    "an operation of the transaction is not set; say range, put, "
                    "delete_range or transaction",
                    field="operation",
                )


_End: TypeAlias = tuple[bool, bytes]
"""The exclusive end of an interval, comparable: (whether it has no end, end)."""


class _Interval(NamedTuple):
    start: bytes
    end: _End


@dataclass(slots=True)
class _Writes:
    """The changes that an operation or branch may make: keys to put, and intervals to delete."""

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
            end = exclusive_end(key, range_end) if range_end else key + b"\x00"
            return _Writes(deletes=[_Interval(key, (end is None, end or b""))])
        case "transaction":
            return _writes_of_either(operation.transaction)
    return _Writes()


class _Reach(NamedTuple):
    """The farthest end of the intervals of one operation, by its number."""

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

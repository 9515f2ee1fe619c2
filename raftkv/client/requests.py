"""Checks the arguments of calls and encodes them as requests.

A call is checked here, before it shares a batch with others. Each `*_piece` function returns the
call as a CommandBatch or ReadBatch that contains nothing else (see connection/batches.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast

from raftkv.arguments import milliseconds, to_bytes, to_flag, to_int64
from raftkv.client.model.op import Sort, sort_order
from raftkv.client.settings import ClientSettings
from raftkv.errors import InvalidRequest, TooLarge
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.wire import ranges
from raftkv.wire.ranges import NO_END, check_reads_only


class WriteOptions(NamedTuple):
    """The options that all writes have in common.

    A new option is a field here, a line in `set_on`, and a test for its default in `write_options`.
    """

    fence: Fences = None
    idempotency_key: str | bytes = b""
    idempotency_ttl: float | None = None

    def set_on(self, command: kv_pb2.Command, settings: ClientSettings) -> None:
        """Check the options and write them into the command.

        Raises `InvalidRequest` that names the argument, `LockLost` for a fence that is not held.
        """
        set_fences(command, self.fence, settings)
        _set_idempotency(command, self.idempotency_key, self.idempotency_ttl)


NO_OPTIONS = WriteOptions()


def write_options(
    fence: Fences, idempotency_key: str | bytes, idempotency_ttl: float | None
) -> WriteOptions:
    """The options as a caller gives them. The hot path: `NO_OPTIONS`, and no object, by default."""
    if (
        fence is None
        and type(idempotency_key) is bytes
        and not idempotency_key
        and idempotency_ttl is None
    ):
        return NO_OPTIONS
    return WriteOptions(fence, idempotency_key, idempotency_ttl)


def put_piece(
    settings: ClientSettings,
    key: str | bytes,
    value: str | bytes,
    lease: int,
    prev_kv: bool,
    ignore_value: bool,
    ignore_lease: bool,
    options: WriteOptions,
) -> bytes:
    """A put. The hot path: only fields that differ from their defaults are set."""
    batch = kv_pb2.CommandBatch()
    command = batch.commands.add()
    message = command.put
    message.key = to_key(key, settings)
    message.value = to_value(value, settings)
    # Each test is the cheapest that only the default passes; every other value is checked.
    if type(lease) is not int or lease:
        message.lease = to_int64(lease, "lease")
    if prev_kv is not False:
        message.prev_kv = to_flag(prev_kv, "prev_kv")
    if ignore_value is not False or ignore_lease is not False:
        message.ignore_value = to_flag(ignore_value, "ignore_value")
        message.ignore_lease = to_flag(ignore_lease, "ignore_lease")
        if ignore_value and value:
            raise InvalidRequest("value is given and ignore_value is set; leave out one of them")
        if ignore_lease and lease:
            raise InvalidRequest("lease is given and ignore_lease is set; leave out one of them")
    if options is not NO_OPTIONS:
        options.set_on(command, settings)
    return batch.SerializeToString()


def command_piece(
    settings: ClientSettings, command: kv_pb2.Command, options: WriteOptions = NO_OPTIONS
) -> bytes:
    """Any command. Raises `TooLarge` if it is over the limit of a request."""
    if options is not NO_OPTIONS:
        options.set_on(command, settings)
    piece = kv_pb2.CommandBatch(commands=[command]).SerializeToString()
    if len(piece) > settings.request_bytes_max:
        raise TooLarge(
            f"the request has {len(piece)} bytes, the limit is {settings.request_bytes_max};"
            " split it",
            field="request",
            limit=settings.request_bytes_max,
        )
    return piece


def check_transaction(
    settings: ClientSettings, transaction: kv_pb2.Transaction, depth: int = 1
) -> None:
    """Raise `InvalidRequest` or `TooLarge` if a transaction is invalid."""
    if depth > settings.transaction_depth_max:
        # A node can't parse one that is nested a hundred deep, nor the batch that contains it.
        raise InvalidRequest(
            f"transactions are nested more than {settings.transaction_depth_max} deep;"
            " split the transaction",
            field="transaction",
            limit=settings.transaction_depth_max,
        )
    limit = settings.transaction_operations_max
    lists: tuple[tuple[str, int], ...] = (
        ("compare", len(transaction.compare)),
        ("success", len(transaction.success)),
        ("failure", len(transaction.failure)),
    )
    for name, size in lists:
        if size > limit:
            raise TooLarge(
                f"{name} has {size} operations, the limit is {limit}; split the transaction",
                field=name,
                limit=limit,
            )
    for condition in transaction.compare:
        to_key(condition.key, settings)
    _check_operations(settings, transaction.success, depth)
    _check_operations(settings, transaction.failure, depth)


def _check_operations(
    settings: ClientSettings, operations: Iterable[kv_pb2.Operation], depth: int
) -> None:
    for operation in operations:
        match operation.WhichOneof("operation"):
            case "put":
                to_key(operation.put.key, settings)
                to_value(operation.put.value, settings)
            case "range":
                to_key(operation.range.key, settings)
            case "delete_range":
                to_key(operation.delete_range.key, settings)
            case "transaction":
                check_transaction(settings, operation.transaction, depth + 1)


def compare_and_swap_command(
    settings: ClientSettings,
    key: str | bytes,
    expected: str | bytes | int | None,
    new_value: str | bytes,
    lease: int,
) -> kv_pb2.Command:
    """`expected` is a value, a mod_revision, or None for a key that is absent."""
    swap = kv_pb2.CompareAndSwap(
        key=to_key(key, settings), new_value=to_value(new_value, settings, "new_value")
    )
    swap.lease = to_int64(lease, "lease")
    if expected is None:
        swap.absent = True
    elif isinstance(expected, str | bytes):
        swap.value = to_bytes(expected, "expected")
    else:
        swap.mod_revision = to_int64(expected, "expected", 0)
    return kv_pb2.Command(compare_and_swap=swap)


def range_message(
    settings: ClientSettings,
    start: str | bytes,
    end: str | bytes,
    *,
    limit: int,
    revision: int,
    sort: Sort,
    descending: bool,
    keys_only: bool,
    count_only: bool,
) -> kv_pb2.Range:
    """A Range. Raises `InvalidRequest` that names the argument."""
    return kv_pb2.Range(
        key=to_key(start, settings, "start"),
        range_end=to_key(end, settings, "end"),
        limit=to_int64(limit, "limit", 0),
        revision=to_int64(revision, "revision", 0),
        sort_order=sort_order(sort, descending),
        sort_target=sort.value,
        keys_only=to_flag(keys_only, "keys_only"),
        count_only=to_flag(count_only, "count_only"),
    )


def range_piece(message: kv_pb2.Range) -> bytes:
    """A read."""
    return api_pb2.ReadBatch(ranges=[message]).SerializeToString()


def read_transaction_piece(settings: ClientSettings, transaction: kv_pb2.Transaction) -> bytes:
    """A read-only transaction. Raises `InvalidRequest` if it would change something."""
    check_transaction(settings, transaction)
    check_reads_only(transaction)
    return api_pb2.ReadBatch(transactions=[transaction]).SerializeToString()


def get_piece(settings: ClientSettings, key: str | bytes, revision: int) -> bytes:
    """A read of one key."""
    batch = api_pb2.ReadBatch()
    message = batch.ranges.add()
    message.key = to_key(key, settings)
    if type(revision) is not int or revision:
        message.revision = to_int64(revision, "revision", 0)
    return batch.SerializeToString()


def _set_idempotency(
    command: kv_pb2.Command, idempotency_key: str | bytes, ttl: float | None
) -> None:
    command.idempotency_key = to_bytes(idempotency_key, "idempotency_key")
    if ttl is not None:
        command.idempotency_ttl_ms = milliseconds(ttl, "idempotency_ttl")
        if not command.idempotency_key:
            raise InvalidRequest(
                "idempotency_ttl is given without idempotency_key; name the command"
            )


def to_key(key: str | bytes, settings: ClientSettings, field: str = "key") -> bytes:
    """A key. Raises `InvalidRequest` if it is empty, `TooLarge` if it is too long."""
    encoded = key if type(key) is bytes else to_bytes(key, field)
    size = len(encoded)
    if not size:
        raise InvalidRequest(f"{field} is empty; a key has at least one byte", field=field)
    if size > settings.key_bytes_max:
        raise TooLarge(
            f"{field} has {size} bytes, the limit is {settings.key_bytes_max}; shorten it",
            field=field,
            limit=settings.key_bytes_max,
        )
    return encoded


def to_value(value: str | bytes, settings: ClientSettings, field: str = "value") -> bytes:
    """A value. Raises `TooLarge` if it is too long."""
    encoded = value if type(value) is bytes else to_bytes(value, field)
    if len(encoded) > settings.value_bytes_max:
        raise TooLarge(
            f"{field} has {len(encoded)} bytes, the limit is {settings.value_bytes_max};"
            " split it over several keys",
            field=field,
            limit=settings.value_bytes_max,
        )
    return encoded


def prefix_end(prefix: str | bytes) -> bytes:
    """The end of the range that holds exactly the keys that start with `prefix`."""
    return ranges.prefix_end(to_bytes(prefix, "prefix")) or NO_END


def prefix_range(prefix: str | bytes) -> tuple[bytes, bytes]:
    """Start and end of the keys that start with `prefix`; an empty prefix stands for all keys."""
    return to_bytes(prefix, "prefix") or NO_END, prefix_end(prefix)


def range_bounds(
    start: str | bytes | None, end: str | bytes | None, prefix: str | bytes | None
) -> tuple[str | bytes, str | bytes]:
    """Start and end of a range that is given by both of them, or by a prefix."""
    if prefix is not None:
        if start is not None or end is not None:
            raise InvalidRequest(
                "prefix is given with start or end; give one or the other", field="prefix"
            )
        return prefix_range(prefix)
    if start is None or end is None:
        field = "start" if start is None else "end"
        raise InvalidRequest(f"{field} is missing; give start and end, or prefix", field=field)
    return start, end


def deletion_bounds(
    start: str | bytes | None, end: str | bytes | None, prefix: str | bytes | None
) -> tuple[str | bytes, str | bytes]:
    """As `range_bounds`, but refuses an empty prefix, which would delete every key."""
    if prefix is not None:
        require_prefix(prefix)
    return range_bounds(start, end, prefix)


def require_prefix(prefix: str | bytes) -> str | bytes:
    """Raise `InvalidRequest` for an empty prefix, which would delete every key."""
    if not to_bytes(prefix, "prefix"):
        raise InvalidRequest(
            'prefix is empty; to delete every key say delete_range(b"\\0", b"\\0")', field="prefix"
        )
    return prefix


class TokenHolder(Protocol):
    """Holds a name under a fencing token: a lock, a leadership, or a grant."""

    @property
    def name(self) -> bytes: ...
    @property
    def token(self) -> int:
        """Raises `LockLost` if it is known not to be held any more."""


Fence: TypeAlias = TokenHolder | tuple[str | bytes, int]
"""The command runs only if the token is that of the name's holder, else it raises `FencedOff`."""

Fences: TypeAlias = Fence | Sequence[Fence] | None


def set_fences(command: kv_pb2.Command, fence: Fences, settings: ClientSettings) -> None:
    """Let the command run only if all of these are holders then.

    Raises `InvalidRequest` for a value that is no fence, `LockLost` for a lock that is lost.
    """
    if fence is None:
        return
    for name, token in _pairs(fence):
        command.fences.add(
            name=to_key(name, settings, "the fence's name"),
            token=to_int64(token, "the fence's token", 1),
        )
    if not command.fences:
        raise InvalidRequest("fence is an empty list; give a lock, or None for no fence")


def _pairs(fence: Fence | Sequence[Fence]) -> Iterator[tuple[str | bytes, int]]:
    if isinstance(fence, tuple) and len(fence) == 2 and isinstance(fence[0], (str, bytes)):
        yield fence
    elif isinstance(fence, Sequence) and not isinstance(fence, (str, bytes)):
        for each in fence:
            yield from _pairs(cast(Fence, each))
    elif getattr(fence, "shared", False):
        raise InvalidRequest(
            f"the fence {fence!r} is held by several at once, so its token fences nobody off; give"
            " the lock of a writer, or compare `when.create_revision(lock.key) == lock.token`",
            field="fence",
        )
    elif hasattr(fence, "name") and hasattr(fence, "token"):  # LockLost passes through `hasattr`
        yield fence.name, fence.token
    else:
        raise InvalidRequest(
            f"fence is a {type(fence).__name__}; give a lock, a grant, (name, token), or a list of"
            " these",
            field="fence",
        )

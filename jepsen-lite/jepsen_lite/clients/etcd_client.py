"""The adapter of etcd, through the package aetcd, to the harness's client protocol.

Nothing is retried: a write that got no answer has an unknown outcome. etcd's leases, watches,
pages, deletions and commands with options are not used by any workload on etcd, so they are not
adapted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import grpc
from aetcd import Client as Connection
from aetcd import rpc

from jepsen_lite.clients.etcd_locks import EtcdLock, is_late
from jepsen_lite.clients.partial import PartialClient, PartialLocks, unsupported
from jepsen_lite.clients.protocol import (
    DEADLINE_EXCEEDED,
    CompactedError,
    Conflict,
    Fence,
    KeyValue,
    LockClient,
    OperationError,
    PrefixRead,
    Swap,
    Transaction,
)
from jepsen_lite.history import Kind

T = TypeVar("T")
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.01, 0.25
# gRPC's message for a request that was never sent; after any other failure it may have arrived.
NEVER_SENT = "failed to connect to all addresses"
CHANNEL_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
}


class EtcdClient(PartialClient):
    """A `KvClient` that sends to one node until a request fails, then to the next node."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._connections = [_connection(endpoint) for endpoint in endpoints]
        self._current = 0
        self._background: set[asyncio.Task[object]] = set()
        self._locks = PartialLocks(lambda name, ttl_s: EtcdLock(self, name, ttl_s))

    @property
    def locks(self) -> LockClient:
        return self._locks

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for connection in self._connections:
            await connection.close()

    async def put(
        self, key: str, value: str = "", *, timeout_s: float, fence: Fence | None = None
    ) -> int:
        if fence is not None:
            unsupported(self, "a fence")
        request = rpc.PutRequest(key=key.encode(), value=value.encode())
        reply = await self._call(lambda stub: stub.Put(request, timeout=timeout_s), changes=True)
        revision: int = reply.header.revision
        return revision

    async def get(
        self, key: str, *, timeout_s: float, revision: int = 0, staleness_s_max: float = 0.0
    ) -> KeyValue | None:
        if staleness_s_max:
            unsupported(self, "a stale read")
        request = rpc.RangeRequest(key=key.encode(), revision=revision)
        reply = await self._range(request, timeout_s)
        return _key_value(reply.kvs[0]) if reply.kvs else None

    async def read_prefix(
        self, prefix: str, *, timeout_s: float, keys_only: bool = False, session: bool = False
    ) -> PrefixRead:
        if session:
            unsupported(self, "a session")
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])
        request = rpc.RangeRequest(key=start, range_end=end, keys_only=keys_only)
        reply = await self._range(request, timeout_s)
        return PrefixRead(reply.header.revision, list(map(_key_value, reply.kvs)))

    async def read_many(
        self, keys: Sequence[str], *, timeout_s: float
    ) -> dict[str, KeyValue | None]:
        request = rpc.TxnRequest(success=[_get(key) for key in keys])
        reply = await self._call(lambda stub: stub.Txn(request, timeout=timeout_s), changes=False)
        found = [each.response_range.kvs for each in reply.responses]
        return {
            key: _key_value(kvs[0]) if kvs else None for key, kvs in zip(keys, found, strict=True)
        }

    async def write_many(
        self,
        values: Mapping[str, str],
        *,
        timeout_s: float,
        unchanged: Mapping[str, KeyValue | None] | None = None,
    ) -> int:
        revisions = {key: kv.mod_revision if kv else 0 for key, kv in (unchanged or {}).items()}
        return await self.commit(values, revisions, timeout_s)

    async def commit(
        self, values: Mapping[str, str], mod_revisions: Mapping[str, int], timeout_s: float
    ) -> int:
        """Write all values if each of these keys still has this `mod_revision` (0: is absent)."""
        request = rpc.TxnRequest(
            compare=[
                rpc.Compare(
                    result=rpc.Compare.EQUAL,
                    target=rpc.Compare.MOD,
                    key=key.encode(),
                    mod_revision=revision,
                )
                for key, revision in mod_revisions.items()
            ],
            success=[_put(key, value) for key, value in values.items()],
        )
        reply = await self._call(lambda stub: stub.Txn(request, timeout=timeout_s), changes=True)
        if not reply.succeeded:
            raise Conflict("a key has changed since it was read")
        revision: int = reply.header.revision
        return revision

    async def compare_and_swap(
        self, key: str, expected: str | None, new: str, *, timeout_s: float
    ) -> Swap:
        condition = rpc.Compare(result=rpc.Compare.EQUAL, key=key.encode())
        if expected is None:
            condition.target, condition.version = rpc.Compare.VERSION, 0
        else:
            condition.target, condition.value = rpc.Compare.VALUE, expected.encode()
        request = rpc.TxnRequest(
            compare=[condition], success=[_put(key, new), _get(key)], failure=[_get(key)]
        )
        reply = await self._call(lambda stub: stub.Txn(request, timeout=timeout_s), changes=True)
        found = reply.responses[-1].response_range.kvs
        return Swap(reply.succeeded, _key_value(found[0]) if found else None)

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, timeout_s: float) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        backoff_s = BACKOFF_S_MIN
        while True:
            transaction = EtcdTransaction(self, deadline)
            try:
                result = await body(transaction)
                await transaction.commit()
            except (Conflict, CompactedError):
                pause_s = random.uniform(0.5, 1.0) * backoff_s
                backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
                if loop.time() + pause_s >= deadline:
                    text = "the keys that it has read changed in every attempt"
                    raise OperationError(text, reason="TRANSACTION_CONFLICT") from None
                await asyncio.sleep(pause_s)
            else:
                return result

    def in_background(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Run it until it is done or the client is closed."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def range(self, request: Any, timeout_s: float) -> Any:
        """A read of etcd's own message."""
        return await self._range(request, timeout_s)

    async def _range(self, request: Any, timeout_s: float) -> Any:
        return await self._call(lambda stub: stub.Range(request, timeout=timeout_s), changes=False)

    async def _call(self, call: Callable[[Any], Awaitable[Any]], *, changes: bool) -> Any:
        return await self.call(lambda connection: call(connection.kvstub), changes=changes)

    async def call(self, call: Callable[[Connection], Awaitable[T]], *, changes: bool) -> T:
        """Send to the present node; if that fails, the next call goes to the next node.

        `changes`: the request may have been applied if no answer arrives. Raises `OperationError`.
        """
        connection = self._connections[self._current]
        try:
            await connection.connect()
            return await call(connection)
        except grpc.aio.AioRpcError as error:
            self._current = (self._current + 1) % len(self._connections)
            raise error_of(error, changes=changes) from error


class EtcdTransaction:
    """A `Transaction`: all reads are of one revision, and the commit compares what was read."""

    def __init__(self, client: EtcdClient, deadline: float) -> None:
        self._client = client
        self._deadline = deadline
        self._revision = 0
        self._seen: dict[str, int] = {}
        self._writes: dict[str, str] = {}

    async def get(self, key: str) -> bytes | None:
        if key in self._writes:
            return self._writes[key].encode()
        request = rpc.RangeRequest(key=key.encode(), revision=self._revision)
        reply = await self._client.range(request, self._left_s())
        self._revision = self._revision or reply.header.revision
        self._seen[key] = reply.kvs[0].mod_revision if reply.kvs else 0
        return bytes(reply.kvs[0].value) if reply.kvs else None

    def put(self, key: str, value: str) -> None:
        self._writes[key] = value

    async def commit(self) -> None:
        """Raises `Conflict`. Without writes nothing is compared: all reads were of one revision."""
        if self._writes:
            await self._client.commit(self._writes, self._seen, self._left_s())

    def _left_s(self) -> float:
        return max(0.001, self._deadline - asyncio.get_running_loop().time())


def _connection(endpoint: str) -> Connection:
    host, _, port = endpoint.rpartition(":")
    return Connection(host=host, port=int(port), options=CHANNEL_OPTIONS)


def error_of(error: grpc.aio.AioRpcError, *, changes: bool) -> OperationError:
    """What etcd's status means; a write that may have arrived may have been applied."""
    details = f"{error.code().name}: {error.details()}"
    if error.code() is grpc.StatusCode.OUT_OF_RANGE:
        return CompactedError(details)
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return OperationError(details, reason="INVALID_REQUEST")
    if NEVER_SENT in (error.details() or ""):
        return OperationError(details, reason="CONNECTION_FAILED")
    if changes:
        return OperationError(details, reason="OUTCOME_UNKNOWN", kind=Kind.INFO)
    return OperationError(details, reason=DEADLINE_EXCEEDED if is_late(error) else "UNAVAILABLE")


def _put(key: str, value: str) -> Any:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key.encode(), value=value.encode()))


def _get(key: str) -> Any:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode()))


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(
        kv.key.decode(),
        kv.value.decode(),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        kv.lease,
    )

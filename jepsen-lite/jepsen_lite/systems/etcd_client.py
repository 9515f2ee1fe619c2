"""etcd through the methods of raftkv's client that workloads use, and with its errors.

The messages of both are of one descent, so they are translated field by field. Nothing is retried:
a write that got no answer has an unknown outcome. Knows etcd's protocol by the aetcd package.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import grpc
from aetcd import Client as Connection
from aetcd import rpc

from jepsen_lite.systems.etcd_locks import EtcdLock, is_late
from raftkv.arguments import to_bytes
from raftkv.backoff import Backoff
from raftkv.client.api.transactions import Attempts, Transaction
from raftkv.client.model.op import Operation
from raftkv.client.model.op import get as op_get
from raftkv.client.model.op import put as op_put
from raftkv.client.model.results import (
    KeyValue,
    PutResult,
    RangeResult,
    SwapResult,
    TransactionResult,
)
from raftkv.client.model.when import Compare, mod_revision, value, version
from raftkv.client.requests import prefix_range
from raftkv.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    InvalidRequest,
    Outcome,
    OutcomeUnknown,
    RaftkvError,
    RevisionCompacted,
    Unavailable,
)

T = TypeVar("T")
BACKOFF_S = (0.01, 0.25)
# gRPC's own words for a request that never left; everything else may have arrived.
NEVER_SENT = "failed to connect to all addresses"
CHANNEL_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
}


class EtcdClient:
    """Asks one node until that fails, then the next one."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._connections = [_connection(endpoint) for endpoint in endpoints]
        self._current = 0

        self._background: set[asyncio.Task[object]] = set()

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for connection in self._connections:
            await connection.close()

    async def put(
        self, key: str | bytes, value: str | bytes = b"", *, timeout: float = 5.0
    ) -> PutResult:
        request = rpc.PutRequest(key=to_bytes(key, "key"), value=to_bytes(value, "value"))
        reply = await self._call(lambda stub: stub.Put(request, timeout=timeout), changes=True)
        return PutResult(reply.header.revision)

    async def get(
        self, key: str | bytes, *, revision: int = 0, timeout: float = 5.0
    ) -> KeyValue | None:
        found = await self.range(key, b"", revision=revision, timeout=timeout)
        return found.kvs[0] if found.kvs else None

    async def range(
        self,
        start: str | bytes,
        end: str | bytes,
        *,
        revision: int = 0,
        keys_only: bool = False,
        timeout: float = 5.0,
    ) -> RangeResult:
        request = rpc.RangeRequest(
            key=to_bytes(start, "start"),
            range_end=to_bytes(end, "end"),
            revision=revision,
            keys_only=keys_only,
        )
        reply = await self._call(lambda stub: stub.Range(request, timeout=timeout), changes=False)
        return _range_result(reply, reply.header.revision)

    async def range_prefix(
        self, prefix: str | bytes, *, keys_only: bool = False, timeout: float = 5.0
    ) -> RangeResult:
        start, end = prefix_range(prefix)
        return await self.range(start, end, keys_only=keys_only, timeout=timeout)

    async def compare_and_swap(
        self,
        key: str | bytes,
        expected: str | bytes | int | None,
        new_value: str | bytes,
        *,
        timeout: float = 5.0,
    ) -> SwapResult:
        if expected is None:
            condition = version(key) == 0
        elif isinstance(expected, int):
            condition = mod_revision(key) == expected
        else:
            condition = value(key) == expected
        success = [op_put(key, new_value), op_get(key)]
        done = await self.txn([condition], success, [op_get(key)], timeout=timeout)
        found = done.responses[-1]
        assert isinstance(found, RangeResult)
        return SwapResult(done.revision, done.succeeded, found.kvs[0] if found.kvs else None)

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        timeout: float = 5.0,
    ) -> TransactionResult:
        request = rpc.TxnRequest(
            compare=[_compare(each) for each in compare],
            success=[_operation(each) for each in success],
            failure=[_operation(each) for each in failure],
        )
        changes = any(each.wire.HasField("put") for each in (*success, *failure))
        reply = await self._call(lambda stub: stub.Txn(request, timeout=timeout), changes=changes)
        revision = reply.header.revision
        responses = tuple(
            _range_result(each.response_range, revision)
            if each.HasField("response_range")
            else PutResult(revision)
            for each in reply.responses
        )
        return TransactionResult(revision, reply.succeeded, responses)

    async def transaction(
        self, function: Callable[[Transaction], Awaitable[T]], *, timeout: float = 5.0
    ) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        backoff = Backoff(random.Random(), *BACKOFF_S)
        attempts = Attempts(_Store(self, deadline), backoff, lambda: deadline - loop.time())
        return await attempts.run(function)

    def lock(self, name: str, *, ttl: float) -> EtcdLock:
        return EtcdLock(self, to_bytes(name, "name"), ttl)

    def in_background(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Go on with it until it is done or the client is closed."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _call(self, call: Callable[[Any], Awaitable[Any]], *, changes: bool) -> Any:
        return await self.call(lambda connection: call(connection.kvstub), changes=changes)

    async def call(self, call: Callable[[Connection], Awaitable[T]], *, changes: bool) -> T:
        """Ask one node; the next call asks the next one if that failed. Raises `RaftkvError`."""
        connection = self._connections[self._current]
        try:
            await connection.connect()
            return await call(connection)
        except grpc.aio.AioRpcError as error:
            self._current = (self._current + 1) % len(self._connections)
            raise error_of(error, changes=changes) from error


class _Store:
    """What raftkv's transactions need of a client."""

    def __init__(self, client: EtcdClient, deadline: float) -> None:
        self._client = client
        self._deadline = deadline

    def _left_s(self) -> float:
        return max(0.001, self._deadline - asyncio.get_running_loop().time())

    async def read(self, start: bytes, end: bytes, revision: int) -> RangeResult:
        return await self._client.range(start, end, revision=revision, timeout=self._left_s())

    async def commit(
        self, compare: Sequence[Compare], success: Sequence[Operation]
    ) -> TransactionResult:
        return await self._client.txn(compare, success, timeout=self._left_s())


def _connection(endpoint: str) -> Connection:
    host, _, port = endpoint.rpartition(":")
    return Connection(host=host, port=int(port), options=CHANNEL_OPTIONS)


def error_of(error: grpc.aio.AioRpcError, *, changes: bool) -> RaftkvError:
    """What etcd's answer means; a write that may have arrived may have been done."""
    details = f"{error.code().name}: {error.details()}"
    if error.code() is grpc.StatusCode.OUT_OF_RANGE:
        return RevisionCompacted(details)
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest(details)
    if NEVER_SENT in (error.details() or ""):
        return ConnectionFailed(details)
    if changes:
        return OutcomeUnknown(details)
    found: RaftkvError = DeadlineExceeded(details) if is_late(error) else Unavailable(details)
    assert found.outcome is not Outcome.MAYBE_APPLIED
    return found


def _range_result(reply: Any, revision: int) -> RangeResult:
    kvs = tuple(
        KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
        for kv in reply.kvs
    )
    return RangeResult(revision, kvs, reply.count, reply.more)


_RESULTS = {"EQUAL": rpc.Compare.EQUAL, "NOT_EQUAL": rpc.Compare.NOT_EQUAL}
_TARGETS = {
    "version": rpc.Compare.VERSION,
    "mod_revision": rpc.Compare.MOD,
    "create_revision": rpc.Compare.CREATE,
    "value": rpc.Compare.VALUE,
}


def _compare(compare: Compare) -> Any:
    wire = compare.wire
    results = type(wire).DESCRIPTOR.fields_by_name["result"].enum_type
    assert results is not None
    result = results.values_by_number[wire.result]
    target = wire.WhichOneof("target") or ""
    return rpc.Compare(
        result=_RESULTS[result.name.removeprefix("COMPARE_RESULT_")],
        target=_TARGETS[target],
        key=wire.key,
        range_end=wire.range_end,
        **{target: getattr(wire, target)},
    )


def _operation(operation: Operation) -> Any:
    wire = operation.wire
    if wire.HasField("put"):
        return rpc.RequestOp(request_put=rpc.PutRequest(key=wire.put.key, value=wire.put.value))
    asked = wire.range
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=asked.key, range_end=asked.range_end))

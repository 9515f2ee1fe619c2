"""The adapter of raftkv's commands to the harness's `CommandClient`."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import raftkv
from jepsen_lite.clients.commands import (
    KeyedPut,
    Operation,
    RangeDeletion,
    RangeRead,
    Row,
    Transaction,
)
from jepsen_lite.clients.raftkv_errors import mapped_errors
from raftkv.client.client import Client

_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


class RaftkvCommands:
    """A `CommandClient`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def transact(
        self, transaction: Transaction, *, timeout_s: float
    ) -> tuple[int, list[Any]]:
        with mapped_errors():
            done = await self._client.txn(
                compare=list(map(_compare, transaction["compare"])),
                success=list(map(_operation, transaction["success"])),
                failure=list(map(_operation, transaction["failure"])),
                timeout=timeout_s,
            )
        return done.revision, _answer(done)

    async def read_range(
        self, start: str, end: str, *, timeout_s: float, revision: int = 0, page_keys: int = 0
    ) -> RangeRead:
        first, last = bytes_of(start), bytes_of(end)
        with mapped_errors():
            if not page_keys:
                found = await self._client.range(first, last, revision=revision, timeout=timeout_s)
                return RangeRead(found.revision, _rows(found.kvs))
            scan = self._client.scan(
                first, last, revision=revision, page_keys=page_keys, timeout=timeout_s
            )
            rows = _rows([kv async for kv in scan])
            return RangeRead(scan.revision, rows)

    async def delete_range(
        self, start: str, end: str, *, timeout_s: float, limit: int = 0
    ) -> RangeDeletion:
        with mapped_errors():
            done = await self._client.delete_range(
                bytes_of(start), bytes_of(end), limit=limit, prev_kv=True, timeout=timeout_s
            )
        return RangeDeletion(done.revision, _rows(done.prev_kvs), done.more)

    async def delete_in_pages(
        self, start: str, end: str, *, page_keys: int, timeout_s: float
    ) -> AsyncIterator[tuple[int, int]]:
        with mapped_errors():
            deletion = self._client.delete_range_in_pages(
                bytes_of(start), bytes_of(end), page_keys=page_keys, timeout=timeout_s
            )
            async for page in deletion:
                yield page.revision, page.deleted

    async def put_under_key(
        self, key: str, value: str, *, idempotency_key: str, ttl_s: float, timeout_s: float
    ) -> KeyedPut:
        with mapped_errors():
            done = await self._client.put(
                key,
                value,
                prev_kv=True,
                idempotency_key=idempotency_key,
                idempotency_ttl=ttl_s,
                timeout=timeout_s,
            )
        return KeyedPut(
            done.revision, None if done.prev_kv is None else text_of(done.prev_kv.value)
        )

    async def put_on_lease(self, key: str, value: str, lease: int, *, timeout_s: float) -> int:
        with mapped_errors():
            return (await self._client.put(key, value, lease=lease, timeout=timeout_s)).revision

    async def compact(self, revision: int, *, timeout_s: float) -> int:
        with mapped_errors():
            return await self._client.compact(revision, timeout=timeout_s)

    async def grant(self, lease: int, ttl_s: float, *, timeout_s: float) -> None:
        with mapped_errors():
            await self._client.lease_grant(ttl_s, lease=lease, timeout=timeout_s)

    async def acquire_if_free(self, name: str, ttl_s: float, *, timeout_s: float) -> int:
        with mapped_errors():
            return (await self._client.acquire(name, ttl_s, timeout=timeout_s)).token


def bytes_of(text: str) -> bytes:
    """The bytes of a key or a value."""
    return text.encode(errors="surrogateescape")


def text_of(data: bytes) -> str:
    """The inverse of `bytes_of`."""
    return data.decode(errors="surrogateescape")


def _compare(compare: Operation) -> raftkv.Compare:
    target, relation, key, end, operand = compare
    field = getattr(raftkv.when, target)(bytes_of(key), bytes_of(end))
    condition: raftkv.Compare = _RELATIONS[relation](
        field, bytes_of(operand) if target == "value" else operand
    )
    return condition


def _operation(operation: Operation) -> raftkv.Operation:
    match operation:
        case ["put", key, value]:
            return raftkv.op.put(bytes_of(key), bytes_of(value), prev_kv=True)
        case ["touch", key]:
            return raftkv.op.put(bytes_of(key), ignore_value=True)
        case ["delete", key, end, limit]:
            return raftkv.op.delete_range(bytes_of(key), bytes_of(end), limit=limit, prev_kv=True)
        case ["range", key, end, limit]:
            return raftkv.op.range(bytes_of(key), bytes_of(end), limit=limit)
        case ["count", key, end]:
            return raftkv.op.range(bytes_of(key), bytes_of(end), count_only=True)
        case ["transaction", inner]:
            return raftkv.op.transaction(
                list(map(_compare, inner["compare"])),
                list(map(_operation, inner["success"])),
                list(map(_operation, inner["failure"])),
            )
    raise ValueError(f"no operation: {operation!r}")


def _answer(result: object) -> list[Any]:
    match result:
        case raftkv.TransactionResult():
            return [result.succeeded, [_answer_of_operation(each) for each in result.responses]]
    raise ValueError(f"no answer of a transaction: {result!r}")


def _answer_of_operation(result: object) -> Any:
    match result:
        case raftkv.PutResult():
            return None if result.prev_kv is None else _row(result.prev_kv)
        case raftkv.DeleteResult():
            return [_rows(result.prev_kvs), result.more]
        case raftkv.RangeResult():
            return [_rows(result.kvs), result.count]
    return _answer(result)


def _rows(kvs: Iterable[raftkv.KeyValue]) -> list[Row]:
    return list(map(_row, kvs))


def _row(kv: raftkv.KeyValue) -> Row:
    return [
        text_of(kv.key),
        text_of(kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        kv.lease,
    ]

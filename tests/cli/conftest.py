"""The command run in this process, with a fake client that answers from a dictionary."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from raftkv.cli import client_command, main
from raftkv.client.api.paging import PagedDeletion, Pages, Scan
from raftkv.client.model.results import (
    DeleteResult,
    KeyValue,
    LeaseResult,
    PutResult,
    RangeResult,
    Reading,
    SwapResult,
)
from raftkv.client.requests import prefix_range
from raftkv.errors import TooManyKeys
from raftkv.rpc.v1 import kv_pb2


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        return self.out.decode()


Raftkv = Callable[..., Ran]


@pytest.fixture
def raftkv() -> Raftkv:
    """Run `raftkv` with these arguments; without a terminal, as in a script."""

    def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
        result = CliRunner().invoke(main.app, arguments, input=stdin, env=env)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout_bytes, result.stderr)

    return run


class FakeClient:
    """Keys in a dictionary, one revision per change; raises `error` if there is one."""

    def __init__(self) -> None:
        self.revision = 1
        self.kvs: dict[bytes, KeyValue] = {}
        self.error: Exception | None = None
        self.calls: list[dict[str, Any]] = []
        self.delete_keys_max = 1_000_000

    def _note(self, **arguments: Any) -> None:
        self.calls.append(arguments)
        if self.error is not None:
            raise self.error

    async def put(self, key: bytes, value: bytes, **options: Any) -> PutResult:
        self._note(key=key, value=value, **options)
        self.revision += 1
        previous = self.kvs.get(key)
        version = previous.version + 1 if previous else 1
        created = previous.create_revision if previous else self.revision
        self.kvs[key] = KeyValue(key, value, created, self.revision, version, 0)
        return PutResult(self.revision, previous if options.get("prev_kv") else None)

    async def get(self, key: bytes, **options: Any) -> KeyValue | None:
        self._note(key=key, **options)
        return self.kvs.get(key)

    async def read(self, key: bytes, **options: Any) -> Reading:
        return Reading(self.revision, await self.get(key, **options))

    async def range(self, start: bytes, end: bytes, **options: Any) -> RangeResult:
        self._note(start=start, end=end, **options)
        found = [
            self.kvs[key]
            for key in sorted(self.kvs)
            if start <= key and (end == b"\0" or key < end)
        ]
        return RangeResult(self.revision, tuple(found), len(found), more=False)

    def scan_prefix(self, prefix: bytes) -> Scan:
        return self.scan(*prefix_range(prefix))

    def scan(self, start: bytes, end: bytes, *, page_keys: int = 1_000, **options: Any) -> Scan:
        self._note(start=start, end=end, page_keys=page_keys, **options)

        async def read_page(page: kv_pb2.Range) -> RangeResult:
            rest = await self.range(page.key, end)
            limit = page.limit or page_keys
            kvs, left = rest.kvs[:limit], rest.kvs[limit:]
            next_key = left[0].key if left else b""
            return RangeResult(self.revision, kvs, len(kvs), bool(left), next_key)

        return Scan(Pages(read_page, kv_pb2.Range(key=start, range_end=end), page_keys))

    async def delete_range(self, start: bytes, end: bytes, **options: Any) -> DeleteResult:
        self._note(start=start, end=end, **options)
        limit = options.get("limit", 0)
        found = [kv.key for kv in (await self.range(start, end)).kvs]
        if not limit and len(found) > self.delete_keys_max:
            raise TooManyKeys("too many", keys_max=self.delete_keys_max)
        gone = found[: limit or None]
        for key in gone:
            del self.kvs[key]
        self.revision += bool(gone)
        return DeleteResult(self.revision, len(gone), more=len(gone) < len(found))

    async def delete_prefix(self, prefix: bytes, **options: Any) -> DeleteResult:
        return await self.delete_range(*prefix_range(prefix), **options)

    def delete_range_in_pages(self, start: bytes, end: bytes) -> PagedDeletion:
        async def delete_page() -> DeleteResult:
            await self.before_page()
            return await self.delete_range(start, end, limit=self.delete_keys_max)

        return PagedDeletion(delete_page)

    def delete_prefix_in_pages(self, prefix: bytes) -> PagedDeletion:
        return self.delete_range_in_pages(*prefix_range(prefix))

    async def before_page(self) -> None:
        """Nothing, unless a test has something to say."""

    async def delete(self, key: bytes, **options: Any) -> DeleteResult:
        self._note(key=key, **options)
        return DeleteResult(self.revision, int(self.kvs.pop(key, None) is not None))

    async def lease_grant(self, ttl: float) -> LeaseResult:
        self._note(ttl=ttl)
        return LeaseResult(self.revision, 7, ttl)

    async def lease_renew(self, lease: int) -> LeaseResult:
        self._note(lease=lease)
        return LeaseResult(self.revision, lease, 10.0)

    async def compare_and_swap(
        self, key: bytes, expected: bytes | int | None, new_value: bytes, **options: Any
    ) -> SwapResult:
        self._note(key=key, expected=expected, new_value=new_value, **options)
        current = self.kvs.get(key)
        found = current.mod_revision if current and isinstance(expected, int) else None
        if (found or (current.value if current else None)) != expected:
            return SwapResult(self.revision, swapped=False, current=current)
        await self.put(key, new_value)
        return SwapResult(self.revision, swapped=True, current=self.kvs[key])


def talk_to(fake: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of this test gets `fake` instead of a client of a cluster."""

    def run(_: object, work: Callable[[Any], Awaitable[Any]]) -> Any:
        async def done() -> Any:
            return await work(fake)

        return asyncio.run(done())

    monkeypatch.setattr(client_command, "run", run)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """What every command of this test talks to instead of a cluster."""
    fake = FakeClient()
    talk_to(fake, monkeypatch)
    return fake

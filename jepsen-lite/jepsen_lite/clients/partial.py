"""The base of a client that implements only the calls that its workloads use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NoReturn, TypeVar

from jepsen_lite.clients.commands import CommandClient
from jepsen_lite.clients.protocol import (
    UNSUPPORTED,
    WATCHED_KINDS,
    CompactedError,
    DeletedPage,
    Election,
    Fence,
    KeyValue,
    LeaseClient,
    Lock,
    LockClient,
    OperationError,
    PrefixRead,
    Swap,
    Transaction,
    UserClient,
    Watch,
)

T = TypeVar("T")


class PartialClient:
    """A `KvClient` without any call. A subclass overrides those that its store has.

    Every other call fails with the reason `UNSUPPORTED`, so that a run of a workload that needs it
    is vacuous. A store that keeps no past versions calls `no_history`.
    """

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def leases(self) -> LeaseClient:
        unsupported(self, "leases")

    @property
    def locks(self) -> LockClient:
        unsupported(self, "locks")

    async def put(
        self, key: str, value: str = "", *, timeout_s: float, fence: Fence | None = None
    ) -> int:
        unsupported(self, "put")

    async def get(
        self, key: str, *, timeout_s: float, revision: int = 0, staleness_s_max: float = 0.0
    ) -> KeyValue | None:
        unsupported(self, "get")

    async def read_prefix(
        self, prefix: str, *, timeout_s: float, keys_only: bool = False, session: bool = False
    ) -> PrefixRead:
        unsupported(self, "read_prefix")

    def scan_prefix(
        self, prefix: str, *, page_keys: int, timeout_s: float
    ) -> AsyncIterator[KeyValue]:
        unsupported(self, "scan_prefix")

    async def read_many(
        self, keys: Sequence[str], *, timeout_s: float
    ) -> dict[str, KeyValue | None]:
        unsupported(self, "read_many")

    async def write_many(
        self,
        values: Mapping[str, str],
        *,
        timeout_s: float,
        unchanged: Mapping[str, KeyValue | None] | None = None,
    ) -> int:
        unsupported(self, "write_many")

    async def compare_and_swap(
        self, key: str, expected: str | None, new: str, *, timeout_s: float
    ) -> Swap:
        unsupported(self, "compare_and_swap")

    async def delete(
        self, key: str, *, timeout_s: float, fence: Fence | None = None
    ) -> tuple[int, bool]:
        unsupported(self, "delete")

    async def delete_first(self, prefix: str, limit: int, *, timeout_s: float) -> DeletedPage:
        unsupported(self, "delete_first")

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, timeout_s: float) -> T:
        unsupported(self, "transact")

    def watch(
        self,
        prefix: str,
        from_revision: int,
        *,
        kinds: Sequence[str] = WATCHED_KINDS,
        progress: bool = False,
    ) -> Watch:
        unsupported(self, "watch")

    @property
    def commands(self) -> CommandClient:
        unsupported(self, "commands")

    @property
    def users(self) -> UserClient:
        unsupported(self, "users")


class PartialLocks:
    """A `LockClient` that has locks and nothing else."""

    def __init__(self, make: Callable[[str, float], Lock]) -> None:
        self._make = make

    def lock(self, name: str, ttl_s: float) -> Lock:
        return self._make(name, ttl_s)

    def election(self, name: str, ttl_s: float) -> Election:
        unsupported(self, "elections")

    async def holder(self, name: str, *, timeout_s: float) -> tuple[int, int] | None:
        unsupported(self, "holder")

    async def waiters(self, name: str, *, timeout_s: float) -> list[int]:
        unsupported(self, "waiters")


def no_history(revision: int) -> None:
    """To be called by `get` of a store that keeps only the last version of each key."""
    if revision:
        raise CompactedError("the store keeps no past versions")


def unsupported(adapter: object, call: str) -> NoReturn:
    """Fail a call, or an argument of one, that the store does not have."""
    text = f"{type(adapter).__name__} does not have {call}"
    raise OperationError(text, reason=UNSUPPORTED)

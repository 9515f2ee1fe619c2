"""Commands with all their options, as workloads send them and write them to the history.

Requests and answers are lists that can be written as JSON, so that a checker can carry out a
request on a model and compare the answer with what the store has returned. A key or a value that is
no UTF-8 has a lone surrogate for each such byte (`errors="surrogateescape"`).

- A compare: [target, relation, key, end, operand]. Target: "version", "create_revision",
  "mod_revision", "lease" or "value"; relation: "=", "!=", "<" or ">"; `end` "": that key alone.
- An operation: ["put", key, value]; ["touch", key], a put of the value that the key has;
  ["delete", key, end, limit]; ["range", key, end, limit]; ["count", key, end], a range without its
  rows; ["transaction", transaction].
- A transaction: {"compare": compares, "success": operations, "failure": operations}.
- A row: [key, value, create_revision, mod_revision, version, lease].
- The answer to a transaction: [succeeded, answers]. To a put: the row that it replaced, or None. To
  a delete: [rows, more]. To a range: [rows, count].
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Row: TypeAlias = list[Any]
Operation: TypeAlias = Sequence[Any]
Transaction: TypeAlias = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class RangeRead:
    """The rows of a range as they were at `revision`."""

    revision: int
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class RangeDeletion:
    """The rows that were deleted at `revision`; `more`: the limit has left some."""

    revision: int
    rows: list[Row]
    more: bool


@dataclass(frozen=True, slots=True)
class KeyedPut:
    """A put under an idempotency key: its revision, and the value that it replaced."""

    revision: int
    previous: str | None


class CommandClient(Protocol):
    """Commands with their options. Every method raises `OperationError`."""

    async def transact(
        self, transaction: Transaction, *, timeout_s: float
    ) -> tuple[int, list[Any]]:
        """Returns the revision and the answer."""

    async def read_range(
        self, start: str, end: str, *, timeout_s: float, revision: int = 0, page_keys: int = 0
    ) -> RangeRead:
        """The keys from `start` to before `end`; with `page_keys`, read page by page."""

    async def delete_range(
        self, start: str, end: str, *, timeout_s: float, limit: int = 0
    ) -> RangeDeletion:
        """Delete the first `limit` keys of a range (0: all) in one revision."""

    def delete_in_pages(
        self, start: str, end: str, *, page_keys: int, timeout_s: float
    ) -> AsyncIterator[tuple[int, int]]:
        """Delete a range over several revisions: of each page the revision and how many keys."""

    async def put_under_key(
        self, key: str, value: str, *, idempotency_key: str, ttl_s: float, timeout_s: float
    ) -> KeyedPut:
        """A put that is applied once within `ttl_s`, however often it is sent."""

    async def put_on_lease(self, key: str, value: str, lease: int, *, timeout_s: float) -> int:
        """A put whose key is attached to the lease; 0: to none. Returns the revision."""

    async def compact(self, revision: int, *, timeout_s: float) -> int:
        """Forget the history before `revision`; returns the present revision."""

    async def grant(self, lease: int, ttl_s: float, *, timeout_s: float) -> None:
        """Grant the lease of this id, which the caller has chosen."""

    async def acquire_if_free(self, name: str, ttl_s: float, *, timeout_s: float) -> int:
        """Take the lock without waiting; returns the token. Raises with reason
        `LOCK_NOT_ACQUIRED`.
        """

"""The client of a key-value store as workloads see it, whatever the database behind it.

Adapters implement these protocols: `raftkv_client.py`, `etcd_client.py`. An adapter that has only
some of the calls derives from `partial.PartialClient`. As in Jepsen, the adapter
decides what an error means: it maps each one to an `OperationError`, whose `kind` says whether the
operation certainly was not applied (FAIL) or may have been applied (INFO).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from jepsen_lite.clients.commands import CommandClient
from jepsen_lite.history import Kind

T = TypeVar("T")

NOT_DONE = "NOT_DONE"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
LOCK_NOT_ACQUIRED = "LOCK_NOT_ACQUIRED"
NOT_ELECTED = "NOT_ELECTED"
REVISION_COMPACTED = "REVISION_COMPACTED"
UNSUPPORTED = "UNSUPPORTED"

WATCHED_KINDS = ("put", "delete")

Fence: TypeAlias = tuple[str, int]
"""A lock's name and the fencing token under which a write is made."""


class OperationError(Exception):
    """An operation that did not succeed. `reason` is stable and goes into the history.

    `refused`: the store has answered, and its present state forbids the operation.
    """

    def __init__(
        self, message: str, *, reason: str, kind: Kind = Kind.FAIL, refused: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.kind = kind
        self.refused = refused


class CompactedError(OperationError):
    """The history that was asked for is compacted; `oldest_revision` is the oldest one left."""

    def __init__(self, message: str, oldest_revision: int = 0) -> None:
        super().__init__(message, reason=REVISION_COMPACTED)
        self.oldest_revision = oldest_revision


class NotDone(OperationError):
    """The workload itself has decided that the operation is not carried out."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason=NOT_DONE)


class Conflict(NotDone):
    """A key has changed since it was read, so nothing was written."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value. `version` counts its puts since `create_revision`.

    `mod_revision` grows with each write of the key. A store without the other numbers leaves them
    out; the workloads that need them can't be run on it.
    """

    key: str
    value: str
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


@dataclass(frozen=True, slots=True)
class PrefixRead:
    """All keys with a prefix as they were at `revision`."""

    revision: int
    kvs: Sequence[KeyValue]


@dataclass(frozen=True, slots=True)
class DeletedPage:
    """The keys that one deletion has removed; `more`: it has left some with the prefix."""

    kvs: Sequence[KeyValue]
    more: bool


@dataclass(frozen=True, slots=True)
class Swap:
    """Whether the value was swapped, and the key afterwards: None if it is absent."""

    swapped: bool
    current: KeyValue | None


@dataclass(frozen=True, slots=True)
class Change:
    """A watch event: `value` None is a deletion, `previous` the value before."""

    revision: int
    key: str
    value: str | None
    previous: str | None
    created: bool


class Transaction(Protocol):
    """One attempt of `KvClient.transact`: reads of one revision, writes at the commit."""

    async def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: str) -> None: ...


class Watch(Protocol):
    """A watch of a prefix. All changes up to `revision` were delivered."""

    @property
    def revision(self) -> int: ...

    def batches(self) -> AsyncIterator[Sequence[Change]]:
        """The changes, in order. Raises `CompactedError`."""

    async def close(self) -> None: ...


class LockHold(Protocol):
    """A lock or a leadership while it is held."""

    @property
    def token(self) -> int: ...

    def remaining_s(self) -> float:
        """The seconds for which it is certainly held without another renewal; 0 if it is not."""

    def on_lost(self, callback: Callable[[], None]) -> None:
        """`callback` is called at once if the hold is lost."""

    async def release(self) -> bool:
        """Returns False if it had been lost before."""


class Lock(LockHold, Protocol):
    """A named lock; it can be acquired again after it was released or lost."""

    name: str

    async def acquire(self, timeout_s: float | None = None) -> None:
        """`timeout_s` None: wait as long as it takes. Raises with reason `LOCK_NOT_ACQUIRED`."""


@dataclass(frozen=True, slots=True)
class Leader:
    """A leader as an observer sees it."""

    token: int
    value: str


class Election(Protocol):
    """A named election."""

    async def campaign(self, value: str, timeout_s: float | None = None) -> LockHold:
        """Wait until elected. Raises with reason `NOT_ELECTED`."""

    def observe(self) -> AsyncGenerator[Leader | None, None]:
        """The present leader, and from then on each new one; None: there is none."""


class LeaseClient(Protocol):
    """Leases by their ids."""

    async def grant(self, ttl_s: float, *, timeout_s: float) -> int: ...

    async def renew(self, lease: int, *, timeout_s: float) -> None: ...

    async def revoke(self, lease: int, *, timeout_s: float, fence: Fence | None = None) -> None: ...

    async def is_alive(self, lease: int, *, timeout_s: float) -> bool: ...


class LockClient(Protocol):
    """Locks and elections by their names."""

    def lock(self, name: str, ttl_s: float) -> Lock: ...

    def election(self, name: str, ttl_s: float) -> Election: ...

    async def holder(self, name: str, *, timeout_s: float) -> tuple[int, int] | None:
        """The token and the lease of the holder; None if the lock is free."""

    async def waiters(self, name: str, *, timeout_s: float) -> list[int]:
        """The tokens of those that wait for the lock, the next one first."""


class UserClient(Protocol):
    """Users and roles, and whether authentication is enabled."""

    async def enable(self, *, timeout_s: float) -> None: ...

    async def disable(self, *, timeout_s: float) -> None: ...

    async def add_user(self, name: str, password: str, *, timeout_s: float) -> None: ...

    async def grant_role(self, user: str, role: str, *, timeout_s: float) -> None: ...

    async def add_role(self, role: str, *, timeout_s: float) -> None: ...

    async def delete_role(self, role: str, *, timeout_s: float) -> None:
        """It is taken from all users."""

    async def grant_access(
        self, role: str, access: str, start: str, end: str, *, timeout_s: float
    ) -> None:
        """Access "read", "write" or "readwrite" to the keys from `start` to before `end`; "": to
        all from `start` on.
        """

    async def grant_admin_right(self, role: str, right: str, *, timeout_s: float) -> None: ...


class KvClient(Protocol):
    """Keys and values. Every method raises `OperationError`; every `timeout_s` is in seconds."""

    @property
    def leases(self) -> LeaseClient: ...

    @property
    def locks(self) -> LockClient: ...

    @property
    def commands(self) -> CommandClient: ...

    @property
    def users(self) -> UserClient: ...

    async def put(
        self, key: str, value: str = "", *, timeout_s: float, fence: Fence | None = None
    ) -> int:
        """Returns the revision of the write."""

    async def get(
        self, key: str, *, timeout_s: float, revision: int = 0, staleness_s_max: float = 0.0
    ) -> KeyValue | None:
        """The key now, or as of a past `revision`.

        `staleness_s_max` 0: the read is linearizable; infinite: any node answers from its state.
        """

    async def read_prefix(
        self, prefix: str, *, timeout_s: float, keys_only: bool = False, session: bool = False
    ) -> PrefixRead:
        """`session`: a read at session level instead of a linearizable one."""

    def scan_prefix(
        self, prefix: str, *, page_keys: int, timeout_s: float
    ) -> AsyncIterator[KeyValue]:
        """The keys with the prefix at one revision, without values, read page by page."""

    async def read_many(
        self, keys: Sequence[str], *, timeout_s: float
    ) -> dict[str, KeyValue | None]:
        """The keys as they are at one revision."""

    async def write_many(
        self,
        values: Mapping[str, str],
        *,
        timeout_s: float,
        unchanged: Mapping[str, KeyValue | None] | None = None,
    ) -> int:
        """Write all values at one revision and return it.

        Raises `Conflict` and writes nothing if a key of `unchanged` is not as it was read.
        """

    async def compare_and_swap(
        self, key: str, expected: str | None, new: str, *, timeout_s: float
    ) -> Swap:
        """`expected` None: the key is absent."""

    async def delete(
        self, key: str, *, timeout_s: float, fence: Fence | None = None
    ) -> tuple[int, bool]:
        """Returns the revision, and whether the key was there."""

    async def delete_first(self, prefix: str, limit: int, *, timeout_s: float) -> DeletedPage:
        """Delete the first `limit` keys with the prefix."""

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, timeout_s: float) -> T:
        """Run `body` as one transaction; it is called again if a key that it has read changes."""

    def watch(
        self,
        prefix: str,
        from_revision: int,
        *,
        kinds: Sequence[str] = WATCHED_KINDS,
        progress: bool = False,
    ) -> Watch:
        """A watch of changes of these kinds that resumes by itself over failures of nodes.

        `progress`: with empty batches, now and then, where its revision has advanced without one.
        """

    async def close(self) -> None: ...

"""The port to the store of the state: ordered rows of bytes in column families."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

from raftkv.kv.pace import Steps


class Family(enum.StrEnum):
    """The column families of `state/`."""

    CURRENT = "current"  # key -> record of its living version
    HISTORY = "history"  # key + revision that superseded it -> record of the old version
    CHANGES = "changes"  # revision + position -> kind and key
    LEASES = "leases"  # lease -> lifetime and deadline
    LEASE_KEYS = "lease_keys"  # lease + key -> nothing
    SESSIONS = "sessions"  # lease + sequence -> BatchResult
    IDEMPOTENCY = "idempotency"  # caller's key -> deadline, fingerprint, Result
    IDEMPOTENCY_DEADLINES = "idempotency_deadlines"  # deadline + caller's key -> size
    META = "meta"  # applied index and term, revision, cluster time, membership, ...


Changes: TypeAlias = Mapping[Family, Mapping[bytes, bytes | None]]
"""The new value of each changed key in each family; None deletes the key."""

Ranges: TypeAlias = Mapping[Family, Sequence[tuple[bytes, bytes]]]
"""Ranges start <= key < end of each family. The cost of a range does not depend on its keys."""

NOTHING_REMOVED: Final[Ranges] = MappingProxyType({})


class Frozen(Protocol):
    """A snapshot of the living and the old versions of a store.

    Only one scan at a time is possible: the next read ends the one before. Reads raise the errors
    of the store.
    """

    def get(self, family: Family, key: bytes) -> bytes | None: ...

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]: ...


class StateStore(Protocol):
    """Ordered bytes in families, changed only in atomic batches.

    All calls are synchronous and may raise `StorageError`. A read that meets damaged bytes
    raises `DamagedData`, it never returns them.
    """

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value of `key`, or None."""

    def get_many(self, family: Family, keys: list[bytes]) -> list[bytes | None]:
        """The values of `keys`, in their order, for less than a `get` of each."""

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end, in key order or from the last down (`end` None: no end).

        The scan sees the store as of the call, without later writes.
        """

    def frozen(self) -> Frozen:
        """CURRENT and HISTORY as they are now. Do not keep it: its rows stay on the disk."""

    def size_bytes(self, family: Family) -> int:
        """The size of the family's rows on the disk and in memory, about."""

    def write(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> None:
        """Remove the ranges and then apply the changes, in one atomic write.

        The write is durable after the next sync by the store's owner.
        """

    def write_in_steps(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> Steps[None]:
        """As `write`, in steps; the last one writes. The arguments must not change meanwhile."""

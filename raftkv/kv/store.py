"""The port to what holds the state. Knows column families and bytes, nothing about revisions."""

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
"""What each key of each family becomes; None deletes the key."""

Ranges: TypeAlias = Mapping[Family, Sequence[tuple[bytes, bytes]]]
"""Ranges start <= key < end of each family. One costs the same however many keys are in it."""

NOTHING_REMOVED: Final[Ranges] = MappingProxyType({})


class Frozen(Protocol):
    """The living and the old versions of a store as they were at one moment.

    One scan at a time: the next read ends the one before. A read may raise as one of the store.
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
        """The values of `keys`, in their order: as `get` of each, for less."""

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end, in key order or from the last down (`end` None: no end).

        Sees the store as it was at the call; later writes do not show.
        """

    def frozen(self) -> Frozen:
        """CURRENT and HISTORY as they are now. Not to be kept: it keeps what is on the disk."""

    def write(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> None:
        """Apply everything or nothing: first remove whole ranges, then apply the changes.

        Durable only after the store's owner syncs it.
        """

    def write_in_steps(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> Steps[None]:
        """As `write`, in steps, of which the last one writes. The arguments must not change."""

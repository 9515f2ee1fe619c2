"""The scalars of the state machine: one row, which every applied run rewrites."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from raftkv.kv.overlay import StateReader
from raftkv.kv.store import Family

META_KEY: Final = b"meta"
META_0_KEY: Final = b"state"
"""Where raftkv 0.1.0 kept the row, without the log's hash and the cluster version."""
MEMBERSHIP_KEY: Final = b"membership"

_META: Final = struct.Struct("<QQqqqqQI")
_META_0: Final = struct.Struct("<QQqqqq")


@dataclass(slots=True)
class Meta:
    """The scalars of the state. An empty store is at revision 1."""

    applied_index: int = 0
    applied_term: int = 0
    revision: int = 1
    compacted_revision: int = 0
    time_ms: int = 0
    leases_granted: int = 0
    """The number of lease ids that the store has chosen itself."""
    applied_hash: int = 0
    """The running hash of the log up to `applied_index`, 0 if it is not known."""
    cluster_version: int = 0
    compaction_cursor: bytes = b""
    """The key in CHANGES from which the compaction continues; empty: no compaction is under way."""

    def copy(self) -> Meta:
        """The same scalars."""
        return Meta(*self._numbers(), self.compaction_cursor)

    def encode(self) -> bytes:
        return _META.pack(*self._numbers()) + self.compaction_cursor

    def _numbers(self) -> tuple[int, int, int, int, int, int, int, int]:
        """All scalars but the cursor, in the order of the row."""
        return (
            self.applied_index,
            self.applied_term,
            self.revision,
            self.compacted_revision,
            self.time_ms,
            self.leases_granted,
            self.applied_hash,
            self.cluster_version,
        )

    @classmethod
    def decode(cls, row: bytes) -> Meta:
        meta = cls(*_META.unpack_from(row))
        meta.compaction_cursor = row[_META.size :]
        return meta

    @classmethod
    def decode_0(cls, row: bytes) -> Meta:
        """The row of raftkv 0.1.0."""
        meta = cls(*_META_0.unpack_from(row))
        meta.compaction_cursor = row[_META_0.size :]
        return meta


def read_meta(view: StateReader) -> Meta:
    """The scalars that a store holds; those of an empty store if it has none."""
    row = view.get(Family.META, META_KEY)
    if row is not None:
        return Meta.decode(row)
    row = view.get(Family.META, META_0_KEY)
    return Meta() if row is None else Meta.decode_0(row)

"""The running hash of what the applied entries did to the state, by which replicas compare
themselves.

It covers each version that an entry wrote with the one that it replaced, and the changed rows of
leases, users and roles, keys of sessions and idempotency keys, and the scalars of the state. It
does not cover results: two protobuf libraries may write them as different bytes. All members begin
it at the entry that raises the cluster version to `COMPARED`. Nothing that an entry does depends on
it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from zlib import crc32

from raftkv.kv.meta import Meta
from raftkv.versions import COMPARED

STATE_HASH_KEY: Final = b"state_hash"
"""Its row in META: the hash, then the marks."""

MARK_ENTRIES: Final = 1_024
"""The index of a mark is a multiple of this."""

MARKS_MAX: Final = 8
"""Marks that a node keeps: two nodes are compared if one lags by fewer marks than this."""

# Our own layout: nothing that a library may encode otherwise one day.
_ENTRY: Final = struct.Struct("<QIQQqqqqI")
_HASH: Final = struct.Struct("<Q")
_MARK: Final = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class StateMark:
    """The running hash of the state after the entry at `index`."""

    index: int
    state_hash: int


class StateHash:
    """The hash after the last applied entry, and the last marks, oldest first."""

    def __init__(self, mark_entries: int = MARK_ENTRIES, row: bytes | None = None) -> None:
        """`row` is that of an earlier process or of another node; None begins with nothing."""
        self._mark_entries = mark_entries
        row = row or _HASH.pack(0)
        (self._hash,) = _HASH.unpack_from(row)
        self._encoded_marks = row[_HASH.size :]
        self.marks = tuple(StateMark(*mark) for mark in _MARK.iter_unpack(self._encoded_marks))

    def encode(self) -> bytes:
        """The row, from which another process continues."""
        return _HASH.pack(self._hash) + self._encoded_marks

    def add(self, meta: Meta, effects: Sequence[bytes]) -> None:
        """Continue with the entry at `meta.applied_index`, which has led to these scalars.

        `effects` are the parts of what it changed, in order.
        """
        if meta.cluster_version < COMPARED:
            return
        # One call for all parts: a call for each costs more than the copy.
        checksum = crc32(b"".join(effects))
        entry = _ENTRY.pack(
            self._hash,
            checksum,
            meta.applied_index,
            meta.applied_term,
            meta.revision,
            meta.compacted_revision,
            meta.time_ms,
            meta.leases_granted,
            meta.cluster_version,
        )
        digest = blake2b(entry + meta.compaction_cursor, digest_size=_HASH.size).digest()
        (self._hash,) = _HASH.unpack(digest)
        if meta.applied_index % self._mark_entries == 0:
            mark = StateMark(meta.applied_index, self._hash)
            self.marks = (*self.marks, mark)[-MARKS_MAX:]
            self._encoded_marks = b"".join(
                _MARK.pack(each.index, each.state_hash) for each in self.marks
            )

"""The running hash of a log: one number that says whether two logs are the same up to an index.

Index and term identify an entry as long as no node loses a vote or an entry (log matching, Raft
figure 3). After disks were lost, copied or replaced by old ones, two different entries can share
index and term. Their hashes differ, also below the commit index, where Raft compares no terms.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

from raftkv.raft.entry import Entry, EntryKind

UNKNOWN = 0
"""The hash of a log that began before its cluster had one. It agrees with every hash."""

# Our own layout: nothing that a library may encode otherwise one day.
_HEADER = struct.Struct(">QQQB")


def next_hash(previous: int, entry: Entry) -> int:
    """The hash of a log that ends with `entry`, after one whose hash is `previous`.

    An unknown hash stays unknown up to the entry that raises the cluster version.
    """
    if previous == UNKNOWN and entry.kind is not EntryKind.VERSION:
        return UNKNOWN
    header = _HEADER.pack(previous, entry.term, entry.index, entry.kind)
    digest = blake2b(header + entry.payload, digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


def agree(one: int, other: int) -> bool:
    """Whether two logs with these hashes may be the same."""
    return one == other or UNKNOWN in (one, other)

"""The running hash of a log: one number that says whether two logs are the same up to an index.

Index and term name an entry as long as nobody lost a vote or an entry (log matching, Raft figure
3). Where disks were lost, old or copied, two entries can have the same name: the hash tells them
apart, also below the commit index, where terms are never looked at again.
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
    """Whether two logs may be the same as far as their hashes say."""
    return one == other or UNKNOWN in (one, other)

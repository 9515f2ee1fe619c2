"""The encoding of the store's rows as keys and values of bytes.

| family | key | value |
|---|---|---|
| CURRENT | key | record of the living version |
| HISTORY | escaped key, revision that superseded the version | record of the old version |
| CHANGES | revision, position in it | kind, key |
| LEASES | lease | ttl, deadline, owner if there is one |
| LEASE_KEYS | lease, key | nothing |
| SESSIONS | lease, sequence | highest acknowledged sequence, size counted, BatchResult |
| IDEMPOTENCY | id of the user if there is one, caller's key | deadline, fingerprint, Result |
| IDEMPOTENCY_DEADLINES | deadline, caller's key | size counted |

Numbers in keys are big-endian, so that rows are in the order of the numbers; numbers in values are
little-endian, which `struct` packs fastest. A deletion leaves no tombstone: a version is visible
at revision R if mod_revision <= R < the revision that superseded it, and a deletion supersedes.
"""

from __future__ import annotations

import struct
from typing import Final

from raftkv.rpc.v1 import kv_pb2

CHANGE_PUT: Final = b"\x00"
CHANGE_DELETE: Final = b"\x01"

CHANGE_BYTES: Final = 13
"""Of a row in CHANGES, beside its key."""

SUPERSEDED_BYTES: Final = CHANGE_BYTES + 10
"""Of rows in CHANGES and HISTORY for one superseded version, beside its record and its key, twice.
"""

VERSION_BYTES: Final = 32
_VERSION: Final = struct.Struct("<qqqq")
_REVISION: Final = struct.Struct(">q")
_CHANGE: Final = struct.Struct(">qI")
_LEASE: Final = struct.Struct("<qq")
_OWNED_LEASE: Final = struct.Struct("<qqq")
_SESSION_KEY: Final = struct.Struct(">qQ")
_ACKNOWLEDGED: Final = struct.Struct("<Q")
_SIZED_SESSION: Final = struct.Struct("<QI")
_SIZED: Final = 1 << 63
"""In the acknowledged sequence of a row in SESSIONS: a size follows."""

_MOD_REVISION: Final = struct.Struct("<q")
_MOD_REVISION_AT: Final = 8

pack_version = _VERSION.pack
"""(create_revision, mod_revision, version, lease) -> the head of a record; the value follows it."""

unpack_version = _VERSION.unpack_from
"""record -> (create_revision, mod_revision, version, lease)"""

change_key = _CHANGE.pack
"""(revision, position) -> key in CHANGES"""

split_change_key = _CHANGE.unpack

lease_key = _REVISION.pack
"""lease -> key in LEASES, and prefix of its keys in LEASE_KEYS"""

session_key = _SESSION_KEY.pack
"""(session, sequence) -> key in SESSIONS"""

split_session_key = _SESSION_KEY.unpack


def pack_lease(ttl_ms: int, deadline_ms: int, owner: int = 0) -> bytes:
    """Value in LEASES. `owner` is the id of the user to whom it was granted, 0 if to none."""
    if owner:
        return _OWNED_LEASE.pack(ttl_ms, deadline_ms, owner)
    return _LEASE.pack(ttl_ms, deadline_ms)


def unpack_lease(row: bytes) -> tuple[int, int, int]:
    """(ttl_ms, deadline_ms, owner)"""
    if len(row) == _LEASE.size:
        return (*_LEASE.unpack(row), 0)
    return _OWNED_LEASE.unpack(row)


def lease_of(record: bytes) -> int:
    """The lease to which the key of this version is attached, 0 if there is none."""
    lease: int = _VERSION.unpack_from(record)[3]
    return lease


def mod_revision(record: bytes) -> int:
    """The revision that wrote this version."""
    revision: int = _MOD_REVISION.unpack_from(record, _MOD_REVISION_AT)[0]
    return revision


def escape(key: bytes) -> bytes:
    """An encoding that keeps the order of keys and is never a prefix of another key's.

    So the rows of one key are adjacent, in the order of the bytes after the escaped key.
    """
    return key.replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def history_key(key: bytes, superseded_at: int) -> bytes:
    """The row in HISTORY of the version of `key` that was superseded at `superseded_at`."""
    return key.replace(b"\x00", b"\x00\xff") + b"\x00\x01" + _REVISION.pack(superseded_at)


def history_end(key: bytes) -> bytes:
    """The end of the rows in HISTORY of `key`."""
    return key.replace(b"\x00", b"\x00\xff") + b"\x00\x02"


def split_history_key(row: bytes) -> tuple[bytes, int]:
    """The key and the revision that superseded the version."""
    return row[:-10].replace(b"\x00\xff", b"\x00"), _REVISION.unpack(row[-8:])[0]


def split_lease(row: bytes) -> int:
    """The lease of a row of LEASES or LEASE_KEYS."""
    lease: int = _REVISION.unpack_from(row)[0]
    return lease


def pack_session(acknowledged: int, size_bytes: int | None, result: bytes) -> bytes:
    """Value in SESSIONS. Cluster versions before BOUNDED write it without a size."""
    if size_bytes is None:
        return _ACKNOWLEDGED.pack(acknowledged) + result
    return _SIZED_SESSION.pack(acknowledged | _SIZED, size_bytes) + result


def unpack_session(row: bytes) -> tuple[int, int, bytes]:
    """(acknowledged, counted size of the result, result)"""
    acknowledged: int = _ACKNOWLEDGED.unpack_from(row)[0]
    if acknowledged < _SIZED:
        return acknowledged, 0, row[_ACKNOWLEDGED.size :]
    _, size_bytes = _SIZED_SESSION.unpack_from(row)
    return acknowledged - _SIZED, size_bytes, row[_SIZED_SESSION.size :]


def fill_key_value(
    message: kv_pb2.KeyValue, key: bytes, record: bytes, *, keys_only: bool = False
) -> None:
    """Write a stored version into a message."""
    create_revision, mod, version, lease = unpack_version(record)
    message.key = key
    if not keys_only:
        message.value = record[VERSION_BYTES:]
    message.create_revision = create_revision
    message.mod_revision = mod
    message.version = version
    if lease:
        message.lease = lease

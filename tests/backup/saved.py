"""Backups of a small state, saved as `raftkv backup save` saves them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import zstandard

from raftkv.backup.file import BackupWriter
from raftkv.kv.meta import MEMBERSHIP_KEY, META_KEY, Meta
from raftkv.kv.records import pack_version
from raftkv.kv.restoration import Row
from raftkv.kv.store import Family
from raftkv.raft.entry import Membership
from raftkv.rpc.v1 import api_pb2
from raftkv.wire.membership import encode_membership

HEADER = api_pb2.BackupHeader(cluster_name="old", revision=9, applied_index=40, cluster_version=3)
STATE: list[Row] = [
    (Family.META, META_KEY, Meta(40, 6, 9, time_ms=5, applied_hash=77, cluster_version=3).encode()),
    (Family.META, MEMBERSHIP_KEY, encode_membership(Membership(voters=frozenset({1})))),
    (Family.CURRENT, b"a", pack_version(2, 3, 2, 0) + b"one"),
    (Family.CURRENT, b"b", pack_version(4, 4, 1, 0) + bytes(300)),
    (Family.CURRENT, b"lock/1", pack_version(5, 5, 1, 12) + b"holder"),
]


def save(
    path: Path,
    rows: Sequence[Row] = STATE,
    key: bytes | None = None,
    *,
    id: bytes = b"0123456789abcdef",
    rows_per_frame: int = 2,
    replace: bool = False,
) -> bytes:
    """The bytes of the file."""
    header = api_pb2.BackupFileHeader(id=id, saved_ms=1_000, backup=HEADER)
    writer = BackupWriter(path, header, key, replace=replace)
    digest, end = hashlib.sha256(), api_pb2.BackupEnd(rows=len(rows))
    try:
        for first in range(0, len(rows), rows_per_frame):
            part = api_pb2.BackupRows()
            for family, row, value in rows[first : first + rows_per_frame]:
                part.rows.add(family=family, key=row, value=value)
            compressed = zstandard.compress(part.SerializeToString())
            writer.rows(compressed)
            digest.update(compressed)
            end.rows_bytes += len(compressed)
        end.rows_sha256 = digest.digest()
        writer.finish(end)
    finally:
        writer.close()
    return path.read_bytes()

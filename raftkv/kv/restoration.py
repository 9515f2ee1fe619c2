"""Which rows of the state a backup has, and what a restore makes of them for a new cluster.

    row in META                      in a backup    after a restore
    scalars (`Meta`)                 yes            revision and counters skip `NUMBERS_SKIPPED`
    membership                       yes            replaced by that of the new cluster
    users, roles, authentication     yes            kept; their revision is raised
    service tokens, signing keys     no             none
    other rows                       yes            kept

CURRENT is in a backup; a restore leaves out the keys that are attached to a lease. The other
families are in no backup: old versions and changes, leases, sessions and idempotency keys end with
a restore. So no lock is held in the new cluster.

All that the old cluster has done since the backup is unknown to the new one. It has given out
revisions, fencing tokens, lease ids and user ids, which must never come to mean something else:
the new cluster begins above all of them. Its first revision counts as compacted, so a watch of the
old cluster that goes on in the new one fails and skips nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from raftkv.errors import InvalidRequest
from raftkv.kv.auth import AUTH_STATE_KEY, is_credential
from raftkv.kv.meta import MEMBERSHIP_KEY, META_0_KEY, META_KEY, Meta
from raftkv.kv.new_cluster import NUMBERS_SKIPPED
from raftkv.kv.overlay import StateReader
from raftkv.kv.records import VERSION_BYTES, lease_of, mod_revision
from raftkv.kv.store import Family
from raftkv.raft.entry import Membership
from raftkv.rpc.v1 import auth_pb2
from raftkv.wire.canonical import auth_row_bytes
from raftkv.wire.membership import decode_membership, encode_membership

Row = tuple[Family, bytes, bytes]
"""Family, key and value."""


def backup_rows(store: StateReader) -> Iterator[Row]:
    """The rows of a backup of the state as of this call, whatever is written later.

    The iterator keeps its rows on the disk as long as it exists. It raises the errors of the store.
    """
    meta = [(key, row) for key, row in store.scan(Family.META, b"", None) if not is_credential(key)]
    return _chained(meta, store.scan(Family.CURRENT, b"", None))


def _chained(
    meta: Iterable[tuple[bytes, bytes]], current: Iterable[tuple[bytes, bytes]]
) -> Iterator[Row]:
    for key, row in meta:
        yield Family.META, key, row
    for key, row in current:
        yield Family.CURRENT, key, row


@dataclass(frozen=True, slots=True)
class NewCluster:
    """The cluster that a restore makes: its incarnation, and its first membership."""

    incarnation: int
    membership: Membership


class Restoration:
    """Makes the rows of the new cluster's state from those of a backup, one after the other."""

    def __init__(self, cluster: NewCluster) -> None:
        self.meta = Meta()
        """The scalars of the new state, once the row was seen."""

        self.keys = 0
        """Keys of the new state so far."""

        self.keys_of_leases = 0
        """Keys that were left out so far, because a lease would have deleted them."""

        self._cluster = cluster
        self._latest_revision = 0
        self._seen: set[bytes] = set()
        self._of_meta: dict[bytes, Callable[[bytes], bytes | None]] = {
            META_KEY: self._scalars,
            META_0_KEY: lambda _: None,
            MEMBERSHIP_KEY: self._membership,
            AUTH_STATE_KEY: _auth_state,
        }

    def row(self, family: Family, key: bytes, value: bytes) -> bytes | None:
        """The value of the row in the new state, None if it has no such row.

        Raises `InvalidRequest` for a row that no backup has.
        """
        if family is Family.CURRENT:
            return self._living(key, value)
        if family is not Family.META or is_credential(key):
            raise InvalidRequest(f"a backup has no row {key!r} in {family}")
        change = self._of_meta.get(key)
        if change is None:
            return value
        self._seen.add(key)
        try:
            return change(value)
        except (DecodeError, struct.error) as error:
            raise InvalidRequest(f"the row {key!r} can't be read: {error}") from error

    def finish(self) -> None:
        """All rows were seen. Raises `InvalidRequest` if they are not a whole state."""
        missing = {META_KEY, MEMBERSHIP_KEY} - self._seen
        if missing:
            raise InvalidRequest(f"the state has no row {sorted(missing)[0]!r}")
        if self._latest_revision > self.meta.revision - NUMBERS_SKIPPED:
            raise InvalidRequest(
                f"a key is of revision {self._latest_revision}, and the state of an earlier one"
            )

    def _living(self, key: bytes, record: bytes) -> bytes | None:
        if len(record) < VERSION_BYTES or not key:
            raise InvalidRequest(f"the record of the key {key!r} is too short")
        self._latest_revision = max(self._latest_revision, mod_revision(record))
        if lease_of(record):
            self.keys_of_leases += 1
            return None
        self.keys += 1
        return record

    def _scalars(self, row: bytes) -> bytes:
        meta = self.meta = Meta.decode(row)
        meta.revision += NUMBERS_SKIPPED
        meta.compacted_revision = meta.revision
        meta.compaction_cursor = b""
        meta.leases_granted += NUMBERS_SKIPPED
        # The new log begins here, as any other with the incarnation.
        meta.applied_hash = self._cluster.incarnation
        return meta.encode()

    def _membership(self, row: bytes) -> bytes:
        decode_membership(row)
        return encode_membership(self._cluster.membership)


def _auth_state(row: bytes) -> bytes:
    state = auth_pb2.AuthState.FromString(row)
    state.revision += NUMBERS_SKIPPED
    return auth_row_bytes(state)

"""Versions of keys: what a put and a delete write. Knows revisions and leases, no messages."""

from __future__ import annotations

from raftkv.kv.changes import Change
from raftkv.kv.lease_sizes import LeaseSizes
from raftkv.kv.limits import ROW_BYTES
from raftkv.kv.overlay import Overlay
from raftkv.kv.queues import QueueHeads
from raftkv.kv.records import (
    CHANGE_DELETE,
    CHANGE_PUT,
    change_key,
    history_key,
    lease_key,
    pack_version,
    unpack_version,
)
from raftkv.kv.store import Family


class Writer:
    """Makes the changes of one revision after another in an overlay.

    Set `revision` and `position` = 0 before the changes of a revision; `position` then counts
    them. The revision exists only if it is not 0 in the end. `made` gathers the changes for
    whoever watches, None if nobody does. `fronts` is kept true of the queues, `lease_sizes` of the
    leases' keys. `ahead_bytes` are those of old versions and changes that are not written yet; a
    row counts for `ROW_BYTES` beside its value.
    """

    __slots__ = (
        "_base_get",
        "_changes",
        "_current",
        "_history",
        "_known",
        "_lease_keys",
        "ahead_bytes",
        "fronts",
        "lease_sizes",
        "made",
        "overlay",
        "position",
        "revision",
    )

    def __init__(self, overlay: Overlay, revision: int, lease_sizes: LeaseSizes) -> None:
        self.overlay = overlay
        self.lease_sizes = lease_sizes
        self.ahead_bytes = 0
        self.revision = revision
        self.position = 0
        self.made: list[Change] | None = None
        self.fronts = QueueHeads()
        self._current = overlay.changes[Family.CURRENT]
        self._history = overlay.changes[Family.HISTORY]
        self._changes = overlay.changes[Family.CHANGES]
        self._lease_keys = overlay.changes[Family.LEASE_KEYS]
        self._known = overlay.known
        self._base_get = overlay.base.get

    @property
    def visible_revision(self) -> int:
        """The store's revision as a reader between two changes sees it."""
        return self.revision if self.position else self.revision - 1

    def get(self, key: bytes) -> bytes | None:
        """The record of the living version."""
        current, known = self._current, self._known
        if key in current:
            return current[key]
        if key in known:
            return known[key]
        return self._base_get(Family.CURRENT, key)

    def put(self, key: bytes, value: bytes, lease: int, old: bytes | None) -> None:
        """Write a new version over `old`, the record that `get` returned for the key."""
        revision = self.revision
        if old is None:
            create_revision, version, old_lease = revision, 1, 0
            self.fronts.created(key, revision)
        else:
            create_revision, old_revision, version, old_lease = unpack_version(old)
            version += 1
            # A version that was replaced in its own revision was never visible. The checks
            # before the log forbid this, but apply must be right for whatever is in the log.
            if old_revision != revision:
                self._history[history_key(key, revision)] = old
                self.ahead_bytes += len(old) + ROW_BYTES
        if lease != old_lease:
            self._move(key, old_lease, lease)
        self._current[key] = record = (
            pack_version(create_revision, revision, version, lease) + value
        )
        self._changes[change_key(revision, self.position)] = CHANGE_PUT + key
        self.position += 1
        self.ahead_bytes += ROW_BYTES
        if self.made is not None:
            self.made.append(Change(revision, key, record, old))

    def delete(self, key: bytes, old: bytes) -> None:
        """End the key's generation. `old` is its living record."""
        revision = self.revision
        create_revision, old_revision, _, old_lease = unpack_version(old)
        if old_revision != revision:
            self._history[history_key(key, revision)] = old
            self.ahead_bytes += len(old) + ROW_BYTES
        if old_lease:
            self._move(key, old_lease, 0)
        self._current[key] = None
        self.fronts.deleted(key, create_revision)
        self._changes[change_key(revision, self.position)] = CHANGE_DELETE + key
        self.position += 1
        self.ahead_bytes += ROW_BYTES
        if self.made is not None:
            self.made.append(Change(revision, key, None, old))

    def _move(self, key: bytes, old_lease: int, lease: int) -> None:
        if old_lease:
            self._lease_keys[lease_key(old_lease) + key] = None
            self.lease_sizes.changed(old_lease, -1)
        if lease:
            self._lease_keys[lease_key(lease) + key] = b""
            self.lease_sizes.changed(lease, 1)

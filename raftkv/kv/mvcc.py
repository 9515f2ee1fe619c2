"""The versions of keys that a put and a deletion write (multi-version concurrency control)."""

from __future__ import annotations

from typing import Protocol

from raftkv.kv.changes import Change
from raftkv.kv.limits import EARLY_BYTES_MAX, ROW_BYTES
from raftkv.kv.overlay import Overlay
from raftkv.kv.records import (
    CHANGE_BYTES,
    CHANGE_DELETE,
    CHANGE_PUT,
    SUPERSEDED_BYTES,
    change_key,
    history_key,
    lease_key,
    pack_version,
    unpack_version,
)
from raftkv.kv.store import Changes, Family


class KeyObserver(Protocol):
    """The port through which a writer reports keys that are created and deleted."""

    def created(self, key: bytes, revision: int) -> None: ...
    def deleted(self, key: bytes, create_revision: int) -> None: ...


class AttachmentObserver(Protocol):
    """The port through which a writer reports how the number of a lease's keys changes."""

    def changed(self, lease: int, by: int) -> None: ...


class Writer:
    """Makes the changes of one revision after another in an overlay.

    Call `begin` before the changes of a revision; `position` counts them. The revision exists only
    if it has a change in the end.

    Old versions and changes are early rows: no reader sees them before the revision is applied, so
    they may be written to the store before the rest of a run. `early_bytes` is their size; a row
    counts for `ROW_BYTES` beside its value. `history_bytes` is the size of all rows that were ever
    made in HISTORY and CHANGES; it decides nothing at apply.
    """

    __slots__ = (
        "_attachments",
        "_base_get",
        "_changes",
        "_current",
        "_effects",
        "_history",
        "_keys",
        "_known",
        "_lease_keys",
        "_recorded",
        "early_bytes",
        "history_bytes",
        "overlay",
        "position",
        "revision",
    )

    def __init__(
        self, overlay: Overlay, revision: int, keys: KeyObserver, attachments: AttachmentObserver
    ) -> None:
        self.overlay = overlay
        self.early_bytes = 0
        self.history_bytes = 0
        self.revision = revision
        self.position = 0
        self._keys = keys
        self._attachments = attachments
        self._recorded: list[Change] | None = None
        self._current = overlay.changes[Family.CURRENT]
        self._history = overlay.changes[Family.HISTORY]
        self._changes = overlay.changes[Family.CHANGES]
        self._lease_keys = overlay.changes[Family.LEASE_KEYS]
        self._known = overlay.known
        self._effects = overlay.effects
        self._base_get = overlay.base.get

    def begin(self, revision: int) -> None:
        """The changes that follow are those of `revision`."""
        self.revision = revision
        self.position = 0

    @property
    def visible_revision(self) -> int:
        """The store's revision as a read between two changes sees it."""
        return self.revision if self.position else self.revision - 1

    def get(self, key: bytes) -> bytes | None:
        """The record of the living version: `overlay.get(Family.CURRENT, key)`.

        Written out, because a plain put takes a tenth longer to apply with that call.
        """
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
            self.history_bytes += len(key) + CHANGE_BYTES
            self._keys.created(key, revision)
        else:
            create_revision, old_revision, version, old_lease = unpack_version(old)
            version += 1
            # A version that was replaced in its own revision was never visible. The checks
            # before the log forbid this, but apply must be right for whatever is in the log.
            if old_revision != revision:
                self._history[history_key(key, revision)] = old
                self.early_bytes += len(old) + ROW_BYTES
                self.history_bytes += len(old) + 2 * len(key) + SUPERSEDED_BYTES
        if lease != old_lease:
            self._move(key, old_lease, lease)
        self._current[key] = record = (
            pack_version(create_revision, revision, version, lease) + value
        )
        self._changes[change_key(revision, self.position)] = change = CHANGE_PUT + key
        self._effects += (change, record, old or b"")
        self.position += 1
        self.early_bytes += ROW_BYTES
        if self._recorded is not None:
            self._recorded.append(Change(revision, key, record, old))

    def delete(self, key: bytes, old: bytes) -> None:
        """End the key's generation. `old` is its living record."""
        revision = self.revision
        create_revision, old_revision, _, old_lease = unpack_version(old)
        if old_revision != revision:
            self._history[history_key(key, revision)] = old
            self.early_bytes += len(old) + ROW_BYTES
            self.history_bytes += len(old) + 2 * len(key) + SUPERSEDED_BYTES
        if old_lease:
            self._move(key, old_lease, 0)
        self._current[key] = None
        self._keys.deleted(key, create_revision)
        self._changes[change_key(revision, self.position)] = change = CHANGE_DELETE + key
        self._effects += (change, old)
        self.position += 1
        self.early_bytes += ROW_BYTES
        if self._recorded is not None:
            self._recorded.append(Change(revision, key, None, old))

    def _move(self, key: bytes, old_lease: int, lease: int) -> None:
        if old_lease:
            self._lease_keys[lease_key(old_lease) + key] = None
            self._attachments.changed(old_lease, -1)
        if lease:
            self._lease_keys[lease_key(lease) + key] = b""
            self._attachments.changed(lease, 1)

    # ---- recorded changes ------------------------------------------------------------

    def record_changes(self, record: bool) -> None:
        """From the next run on keep the changes for `take_changes`, or no longer."""
        self._recorded = [] if record else None

    def take_changes(self) -> list[Change] | None:
        """The changes since the last call, in order; None if they are not recorded."""
        recorded = self._recorded
        if recorded:
            self._recorded = []
        return recorded

    # ---- early rows ------------------------------------------------------------------

    def take_early_rows(self) -> Changes | None:
        """Take out some early rows, of about `EARLY_BYTES_MAX`; None if there are fewer bytes.

        The caller writes them to the overlay's base at once.
        """
        if self.early_bytes < EARLY_BYTES_MAX:
            return None
        rows: dict[Family, dict[bytes, bytes]] = {}
        size_bytes = 0
        for family in (Family.HISTORY, Family.CHANGES):
            rows[family], size = self.overlay.take(family, EARLY_BYTES_MAX - size_bytes)
            size_bytes += size
        self.early_bytes = self.early_bytes - size_bytes if size_bytes else 0
        return rows

    # ---- transactions ----------------------------------------------------------------

    def branch(
        self, overlay: Overlay, keys: KeyObserver, attachments: AttachmentObserver
    ) -> Writer:
        """A writer of the same revision in an overlay on top of this one's."""
        branch = Writer(overlay, self.revision, keys, attachments)
        if self._recorded is not None:
            branch._recorded = []
        return branch

    def absorb(self, branch: Writer) -> None:
        """Take over the changes of a branch of this writer."""
        self.overlay.absorb(branch.overlay)
        self.early_bytes += branch.early_bytes
        self.history_bytes += branch.history_bytes
        self.position = branch.position
        if self._recorded is not None and branch._recorded:
            self._recorded += branch._recorded

"""Compaction of the history: reads below a revision fail at once, and rows are removed in steps."""

from __future__ import annotations

from itertools import islice

from raftkv.errors import RevisionCompacted, RevisionInFuture
from raftkv.kv.meta import Meta
from raftkv.kv.overlay import Overlay
from raftkv.kv.records import change_key, history_key, split_change_key
from raftkv.kv.store import Family


class Compaction:
    """Removes the versions that no read at or after the compacted revision can see.

    A change at revision r superseded a version that shows only below r, so every change at or
    below the compacted revision names one old version to remove. The changes themselves stay
    from the compacted revision on: a watch may start there.
    """

    def __init__(self, overlay: Overlay, meta: Meta) -> None:
        self._overlay = overlay
        self._meta = meta
        self._history = overlay.changes[Family.HISTORY]

    def start(self, revision: int) -> None:
        """From now on the oldest readable revision is `revision`."""
        meta = self._meta
        if revision <= meta.compacted_revision:
            raise RevisionCompacted(
                f"revision {revision} has already been compacted, up to "
                f"{meta.compacted_revision}; compact at a later one",
                compacted_revision=meta.compacted_revision,
            )
        if revision > meta.revision:
            raise RevisionInFuture(
                f"revision {revision} does not exist yet, the store is at {meta.revision}; "
                "compact at that revision or an older one",
                revision=meta.revision,
            )
        # The last compaction kept the changes of its own revision, which are removed now.
        oldest_left = change_key(meta.compacted_revision, 0)
        meta.compaction_cursor = min(meta.compaction_cursor or oldest_left, oldest_left)
        meta.compacted_revision = revision

    @property
    def under_way(self) -> bool:
        """Whether rows are left to remove."""
        return bool(self._meta.compaction_cursor)

    def step(self, changes_max: int) -> None:
        """Remove old versions of at most `changes_max` changes. Every node removes the same ones,
        because the number is fixed by the entry.
        """
        meta = self._meta
        if not meta.compaction_cursor:
            return
        start, kept = meta.compaction_cursor, change_key(meta.compacted_revision, 0)
        rows = self._overlay.scan(Family.CHANGES, start, change_key(meta.compacted_revision + 1, 0))
        for row, change in islice(rows, changes_max):
            revision, _ = split_change_key(row)
            gone = history_key(change[1:], revision)
            self._history[gone] = None
            self._overlay.effects.append(gone)
        following = next(rows, None)
        meta.compaction_cursor = following[0] if following is not None else b""
        end = min(meta.compaction_cursor or kept, kept)
        if start < end:
            self._overlay.remove(Family.CHANGES, start, end)

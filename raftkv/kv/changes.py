"""Changes of keys by revision, as they are applied or from history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from raftkv.kv.overlay import StateReader
from raftkv.kv.ranges import record_at
from raftkv.kv.records import CHANGE_PUT, change_key, history_key, split_change_key
from raftkv.kv.store import Family


class Change(NamedTuple):
    """One key at one revision.

    `record` is None for a deletion. `old` is None if the key did not exist before, or if its old
    version is compacted.
    """

    revision: int
    key: bytes
    record: bytes | None
    old: bytes | None


class ChangeSubscriber(Protocol):
    """Called right after changes were applied; must be quick and must not raise."""

    def changed(self, changes: Sequence[Change]) -> None:
        """These were applied, in order; no revision is split between two calls."""

    def jumped(self) -> None:
        """The changes since the last call are in history only: a snapshot replaced the state, or
        the subscription began within a run of entries.
        """


def changes_since(view: StateReader, revision: int, before: int | None = None) -> Iterator[Change]:
    """All changes at `revision` and later, below `before` if it is given, in order, as of the call.

    The revision must not be below the compacted one, and no compaction may run meanwhile.
    """
    # A revision writes at most one version of a key, and moves the version before to HISTORY.
    end = None if before is None else change_key(before, 0)
    for row, change in view.scan(Family.CHANGES, change_key(revision, 0), end):
        at, _ = split_change_key(row)
        key = change[1:]
        record = record_at(view, key, at) if change[:1] == CHANGE_PUT else None
        yield Change(at, key, record, view.get(Family.HISTORY, history_key(key, at)))

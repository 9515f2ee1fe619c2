"""Planted bugs of the stores that only a power cut exposes; the recorded process has them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from jepsen_lite.mutants.mutant import Patch, patched
from raftkv import files
from raftkv.storage import log_store, state_storage
from raftkv.storage.rocks import RocksDatabase
from raftkv.storage.state_storage import RocksStateStorage


@dataclass(frozen=True, slots=True)
class StorageMutant:
    """A bug of the stores, and the patches that plant it."""

    story: str
    patches: tuple[Patch, ...]

    def planted(self) -> contextlib.AbstractContextManager[None]:
        """While this is entered, the stores have the bug."""
        return patched(self.patches)


def _unsynced(_: object) -> None:
    """In place of a sync."""


def _replace_without_sync(path: Path, content: bytes) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    files.sync_file(path.parent)


async def _sync_nothing(_: RocksStateStorage) -> None:
    """In place of the sync before the log is compacted."""


STORAGE_MUTANTS = {
    "sync-left-out": StorageMutant(
        "an append returns before the write-ahead log is synced",
        ((RocksDatabase, "sync", _unsynced),),
    ),
    "state-not-synced-before-compaction": StorageMutant(
        "the log is compacted up to a state that is not on the disk",
        ((RocksStateStorage, "sync", _sync_nothing),),
    ),
    "directory-not-synced": StorageMutant(
        "the directories of new and renamed files are not synced",
        (
            (files, "sync_file", _unsynced),
            (log_store, "sync_file", _unsynced),
            (state_storage, "sync_file", _unsynced),
        ),
    ),
    "pointer-not-synced": StorageMutant(
        "a file that replaces another is renamed before its bytes are synced",
        ((state_storage, "write_durably", _replace_without_sync),),
    ),
}
"""By name."""

"""The directory of the state: syncs the store, copies it, replaces it.

state/
├── CURRENT          the name of the live directory; a new state is live once this file is replaced
├── state-<n>/       the live RocksDB; any other of this form is a leftover of a crash
├── incoming/        a snapshot being received
├── checkpoints/     hard-linked copies being sent, which are removed at start
└── discarded/       directories that the writer thread removes
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from raftkv.errors import DamagedData, StorageError, check
from raftkv.files import (
    remove_tree,
    size_bytes,
    sync_file,
    sync_tree,
    translated,
    write_durably,
)
from raftkv.storage.damage import damaged
from raftkv.storage.ports import Checkpoint, Require, anything
from raftkv.storage.rocks import OPEN_TABLES_MAX
from raftkv.storage.state_store import RocksStateStore
from raftkv.storage.verification import (
    FileVerification,
    verify,
    verify_closed_database,
    verify_open_database,
)
from raftkv.storage.writer import WriterThread, nothing

_POINTER = "CURRENT"
_LIVE_NAME = re.compile(r"state-([1-9][0-9]*)")


class RocksStateStorage:
    """A `StateStorage` on disk.

    It has a writer thread of its own, so that no flush delays the log.
    """

    def __init__(self, path: Path, *, open_tables_max: int = OPEN_TABLES_MAX) -> None:
        """Open the live state below `path`, or create it. Raises `StorageError`.

        While a snapshot is installed two states are open, and `open_tables_max` holds for each.
        """
        self._path = path
        self._open_tables_max = open_tables_max
        self._pointer = path / _POINTER
        self._incoming = path / "incoming"
        self._checkpoints = path / "checkpoints"
        self._discarded = path / "discarded"
        self._numbers = count(1)
        with translated("opening the state", path):
            path.mkdir(exist_ok=True)
            live = live_directory(path)
            self._remove_leftovers(live)
            self._store = self._open(live or self._path / "state-1", create=live is None)
        self._replaced: RocksStateStore | None = None
        self._verified: Path | None = None
        self._writer = WriterThread("raftkv-state")
        self._verifier = WriterThread("raftkv-state-verification")

    @property
    def store(self) -> RocksStateStore:
        """The open store. `install` replaces it."""
        return self._store

    async def sync(self) -> None:
        """Sync everything that was written so far to the disk."""
        await self._writer.run(self._store.database.sync)

    async def checkpoint(self, index: int, term: int) -> Checkpoint:
        """Copy the current state, which is as of (index, term). Nothing may be written meanwhile.

        The flush is a separate call before, because the checkpoint holds the GIL while it flushes.
        """
        database = self._store.database
        frozen = database.sequence
        path = self._checkpoints / str(next(self._numbers))
        await self._writer.run(database.flush)
        await self._writer.run(lambda: database.checkpoint(path))
        check(database.sequence == frozen, "nothing is applied while the state is being frozen")
        return Checkpoint(path=path, index=index, term=term)

    async def verify(self, checkpoint: Checkpoint) -> None:
        """Verify the copy. Raises `DamagedData`: the damage is in this node's own data."""
        try:
            await self._verify_closed(checkpoint.path)
        except DamagedData as error:
            # The files are links to those of the live state, which an operator can still inspect.
            live = str(self._store.database.path)
            raise DamagedData(error.message.replace(str(checkpoint.path), live)) from error

    async def release(self, checkpoint: Checkpoint) -> None:
        """Delete the copy."""
        with translated("removing a checkpoint", checkpoint.path):
            await self._writer.run(lambda: remove_tree(checkpoint.path))

    def verification(self) -> FileVerification:
        """A verification of the live state. It restarts when `install` replaces the state."""
        return FileVerification(self._verifier, self._verify_live())

    def begin_receive(self) -> Path:
        """An empty directory for the files of an incoming snapshot; deletes an unfinished one."""
        with translated("making room for a snapshot", self._incoming):
            if self._incoming.exists():
                self._discard(self._incoming)
            self._incoming.mkdir()
        self._verified = None
        return self._incoming

    async def verify_received(self, received: Path) -> None:
        """Verify the received files.

        Raises `DamagedData`: the fault is not in this node's own data.
        """
        await self._verify_closed(received)
        self._verified = received

    async def install(self, received: Path, require: Require = anything) -> RocksStateStore:
        """Replace the state by the received directory, see `StateStorage.install`.

        A `StorageError` other than `DamagedData` stops the store, because it is not known which
        state a restart will find.
        """
        if received != self._verified:
            await self.verify_received(received)
        self._verified = None
        await self.retire()
        old = self._store
        directory = self._path / f"state-{_number(old.database.path) + 1}"
        with translated("installing a snapshot", self._path):
            new = await self._writer.run(lambda: self._adopt(received, directory))
            try:
                require(new)
            except DamagedData:
                await self._writer.run(new.database.close)
                self._discard(directory)
                raise
            try:
                await self._writer.run(lambda: write_durably(self._pointer, _line(directory)))
            except OSError as error:
                new.database.close()
                old.database.failed(error, "swapping the state")
                raise
            old.database.end_writes()
            self._store, self._replaced = new, old
        return new

    async def retire(self) -> None:
        """Release the state that the last `install` has replaced. It must not be read any more."""
        old, self._replaced = self._replaced, None
        if old is not None:
            with translated("removing the replaced state", self._path):
                await self._writer.run(old.database.close)
                self._discard(old.database.path)

    def disk_bytes(self) -> int:
        """The size of the live state, about."""
        with translated("measuring the state", self._path):
            return size_bytes(self._store.database.path)

    async def close(self) -> None:
        """Flush and release the disk."""
        await self.retire()
        await self._verifier.close(nothing)
        await self._writer.close(self._store.database.close)

    async def _verify_closed(self, directory: Path) -> None:
        await verify(FileVerification(self._verifier, verify_closed_database(directory)))

    def _verify_live(self) -> Iterator[int]:
        """Runs on the verifier's thread, while `install` may replace the state."""
        store: RocksStateStore | None = None
        while store is not self._store:
            store = self._store
            database = store.database
            for bytes_read in verify_open_database(database.path, database.live_tables):
                yield bytes_read
                if store is not self._store:
                    break

    def _adopt(self, received: Path, directory: Path) -> RocksStateStore:
        """Sync the received directory, give it its final name and open it."""
        remove_tree(directory)
        sync_tree(received)
        received.rename(directory)
        sync_file(self._path)
        try:
            return self._open(directory)
        except StorageError:
            remove_tree(directory)
            raise

    def _open(self, directory: Path, *, create: bool = False) -> RocksStateStore:
        store = RocksStateStore(directory, create=create, open_tables_max=self._open_tables_max)
        if create:
            write_durably(self._pointer, _line(directory))
            sync_file(self._path.parent)
        return store

    def _remove_leftovers(self, live: Path | None) -> None:
        for path in (self._incoming, self._checkpoints, self._discarded):
            remove_tree(path)
        for path in self._path.glob("state-*"):
            if path != live:
                remove_tree(path)
        self._checkpoints.mkdir()
        self._discarded.mkdir()

    def _discard(self, path: Path) -> None:
        """Rename the directory now, and remove its files on the writer thread."""
        doomed = self._discarded / str(next(self._numbers))
        path.rename(doomed)
        self._writer.start(lambda: remove_tree(doomed))


def live_directory(path: Path) -> Path | None:
    """The live state below `path`, which CURRENT names; None if there is no state yet.

    Raises `DamagedData`.
    """
    pointer = path / _POINTER
    try:
        name = pointer.read_text(errors="replace").removesuffix("\n")
    except FileNotFoundError:
        return None
    directory = path / name
    if _LIVE_NAME.fullmatch(name) is None or not directory.is_dir():
        raise damaged(f"{pointer} names {name!r}, which is not a state here", path=pointer)
    return directory


def _number(directory: Path) -> int:
    return int(directory.name.removeprefix("state-"))


def _line(directory: Path) -> bytes:
    return f"{directory.name}\n".encode()

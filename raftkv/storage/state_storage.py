"""Owner of the state's directory: syncs the store, copies it, swaps it.

state/
├── CURRENT          the name of the live directory; replacing it is the instant of a swap
├── state-<n>/       the live RocksDB; any other of this form is a leftover
├── incoming/        a snapshot being received
├── checkpoints/     hard-linked copies being sent; none outlives the process
└── discarded/       on its way out, removed on the writer thread
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

_LIVE_NAME = re.compile(r"state-([1-9][0-9]*)")


class RocksStateStorage:
    """A `StateStorage` on disk. Waits on a thread of its own, so that no flush delays the log."""

    def __init__(self, path: Path, *, open_tables_max: int = OPEN_TABLES_MAX) -> None:
        """Open the live state below `path`, or make it. Raises `StorageError`.

        While a snapshot is installed there are two states, and `open_tables_max` is for each.
        """
        self._path = path
        self._open_tables_max = open_tables_max
        self._pointer = path / "CURRENT"
        self._incoming = path / "incoming"
        self._checkpoints = path / "checkpoints"
        self._discarded = path / "discarded"
        self._numbers = count(1)
        with translated("opening the state", path):
            path.mkdir(exist_ok=True)
            live = self._live_directory()
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
        """Make everything that was written so far survive a power cut."""
        await self._writer.run(self._store.database.sync)

    async def checkpoint(self, index: int, term: int) -> Checkpoint:
        """Freeze the present state, which is as of (index, term); nothing may be written meanwhile.

        The flush comes first and apart, because the checkpoint holds the GIL through whatever
        it finds unflushed.
        """
        database = self._store.database
        frozen = database.sequence
        path = self._checkpoints / str(next(self._numbers))
        await self._writer.run(database.flush)
        await self._writer.run(lambda: database.checkpoint(path))
        check(database.sequence == frozen, "nothing is applied while the state is being frozen")
        return Checkpoint(path=path, index=index, term=term)

    async def verify(self, checkpoint: Checkpoint) -> None:
        """Read all of the copy. Raises `DamagedData`: of this node's own data, then."""
        try:
            await self._verify_closed(checkpoint.path)
        except DamagedData as error:
            # Its files are links to those of the live state, and go before anybody looks at them.
            live = str(self._store.database.path)
            raise DamagedData(error.message.replace(str(checkpoint.path), live)) from error

    async def release(self, checkpoint: Checkpoint) -> None:
        """The copy is not needed any more."""
        with translated("removing a checkpoint", checkpoint.path):
            await self._writer.run(lambda: remove_tree(checkpoint.path))

    def verification(self) -> FileVerification:
        """A verification of the live state; it begins anew on one that `install` puts there."""
        return FileVerification(self._verifier, self._verify_live())

    def begin_receive(self) -> Path:
        """An empty directory for an incoming snapshot's files; drops an unfinished earlier one."""
        with translated("making room for a snapshot", self._incoming):
            if self._incoming.exists():
                self._discard(self._incoming)
            self._incoming.mkdir()
        self._verified = None
        return self._incoming

    async def verify_received(self, received: Path) -> None:
        """Read all of what was received. Raises `DamagedData`, which says nothing of this node."""
        await self._verify_closed(received)
        self._verified = received

    async def install(self, received: Path, require: Require = anything) -> RocksStateStore:
        """Verify the received directory, if it was not before, and make it the state. Returns the
        store now open; the one before can still be read until `retire`.

        Raises `DamagedData` if it is not a whole state, or not what `require` wants: nothing has
        changed then. Any other
        `StorageError` stops the store, for it is not known which state a restart will find.
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
        """Nobody reads any more what the last `install` has replaced: release it."""
        old, self._replaced = self._replaced, None
        if old is not None:
            with translated("removing the replaced state", self._path):
                await self._writer.run(old.database.close)
                self._discard(old.database.path)

    def disk_bytes(self) -> int:
        """Size of the live state, about."""
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
        """Runs on the verifier's thread, while `install` may put another state in the place."""
        store: RocksStateStore | None = None
        while store is not self._store:
            store = self._store
            database = store.database
            for bytes_read in verify_open_database(database.path, database.live_tables):
                yield bytes_read
                if store is not self._store:
                    break

    def _adopt(self, received: Path, directory: Path) -> RocksStateStore:
        """Open what was received, under its final name, all of it on disk."""
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

    def _live_directory(self) -> Path | None:
        """The directory that CURRENT names; None if no state was ever made here."""
        try:
            name = self._pointer.read_text(errors="replace").removesuffix("\n")
        except FileNotFoundError:
            return None
        directory = self._path / name
        if _LIVE_NAME.fullmatch(name) is None or not directory.is_dir():
            raise damaged(
                f"{self._pointer} names {name!r}, which is not a state here", path=self._pointer
            )
        return directory

    def _remove_leftovers(self, live: Path | None) -> None:
        for path in (self._incoming, self._checkpoints, self._discarded):
            remove_tree(path)
        for path in self._path.glob("state-*"):
            if path != live:
                remove_tree(path)
        self._checkpoints.mkdir()
        self._discarded.mkdir()

    def _discard(self, path: Path) -> None:
        """Take a directory out of the way now, and let its files go on the writer thread."""
        doomed = self._discarded / str(next(self._numbers))
        path.rename(doomed)
        self._writer.start(lambda: remove_tree(doomed))


def _number(directory: Path) -> int:
    return int(directory.name.removeprefix("state-"))


def _line(directory: Path) -> bytes:
    return f"{directory.name}\n".encode()

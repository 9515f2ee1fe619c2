"""The storage ports in memory, for tests and the simulator, without threads and without time.

They distinguish written from synced data, so that a simulated crash can lose the unsynced part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Self

from raftkv.errors import DamagedData, StorageError, check
from raftkv.files import remove_tree
from raftkv.kv.pace import Steps
from raftkv.kv.store import NOTHING_REMOVED, Changes, Family, Frozen, Ranges
from raftkv.raft.entry import Entry, HardState
from raftkv.storage.memory_state import MemoryRow, MemoryStateStore
from raftkv.storage.ports import Checkpoint, RecoveredLog, Require, Slice, Starts, anything

_NUMBER_BYTES = 4
_STATE_FILE = "state"

WaitForDisk = Callable[[], Awaitable[None]]


async def no_wait() -> None:
    """A disk that takes one iteration of the event loop."""
    await asyncio.sleep(0)


@dataclass(slots=True)
class _Log:
    hard_state: HardState = field(default_factory=HardState)
    compacted_index: int = 0
    compacted_term: int = 0
    compacted_hash: int = 0
    entries: list[Entry] = field(default_factory=list)
    starts: Starts = field(default_factory=Starts)

    @property
    def last_index(self) -> int:
        return self.compacted_index + len(self.entries)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            first = entries[0].index
            check(
                self.compacted_index < first <= self.last_index + 1,
                "the log has no gap",
                first=first,
            )
            del self.entries[first - self.compacted_index - 1 :]
            self.entries.extend(entries)

    def compact(self, index: int, term: int, running_hash: int) -> None:
        del self.entries[: max(0, index - self.compacted_index)]
        self._begin_after(index, term, running_hash)

    def reset(self, index: int, term: int, running_hash: int) -> None:
        self.entries.clear()
        self._begin_after(index, term, running_hash)

    def write_starts(self, starts: Starts) -> None:
        self.starts = starts

    def _begin_after(self, index: int, term: int, running_hash: int) -> None:
        self.compacted_index, self.compacted_term = index, term
        self.compacted_hash = running_hash


class MemoryVerification:
    """A `Verification` in one step; `verify` returns the number of bytes read."""

    def __init__(self, verify: Callable[[], int]) -> None:
        self._verify = verify

    async def step(self) -> Slice:
        """Read and check everything."""
        await asyncio.sleep(0)
        return Slice(self._verify(), cpu_s=0.0, last=True)


class MemoryLogStore:
    """A `LogStore` whose `crash` returns the store as a restart would find it."""

    def __init__(self, wait_for_disk: WaitForDisk = no_wait) -> None:
        """`wait_for_disk` is awaited in each call between the write and the sync."""
        self._wait_for_disk = wait_for_disk
        self._synced = _Log()
        self._unsynced: list[Callable[[_Log], None]] = []
        self._open = True

    def recover(self) -> RecoveredLog:
        """Read the whole log."""
        self._check_open()
        log = self._synced
        return RecoveredLog(
            log.hard_state,
            log.compacted_index,
            log.compacted_term,
            tuple(log.entries),
            log.compacted_hash,
            log.starts,
        )

    async def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Truncate the log at the first entry's index, then write and sync everything."""
        kept = tuple(entries)
        await self._write(lambda log: log.append(hard_state, kept))

    async def compact(self, through_index: int, through_term: int, through_hash: int) -> None:
        """Delete the entries up to and including `through_index`."""
        await self._write(lambda log: log.compact(through_index, through_term, through_hash))

    async def reset(self, index: int, term: int, hash_there: int) -> None:
        """Delete all entries."""
        await self._write(lambda log: log.reset(index, term, hash_there))

    async def write_starts(self, starts: Starts) -> None:
        """Replace the stored starts."""
        await self._write(lambda log: log.write_starts(starts))

    def verification(self) -> MemoryVerification:
        """A verification of the log and the hard state."""
        return MemoryVerification(self._verify)

    async def close(self) -> None:
        """The store must not be used any more. Everything is synced."""
        self._open = False

    def crash(self, surviving: int = 0) -> Self:
        """The store after a power cut, which the first `surviving` unsynced writes survived.

        This one belongs to the dead process: whatever it does from now on fails.
        """
        self._open = False
        successor = type(self)(self._wait_for_disk)
        successor._synced = replace(self._synced, entries=list(self._synced.entries))
        for change in self._unsynced[:surviving]:
            change(successor._synced)
        return successor

    @property
    def unsynced(self) -> int:
        """The number of writes that a crash would lose."""
        return len(self._unsynced)

    async def _write(self, change: Callable[[_Log], None]) -> None:
        self._check_open()
        self._unsynced.append(change)
        await self._wait_for_disk()
        self._check_open()
        for written in self._unsynced:
            written(self._synced)
        self._unsynced.clear()

    def _verify(self) -> int:
        return sum(len(entry.payload) for entry in self._synced.entries)

    def _check_open(self) -> None:
        if not self._open:
            raise StorageError("the log is closed")


class _JournaledStore:
    """A state store that records the writes since the last sync."""

    def __init__(self, written: MemoryStateStore) -> None:
        self.written = written
        self.unsynced: list[tuple[Changes, Ranges]] = []
        self.closed = False  # for writes
        self.retired = False  # for reads as well

    def get(self, family: Family, key: bytes) -> bytes | None:
        self._check_readable()
        return self.written.get(family, key)

    def get_many(self, family: Family, keys: list[bytes]) -> list[bytes | None]:
        self._check_readable()
        return self.written.get_many(family, keys)

    def scan(
        self, family: Family, start: bytes, end: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self._check_readable()
        return self.written.scan(family, start, end, reverse=reverse)

    def frozen(self) -> Frozen:
        self._check_readable()
        return self.written.frozen()

    def size_bytes(self, family: Family) -> int:
        self._check_readable()
        return self.written.size_bytes(family)

    def write(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> None:
        if self.closed:
            raise StorageError("the state is closed")
        self.written.write(changes, removed)
        kept = {family: dict(rows) for family, rows in changes.items()}
        self.unsynced.append((kept, {family: tuple(each) for family, each in removed.items()}))

    def write_in_steps(self, changes: Changes, removed: Ranges = NOTHING_REMOVED) -> Steps[None]:
        yield from ()
        self.write(changes, removed)

    def _check_readable(self) -> None:
        if self.retired:
            raise StorageError("the state was replaced by a snapshot")


class MemoryStateStorage:
    """A `StateStorage` in memory. Only snapshots for peers are in files, below `directory`."""

    def __init__(self, directory: Path, wait_for_disk: WaitForDisk = no_wait) -> None:
        self._directory = directory
        self._wait_for_disk = wait_for_disk
        self._checkpoints_taken = 0
        self._synced = MemoryStateStore()
        self._store = _JournaledStore(self._synced.copy())
        self._replaced: _JournaledStore | None = None
        self._checkpoints = directory / "checkpoints"
        self._incoming = directory / "incoming"
        for path in (self._checkpoints, self._incoming):
            remove_tree(path)
        self._checkpoints.mkdir(parents=True)

    @property
    def store(self) -> _JournaledStore:
        """The open store. `install` replaces it."""
        return self._store

    async def sync(self) -> None:
        """Sync everything that was written before the call."""
        store, written = self._store, len(self._store.unsynced)
        await self._wait_for_disk()
        if store is not self._store:
            return  # a snapshot has replaced the store meanwhile, and is durable
        if store.closed:
            raise StorageError("the state is closed")
        for changes, removed in store.unsynced[:written]:
            self._synced.write(changes, removed)
        del store.unsynced[:written]

    async def checkpoint(self, index: int, term: int) -> Checkpoint:
        """Copy the current state. Nothing may be written meanwhile."""
        self._checkpoints_taken += 1
        path = self._checkpoints / str(self._checkpoints_taken)
        path.mkdir()
        write_state(path, self._store.written)
        await self._wait_for_disk()
        return Checkpoint(path=path, index=index, term=term)

    async def verify(self, checkpoint: Checkpoint) -> None:
        """Verify the copy. Raises `DamagedData`: the damage is in this node's own data."""
        await asyncio.sleep(0)
        read_state(checkpoint.path).verify()

    async def release(self, checkpoint: Checkpoint) -> None:
        """Delete the copy."""
        remove_tree(checkpoint.path)

    def verification(self) -> MemoryVerification:
        """A verification of the live state."""
        return MemoryVerification(self._verify_live)

    def damage(self, family: Family, key: bytes, bit: int) -> None:
        """Flip a bit of this row's value on the disk. Unsynced writes are not damaged."""
        synced, written = self._synced, self._store.written
        on_disk = synced.unverified(family, key) == written.unverified(family, key)
        for store in (synced, written) if on_disk else (synced,):
            store.damage(family, key, bit)

    def begin_receive(self) -> Path:
        """An empty directory for an incoming snapshot's files."""
        remove_tree(self._incoming)
        self._incoming.mkdir()
        return self._incoming

    async def verify_received(self, received: Path) -> None:
        """Verify the received files.

        Raises `DamagedData`: the fault is not in this node's own data.
        """
        await asyncio.sleep(0)
        received_state(received)

    async def install(self, received: Path, require: Require = anything) -> _JournaledStore:
        """Make the received directory the state; `DamagedData` if it is not a whole one, or not
        what `require` wants.
        """
        store = self._store
        state = received_state(received)
        remove_tree(received)
        require(state)
        await self._wait_for_disk()
        if store.closed:
            raise StorageError("the state is closed")
        store.closed = True
        self._synced = state
        self._store, self._replaced = _JournaledStore(state.copy()), store
        return self._store

    async def retire(self) -> None:
        """Release the state that the last `install` has replaced."""
        if self._replaced is not None:
            self._replaced.retired = True
            self._replaced = None

    def disk_bytes(self) -> int:
        """The size of the live state, about."""
        return len(_dump(self._store.written))

    async def close(self) -> None:
        """Sync. The storage must not be used any more."""
        if not self._store.closed:
            await self.sync()
            self._store.closed = True

    def crash(self, surviving: int = 0) -> Self:
        """The storage after a power cut in which the first `surviving` unsynced writes survived."""
        self._store.closed = True
        successor = type(self)(self._directory, self._wait_for_disk)
        successor._synced = self._synced.copy()
        for changes, removed in self._store.unsynced[:surviving]:
            successor._synced.write(changes, removed)
        successor._store = _JournaledStore(successor._synced.copy())
        return successor

    def _verify_live(self) -> int:
        self._store.written.verify()
        return self.disk_bytes()


def write_state(directory: Path, store: MemoryStateStore) -> None:
    """Make the directory a checkpoint of these rows, with their damage."""
    (directory / _STATE_FILE).write_bytes(_dump(store))


def received_state(directory: Path) -> MemoryStateStore:
    """The rows of a snapshot. Raises `DamagedData` if they are damaged or not complete."""
    store = read_state(directory)
    store.verify()
    return store


def read_state(directory: Path) -> MemoryStateStore:
    """The rows as they are, damaged or not. Raises `DamagedData` if some are missing."""
    try:
        with (directory / _STATE_FILE).open("rb") as file:
            store = MemoryStateStore()
            for _ in range(_read_number(file)):
                family, key, value = (_read(file, _read_number(file)) for _ in range(3))
                store.add(MemoryRow(Family(family.decode()), key, value, _read_number(file)))
    except (FileNotFoundError, EOFError, ValueError) as error:
        raise DamagedData(f"{directory} holds no whole state: {error}", path=directory) from error
    return store


def _dump(store: MemoryStateStore) -> bytes:
    """Every row with its checksum, and the number of rows."""
    rows = list(store.rows())
    parts = [_number(len(rows))]
    for family, key, value, checksum in rows:
        for part in (family.value.encode(), key, value):
            parts += [_number(len(part)), part]
        parts.append(_number(checksum))
    return b"".join(parts)


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _read_number(file: BinaryIO) -> int:
    return int.from_bytes(_read(file, _NUMBER_BYTES), "big")


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError("it ends too early")
    return data

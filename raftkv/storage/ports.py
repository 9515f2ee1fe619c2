"""What a node needs of its disk. The RocksDB stores and the memory fakes are held to one suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from raftkv.kv.store import StateStore
from raftkv.raft.entry import Entry, HardState


@dataclass(frozen=True, slots=True)
class Start:
    """One life of a node's process on one disk: how many there were, and a number drawn for it.

    Two processes with one number run from two copies of a disk.
    """

    number: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class MemberNote:
    """What a node remembers of a member, to find out when that member's disk is an older copy.

    `index` is committed, and the member had acknowledged everything up to it.
    """

    start: Start = field(default_factory=Start)
    index: int = 0


@dataclass(frozen=True, slots=True)
class Starts:
    """This node's last start, and its notes on the members."""

    own: Start = field(default_factory=Start)
    notes: Mapping[int, MemberNote] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecoveredLog:
    """What the disk gave back at start. Entries are contiguous from `compacted_index` + 1.

    `compacted_hash` is the running hash up to `compacted_index`.
    """

    hard_state: HardState
    compacted_index: int
    compacted_term: int
    entries: Sequence[Entry]
    compacted_hash: int = 0
    starts: Starts = field(default_factory=Starts)


@dataclass(frozen=True, slots=True)
class Slice:
    """What one step of a verification has read, and the CPU time that it took on its thread."""

    bytes_read: int
    cpu_s: float
    last: bool


class Verification(Protocol):
    """One reading of everything that a store has on its disk, whether anybody asks for it or not.

    Keeps no file open between two steps.
    """

    async def step(self) -> Slice:
        """Read and check the next slice: some milliseconds of the disk's time, less of the CPU's.

        Raises `DamagedData` for bytes that are not what was written or can't be read, with the
        file in its message, and `StorageError` if nothing can be said of them.
        """


class LogStore(Protocol):
    """The replicated log and the hard state on disk.

    One call at a time, `recover` first; each is durable when it returns. Every method may raise
    `StorageError`; after that the store refuses further writes, because what is on disk is no
    longer known.
    """

    def recover(self) -> RecoveredLog:
        """Read everything back. A damaged record raises `DamagedData`, it is never skipped."""

    async def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Write the hard state (if given) and the entries, first cutting off what stands at or
        after the first entry's index. It is on the disk when this returns.
        """

    async def compact(self, through_index: int, through_term: int, through_hash: int) -> None:
        """Forget entries up to and with `through_index`. Never past what the state has durably."""

    async def reset(self, index: int, term: int, hash_there: int) -> None:
        """Forget all entries: a snapshot that ends at (index, term) takes their place."""

    async def write_starts(self, starts: Starts) -> None:
        """Replace what is remembered of starts. It is on the disk when this returns."""

    def verification(self) -> Verification:
        """A verification of the log and the hard state."""

    async def close(self) -> None:
        """Finish what is under way and release the disk."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A frozen copy of the state, as files below `path`, that a peer can be sent."""

    path: Path
    index: int
    term: int


Require: TypeAlias = Callable[[StateStore], None]
"""Raises `DamagedData` if a received state is not what was announced."""


def anything(_: StateStore) -> None:
    """Requires nothing of a state."""


class StateStorage(Protocol):
    """Owner of the state's directory: hands out the store, syncs it, copies it, swaps it."""

    @property
    def store(self) -> StateStore:
        """The open store. `install` replaces it."""

    async def sync(self) -> None:
        """Make everything that was written so far survive a power cut."""

    async def checkpoint(self, index: int, term: int) -> Checkpoint:
        """Freeze the present state, which the caller says is as of (index, term).

        Nothing may be written until it returns: the copy would not be what it is named.
        """

    async def verify(self, checkpoint: Checkpoint) -> None:
        """Read all of the copy. Raises `DamagedData`: of this node's own data, then."""

    async def release(self, checkpoint: Checkpoint) -> None:
        """The copy is not needed any more."""

    def verification(self) -> Verification:
        """A verification of the live state; it begins anew on one that `install` puts there."""

    def begin_receive(self) -> Path:
        """An empty directory for an incoming snapshot's files; drops an unfinished earlier one."""

    async def verify_received(self, received: Path) -> None:
        """Read all of what was received. Raises `DamagedData`, which says nothing of this node."""

    async def install(self, received: Path, require: Require = anything) -> StateStore:
        """Make the received directory the state, verified now if it was not before. After a crash
        at any instant the old or the new state stands, whole. Returns the store now open; the one
        before can still be read, not written, until `retire`. Raises `DamagedData` if what was
        received is not a whole state, or not what `require` wants: nothing has changed then.
        """

    async def retire(self) -> None:
        """Nobody reads any more what the last `install` has replaced: release it."""

    def disk_bytes(self) -> int:
        """Size of the live state, about."""

    async def close(self) -> None:
        """Flush and release the disk."""

"""The ports to a node's disk: the log, the state, and their verification.

The RocksDB stores and the memory fakes pass the same test suite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from raftkv.kv.store import StateStore
from raftkv.raft.entry import Entry, HardState


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a node's process from one disk: its ordinal, and a random id.

    Two starts with the same number and different ids come from two copies of a disk.
    """

    number: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class MemberNote:
    """A member's last known start and acknowledged index, to detect an older copy of its disk.

    `index` is committed, and the member had acknowledged all entries up to it.
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
    """The log as read from the disk at start. Entries are contiguous from `compacted_index` + 1.

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
    """The bytes that one step of a verification has read, and its CPU time on its thread."""

    bytes_read: int
    cpu_s: float
    last: bool


class Verification(Protocol):
    """One pass over everything that a store has on its disk, also what no client reads.

    It keeps no file open between two steps.
    """

    async def step(self) -> Slice:
        """Read and check the next slice: some milliseconds of disk time, and less of CPU time.

        Raises `DamagedData` for bytes that are not what was written or can't be read, with the
        file in its message, and `StorageError` if the check is not possible.
        """


class LogStore(Protocol):
    """The replicated log and the hard state on disk.

    One call at a time, `recover` first; each is durable when it returns. Every method may raise
    `StorageError`; after that the store refuses further writes, because what is on disk is no
    longer known.
    """

    def recover(self) -> RecoveredLog:
        """Read the whole log. A damaged record raises `DamagedData` and is never skipped."""

    async def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Truncate the log at the first entry's index, and write the entries and the hard state
        (if given). They are durable when this returns.
        """

    async def compact(self, through_index: int, through_term: int, through_hash: int) -> None:
        """Delete the entries up to and including `through_index`, which must be durable in the
        state.
        """

    async def reset(self, index: int, term: int, hash_there: int) -> None:
        """Delete all entries: a snapshot that ends at (index, term) replaces them."""

    async def write_starts(self, starts: Starts) -> None:
        """Replace the stored starts. They are durable when this returns."""

    def verification(self) -> Verification:
        """A verification of the log and the hard state."""

    async def close(self) -> None:
        """Complete the calls in progress and release the disk."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An immutable copy of the state, as files below `path`, to be sent to a peer."""

    path: Path
    index: int
    term: int


Require: TypeAlias = Callable[[StateStore], None]
"""Raises `DamagedData` if a received state is not the announced one."""


def anything(_: StateStore) -> None:
    """Accept any state."""


class StateStorage(Protocol):
    """The owner of the state's directory: opens the store, syncs, copies and replaces it."""

    @property
    def store(self) -> StateStore:
        """The open store. `install` replaces it."""

    async def sync(self) -> None:
        """Sync everything that was written so far to the disk."""

    async def checkpoint(self, index: int, term: int) -> Checkpoint:
        """Copy the current state, which the caller declares to be as of (index, term).

        Nothing may be written until it returns.
        """

    async def verify(self, checkpoint: Checkpoint) -> None:
        """Verify the copy. Raises `DamagedData`: the damage is in this node's own data."""

    async def release(self, checkpoint: Checkpoint) -> None:
        """Delete the copy."""

    def verification(self) -> Verification:
        """A verification of the live state. It restarts when `install` replaces the state."""

    def begin_receive(self) -> Path:
        """An empty directory for the files of an incoming snapshot; deletes an unfinished one."""

    async def verify_received(self, received: Path) -> None:
        """Verify the received files.

        Raises `DamagedData`: the fault is not in this node's own data.
        """

    async def install(self, received: Path, require: Require = anything) -> StateStore:
        """Replace the state by the received directory, which is verified first if it was not yet.

        After a crash at any instant the complete old or the complete new state is live. Returns the
        store that is now open. The replaced store can be read, but not written, until `retire`.
        Raises `DamagedData`, without effect, if the received state is not complete or if `require`
        refuses it.
        """

    async def retire(self) -> None:
        """Release the state that the last `install` has replaced. It must not be read any more."""

    def disk_bytes(self) -> int:
        """The size of the live state, about."""

    async def close(self) -> None:
        """Flush and release the disk."""

"""A simulated machine's disk: the memory stores, with waiting, failing, power cuts, torn writes,
copies, and bits that turn over, in the log, in the state, and in snapshots that arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple, Self, TypeAlias

from jepsen_lite.faults.kinds import STATE
from jepsen_lite.sim.checks.disk_losses import Replica
from jepsen_lite.sim.checks.invariants import Invariants
from jepsen_lite.sim.checks.violation import Violation
from raftkv.errors import DiskFull
from raftkv.kv.meta import META_KEY, Meta
from raftkv.kv.records import unpack_version
from raftkv.kv.store import Family
from raftkv.raft.entry import Entry, HardState
from raftkv.storage.identity import MemoryIdentityStore
from raftkv.storage.log_records import (
    HARD_STATE_KEY,
    decode_entry,
    decode_hard_state,
    encode_entry,
    encode_hard_state,
    entry_key,
)
from raftkv.storage.memory import (
    MemoryLogStore,
    MemoryStateStorage,
    WaitForDisk,
    _Log,
    read_state,
    write_state,
)
from raftkv.storage.memory_state import MemoryRow, MemoryStateStore, turned
from raftkv.storage.ports import RecoveredLog, Starts, Verification

SYNC_S_MIN = 0.0001
SYNC_S_MEAN = 0.0008

VERSION_BIT = 8 * 16 + 9
"""Of a record: it adds 512 to the version counter, which no run reaches."""

Change: TypeAlias = Callable[[_Log], None]

DEVICE = frozenset({"slow_s", "full", "snapshot_arrives", "_rng", "_directory"})
"""The attributes of `Disk` that belong to the machine. All others are contents of the disk."""


class WrongRow(NamedTuple):
    """A row with a bit that flipped in memory, and the first entry that is known to have read it
    (0: none).
    """

    key: bytes = b""
    row: bytes = b""
    used_index: int = 0


class SimulatedLog(MemoryLogStore):
    """A log whose writes can tear, and whose bits can flip.

    A bit flips in the record as production code has encoded it; the node gets what production code
    decodes from that.
    """

    def __init__(self, wait_for_disk: WaitForDisk) -> None:
        super().__init__(wait_for_disk)
        self.flipped: dict[bytes, int] = {}
        """By the record's key on disk: which bit of it."""

    async def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """As `RocksLogStore` promises: if it tears, the term and the cut are there first, then
        the entries in order, then the commit index.
        """
        parts: list[Change] = []
        if entries:
            known = self._synced.hard_state.commit_index
            term = hard_state and replace(
                hard_state, commit_index=min(hard_state.commit_index, known)
            )
            kept = tuple(entries)
            parts.append(lambda log: log.append(term, kept[:1]))
            parts += [_appending(entry) for entry in kept[1:]]
        if hard_state is not None:
            parts.append(lambda log: log.append(hard_state, ()))
        self._check_open()
        self._unsynced += parts[:-1]
        await self._write(parts[-1])

    def recover(self) -> RecoveredLog:
        recovered = super().recover()
        if not self.flipped:
            return recovered
        return replace(
            recovered,
            hard_state=self._read_hard_state(recovered.hard_state),
            entries=tuple(map(self._read_entry, recovered.entries)),
        )

    @property
    def used(self) -> bool:
        """Whether something was ever written for Raft."""
        log = self._synced
        return bool(log.entries or log.compacted_index or log.hard_state != HardState())

    def flip_bit(self, rng: Random) -> None:
        """Flip one bit of any record."""
        keys = [HARD_STATE_KEY, *(entry_key(entry.index) for entry in self._synced.entries)]
        self.flipped[rng.choice(keys)] = rng.getrandbits(32)

    def crash(self, surviving: int = 0) -> Self:
        found = super().crash(surviving)
        found.flipped = self.flipped
        return found

    def _verify(self) -> int:
        self.recover()
        return super()._verify()

    def _read_entry(self, entry: Entry) -> Entry:
        key = entry_key(entry.index)
        bit = self.flipped.get(key)
        return entry if bit is None else decode_entry(key, turned(encode_entry(entry), bit))

    def _read_hard_state(self, hard_state: HardState) -> HardState:
        bit = self.flipped.get(HARD_STATE_KEY)
        if bit is None:
            return hard_state
        return decode_hard_state(turned(encode_hard_state(hard_state), bit))


class SimulatedState(MemoryStateStorage):
    """A state store whose bits can flip, and whose size is constant."""

    def __init__(self, directory: Path, wait_for_disk: WaitForDisk) -> None:
        super().__init__(directory, wait_for_disk)
        self.flipped = False
        """Whether a bit of a row was ever flipped, even if the row has been rewritten since."""
        self.wrong = WrongRow()
        self.snapshot_arrives: Callable[[Path], None] = _unchanged

    def disk_bytes(self) -> int:
        return 1 << 20

    def synced_index(self) -> int:
        """How far the state goes that a power cut would leave."""
        row = self._synced.get(Family.META, META_KEY)
        return 0 if row is None else Meta.decode(row).applied_index

    async def verify_received(self, received: Path) -> None:
        self.snapshot_arrives(received)
        await super().verify_received(received)

    def flip_bit(self, rng: Random) -> None:
        """Flip one bit of any row: all writes count as synced by now."""
        for changes, removed in self.store.unsynced:
            self._synced.write(changes, removed)
        self.store.unsynced.clear()
        row = _any_row(self._synced, rng)
        if row is not None:
            self.flipped = True
            self.damage(row.family, row.key, rng.getrandbits(16))

    def flip_in_memory(self) -> None:
        """Flip a bit in the version counter of the key that was written most often, below no
        checksum. The next put of the key counts on from it. Readers of values see nothing.
        """
        versions = {
            key: (record, unpack_version(record)[2])
            for key, record in self.store.scan(Family.CURRENT, b"", None)
        }
        if versions:
            key = max(versions, key=lambda key: (versions[key][1], key))
            row = turned(versions[key][0], VERSION_BIT)
            self.store.write({Family.CURRENT: {key: row}})
            self.flipped, self.wrong = True, WrongRow(key, row)

    def look_for_use(self, applied_index: int) -> None:
        """Note whether an entry has replaced the row whose bit was flipped in memory."""
        wrong = self.wrong
        if not wrong.key or wrong.used_index:
            return
        if self.store.get(Family.CURRENT, wrong.key) != wrong.row:
            self.wrong = wrong._replace(used_index=applied_index)

    def crash(self, surviving: int = 0) -> Self:
        found = super().crash(surviving)
        found.flipped, found.snapshot_arrives = self.flipped, self.snapshot_arrives
        found.wrong = self.wrong
        return found


def damage_snapshot(received: Path, rng: Random) -> None:
    """Flip one bit of any row of a snapshot."""
    store = read_state(received)
    row = _any_row(store, rng)
    if row is not None:
        store.damage(row.family, row.key, rng.getrandbits(16))
        write_state(received, store)


def _any_row(store: MemoryStateStore, rng: Random) -> MemoryRow | None:
    """A row with a value; in half of all cases one that is rarely read. Rows of META are rewritten
    with every entry.
    """
    rows = [row for row in store.rows() if row.value and row.family is not Family.META]
    old = [row for row in rows if row.family in (Family.HISTORY, Family.CHANGES)]
    rows = rng.choice((old or rows, rows))
    return rng.choice(rows) if rows else None


def _unchanged(received: Path) -> None:
    """By default snapshots arrive undamaged."""


class Disk:
    """What survives the processes of one machine.

    All attributes but those in `DEVICE` are its contents. Copying and emptying take all of them,
    also those that a later version adds.
    """

    def __init__(self, directory: Path, rng: Random) -> None:
        self.slow_s = 0.0
        self.full = False
        self._rng = rng
        self.identities = MemoryIdentityStore()
        self._directory = directory
        self.log = SimulatedLog(self._wait)
        self.state = SimulatedState(directory, self._wait)
        self.snapshot_arrives: Callable[[Path], None] = _unchanged
        self.state.snapshot_arrives = self._snapshot_arrives

    async def _wait(self) -> None:
        """In the middle of every write: it is written, but not yet synced."""
        delay_s = SYNC_S_MIN + self._rng.expovariate(1 / SYNC_S_MEAN)
        if self.slow_s:
            delay_s += self._rng.uniform(0.0, 2 * self.slow_s)
        await asyncio.sleep(delay_s)
        if self.full:
            raise DiskFull("no space is left on the simulated disk")

    def crash(self, *, power: bool) -> None:
        """The process is gone. Of what was not synced some survives; all of it, without a power
        cut, because then the operating system still writes what it was given.
        """
        log, state = self.log.unsynced, len(self.state.store.unsynced)
        if power:
            log, state = self._rng.randint(0, log), self._rng.randint(0, state)
        self._open_again(log, state)

    @property
    def flipped(self) -> bool:
        """Whether it returns other bytes than were written, or has."""
        return bool(self.log.flipped) or self.state.flipped

    def flip_bit(self, part: str) -> None:
        """A bit of the log or of the state flips; the next read sees it."""
        (self.state if part == STATE else self.log).flip_bit(self._rng)

    def copy(self) -> Disk:
        """A disk in no machine, with the present contents of this one, whose node may run."""
        shared = (self._rng, self.snapshot_arrives)
        return deepcopy(self, {id(each): each for each in shared})

    def put(self, copy: Disk) -> None:
        """Replace all contents by what was synced when `copy` was taken.

        The node must be down. The copy stays as it is, so that it can be used again.
        """
        for name in vars(self).keys() - DEVICE:
            delattr(self, name)
        # The stores refer to their disk and its directory: to this machine's from now on.
        known = {id(copy): self, id(copy._directory): self._directory}
        for name, content in vars(copy).items():
            if name not in DEVICE:
                setattr(self, name, deepcopy(content, known))
        self._open_again(0, 0)

    def empty(self) -> None:
        """Replace all contents by those of a new disk. The node must be down."""
        self.put(Disk(self._directory, self._rng))

    def _snapshot_arrives(self, received: Path) -> None:
        self.snapshot_arrives(received)

    def _open_again(self, log: int, state: int) -> None:
        """What the next process finds, if this many of the unsynced writes have survived."""
        self.log = self.log.crash(log)
        self.state = self.state.crash(state)


def _appending(entry: Entry) -> Change:
    return lambda log: log.append(None, (entry,))


class CheckedLogStore:
    """A `LogStore` that shows the checkers what is durable, as soon as it is.

    What they find goes to `on_failure`: it is no concern of the node that writes.
    """

    def __init__(
        self,
        store: MemoryLogStore,
        state: SimulatedState,
        replica: Replica,
        invariants: Invariants,
        on_failure: Callable[[str], None],
    ) -> None:
        self._store = store
        self._state = state
        self._replica = replica
        self._invariants = invariants
        self._on_failure = on_failure

    def recover(self) -> RecoveredLog:
        recovered = self._store.recover()
        self._show(self._invariants.recovered, recovered)
        return recovered

    async def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        kept = tuple(entries)
        await self._store.append(hard_state, kept)
        self._show(self._invariants.durable, hard_state, kept)

    async def compact(self, through_index: int, through_term: int, through_hash: int) -> None:
        await self._store.compact(through_index, through_term, through_hash)
        state_index = self._state.synced_index()
        self._show(self._invariants.compacted, through_index, through_term, state_index)

    async def reset(self, index: int, term: int, hash_there: int) -> None:
        await self._store.reset(index, term, hash_there)
        self._show(self._invariants.reset, index, term)

    async def write_starts(self, starts: Starts) -> None:
        await self._store.write_starts(starts)

    def verification(self) -> Verification:
        return self._store.verification()

    async def close(self) -> None:
        await self._store.close()

    def _show(self, look: Callable[..., None], *what: object) -> None:
        try:
            look(self._replica, *what)
        except Violation as violation:
            self._on_failure(str(violation))

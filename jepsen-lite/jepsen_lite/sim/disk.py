"""A simulated machine's disk: the memory stores, with waiting, failing and power cuts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from jepsen_lite.sim.invariants import Invariants, Violation
from raftkv.errors import DiskFull
from raftkv.raft.entry import Entry, HardState
from raftkv.storage.memory import MemoryLogStore, MemoryStateStorage
from raftkv.storage.ports import RecoveredLog

SYNC_S_MIN = 0.0001
SYNC_S_MEAN = 0.0008


class Disk:
    """What survives the processes of one machine."""

    def __init__(self, directory: Path, rng: Random) -> None:
        self.slow_s = 0.0
        self.full = False
        self._rng = rng
        self.log = MemoryLogStore(self._wait)
        self.state = MemoryStateStorage(directory, self._wait)

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
        self.log = self.log.crash(log)
        self.state = self.state.crash(state)


class WatchedLogStore:
    """A `LogStore` that shows the checkers what is durable, as soon as it is.

    What they find goes to `on_failure`: it is no concern of the node that writes.
    """

    def __init__(
        self,
        store: MemoryLogStore,
        node_id: int,
        invariants: Invariants,
        on_failure: Callable[[str], None],
    ) -> None:
        self._store = store
        self._node_id = node_id
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

    async def compact(self, through_index: int, through_term: int) -> None:
        await self._store.compact(through_index, through_term)
        self._show(self._invariants.compacted, through_index, through_term)

    async def reset(self, index: int, term: int) -> None:
        await self._store.reset(index, term)
        self._show(self._invariants.reset, index, term)

    async def close(self) -> None:
        await self._store.close()

    def _show(self, look: Callable[..., None], *what: object) -> None:
        try:
            look(self._node_id, *what)
        except Violation as violation:
            self._on_failure(str(violation))

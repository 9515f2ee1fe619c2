"""The replicated state of one node: Raft core, log on disk, state machine and its storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raftkv.kv.machine import StateMachine
from raftkv.node.state_comparison import StateComparison
from raftkv.raft.entry import Entry, HardState
from raftkv.raft.raft import Raft
from raftkv.raft.running_hash import UNKNOWN
from raftkv.storage.ports import LogStore, Starts, StateStorage


class LogDisk:
    """The log store of one node. Only one write is under way at a time."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._lock = asyncio.Lock()

    async def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Write the hard state and the entries. Both are on the disk when this returns."""
        async with self._lock:
            await self._store.append(hard_state, entries)

    async def compact(self, raft: Raft, index_of: Callable[[], int | None]) -> int | None:
        """Compact the log on disk and in memory up to the index that `index_of` returns.

        `index_of` is called when no other write is under way. Returns its result.
        """
        async with self._lock:
            index = index_of()
            term = None if index is None else raft.log.term(index)
            if index is None or term is None:
                return None
            await self._store.compact(index, term, raft.log.hash(index) or UNKNOWN)
            raft.compact(index)
            return index

    async def reset(self, index: int, term: int, hash_there: int) -> None:
        """Replace the log by a snapshot that ends at (index, term).

        The caller goes on before the next write begins, and reports the reset to the core.
        """
        async with self._lock:
            await self._store.reset(index, term, hash_there)

    async def write_starts(self, latest: Callable[[], Starts | None]) -> Starts | None:
        """Write what `latest` returns once no other write is under way; nothing if it is None.

        Returns what was written. The caller goes on before the next write begins.
        """
        async with self._lock:
            starts = latest()
            if starts is not None:
                await self._store.write_starts(starts)
            return starts


@dataclass(slots=True)
class Replica:
    """What Raft keeps equal on all nodes, as this node has it.

    Between two steps of an apply `machine.applied_index == raft.last_applied`. An installed
    snapshot replaces `machine`. `incarnation` is that of the cluster. `comparison` has the marks of
    the other members' states.
    """

    raft: Raft
    machine: StateMachine
    log_disk: LogDisk
    storage: StateStorage
    incarnation: int
    comparison: StateComparison

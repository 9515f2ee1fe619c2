"""Dropping the front of a log that has grown long, once the state on disk holds all of it."""

from __future__ import annotations

import asyncio

import structlog

from raftkv.node.snapshots import SnapshotTransfers
from raftkv.node.tasks import Tasks
from raftkv.raft.raft import Raft
from raftkv.storage.ports import LogStore, StateStorage


class LogCompaction:
    """Compacts one node's log, one time after another.

    A log longer than `trigger_bytes` is cut down to `retained_bytes`, which peers that lag catch
    up from. Entries that a snapshot on its way will be followed by are kept as well, as long as
    the log stays below four times its trigger. `log_disk` is held while the store is written.
    """

    def __init__(
        self,
        node_id: int,
        raft: Raft,
        log_store: LogStore,
        log_disk: asyncio.Lock,
        storage: StateStorage,
        snapshots: SnapshotTransfers,
        tasks: Tasks,
        stopped: asyncio.Future[BaseException | None],
        *,
        trigger_bytes: int,
        retained_bytes: int,
    ) -> None:
        self._raft = raft
        self._log_store = log_store
        self._log_disk = log_disk
        self._storage = storage
        self._snapshots = snapshots
        self._tasks = tasks
        self._stopped = stopped
        self._trigger_bytes = trigger_bytes
        self._retained_bytes = retained_bytes
        self._under_way = False
        self._log = structlog.get_logger("raftkv.node").bind(node=node_id)

    def start_if_due(self) -> None:
        if self._raft.log.bytes > self._trigger_bytes and not self._under_way:
            self._under_way = True
            self._tasks.spawn(self._compact())

    async def _compact(self) -> None:
        applied = self._raft.last_applied
        try:
            await self._drop_entries(applied)
        finally:
            self._under_way = False
        if self._raft.last_applied > applied:  # it waited for disks meanwhile
            self.start_if_due()

    async def _drop_entries(self, applied: int) -> None:
        raft = self._raft
        await self._storage.sync()
        async with self._log_disk:
            index = min(raft.log.index_keeping(self._retained_bytes), applied)
            in_use = self._snapshots.index_in_use
            if in_use is not None and raft.log.bytes < 4 * self._trigger_bytes:
                index = min(index, in_use)
            term = raft.log.term(index)
            if self._stopped.done() or term is None or index <= raft.log.compacted_index:
                return
            await self._log_store.compact(index, term, raft.log.hash(index) or 0)
            raft.compact(index)
        self._log.info("log_compacted", index=index, term=raft.current_term)

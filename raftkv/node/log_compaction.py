"""Log compaction: dropping the front of a long log once the state on disk includes it."""

from __future__ import annotations

import structlog

from raftkv.node.config import NodeConfig
from raftkv.node.replica import Replica
from raftkv.node.run_loop import RunLoop
from raftkv.node.snapshots import SnapshotTransfers


class LogCompaction:
    """Compacts one node's log whenever it is too long.

    A log longer than `log_compaction_bytes` is cut down to `log_retained_bytes`, for followers that
    lag. The entries after a snapshot that is being sent stay as well, while the log is shorter
    than four times `log_compaction_bytes`.
    """

    def __init__(
        self, replica: Replica, snapshots: SnapshotTransfers, run: RunLoop, config: NodeConfig
    ) -> None:
        self._replica = replica
        self._snapshots = snapshots
        self._run = run
        self._trigger_bytes = config.log_compaction_bytes
        self._retained_bytes = config.log_retained_bytes
        self._running = False
        self._log = structlog.get_logger("raftkv.node").bind(node=replica.raft.node_id)

    def start_if_due(self) -> None:
        if self._replica.raft.log.bytes > self._trigger_bytes and not self._running:
            self._running = True
            self._run.spawn(self._compact())

    async def _compact(self) -> None:
        raft = self._replica.raft
        applied = raft.last_applied
        try:
            await self._drop_entries(applied)
        finally:
            self._running = False
        if raft.last_applied > applied:  # entries were applied during the compaction
            self.start_if_due()

    async def _drop_entries(self, applied: int) -> None:
        raft = self._replica.raft
        await self._replica.storage.sync()
        index = await self._replica.log_disk.compact(raft, lambda: self._index_through(applied))
        if index is not None:
            self._log.info("log_compacted", index=index, term=raft.current_term)

    def _index_through(self, applied: int) -> int | None:
        """The last index to drop; None to drop nothing."""
        log = self._replica.raft.log
        index = min(log.index_keeping(self._retained_bytes), applied)
        in_use = self._snapshots.index_in_use
        if in_use is not None and log.bytes < 4 * self._trigger_bytes:
            index = min(index, in_use)
        return None if self._run.dead or index <= log.compacted_index else index

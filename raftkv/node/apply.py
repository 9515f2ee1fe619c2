"""Applying committed entries to the state machine, in steps between the rounds of the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from raftkv.kv.pace import Steps
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.config import NodeConfig, require_version
from raftkv.node.proposals import PendingProposals
from raftkv.node.removal import removed_from_cluster
from raftkv.node.replica import Replica
from raftkv.node.run_loop import RunLoop
from raftkv.node.statistics import NodeCounters
from raftkv.raft.entry import Entry, EntryKind, SnapshotPoint, decode_version
from raftkv.raft.running_hash import UNKNOWN
from raftkv.storage.ports import Checkpoint
from raftkv.wire.membership import decode_membership

_DONE = object()
"""An exhausted iteration."""


class ApplyScheduler:
    """Delays an apply for a write to this node's disk that is under way, and for messages.

    An apply of a run of entries keeps the loop busy for longer than an fsync or a message takes. A
    follower that applied first would delay an acknowledgement, and with it the commit; what it
    applies is not urgent.
    """

    def __init__(self, wake: Callable[[], None], write_wait_s_max: float) -> None:
        """`wake` requests another round."""
        self._wake = wake
        self._write_wait_s_max = write_wait_s_max
        self._since_s: float | None = None
        self._write: asyncio.Task[None] | None = None
        self._delayed_for_messages = False

    def is_due(self, write: asyncio.Task[None] | None, now_s: float, *, sends: bool) -> bool:
        """Whether to apply in this round. If not, another round will follow.

        `write` is the node's write whose acknowledgement is not sent yet; `sends` says that this
        round writes or sends something. Each delays an apply once: a later write does not, and the
        messages of a later round do not.
        """
        if self._since_s is None:
            self._since_s, self._write = now_s, write
        # The end of a write, and every tick, start a round.
        waited_s = now_s - self._since_s
        if self._write and not self._write.done() and waited_s < self._write_wait_s_max:
            return False
        if sends and not self._delayed_for_messages:
            self._delayed_for_messages = True
            self._wake()
            return False
        self._since_s, self._write, self._delayed_for_messages = None, None, False
        return True


class Applier:
    """Applies what is committed, and resolves the proposals of this node's clients.

    `applied` is called after each run of entries, with the entries and whether their term is a new
    one.
    """

    def __init__(
        self,
        replica: Replica,
        pending: PendingProposals,
        config: NodeConfig,
        run: RunLoop,
        applied: Callable[[Sequence[Entry], bool], None],
        counters: NodeCounters,
    ) -> None:
        self.changes = ChangeFeed(replica.machine)
        self._replica = replica
        self._pending = pending
        self._config = config
        self._run = run
        self._applied = applied
        self._counters = counters
        self._scheduler = ApplyScheduler(run.wake, config.tick_s)
        self._paused = False
        self.unfinished: Steps[None] | None = None
        """The rest of the run of entries that is being applied; None between two runs."""

    def step(
        self, committed: Sequence[Entry], write: asyncio.Task[None] | None, *, sends: bool
    ) -> None:
        """Begin with `committed` if it is time, and do one step. See `ApplyScheduler.is_due`."""
        if self._paused:
            return
        if (
            committed
            and self.unfinished is None
            and self._scheduler.is_due(write, self._run.loop.time(), sends=sends)
        ):
            self.unfinished = self._apply(committed)
        if self.unfinished is not None:
            # A step takes some milliseconds: the messages of the next round must not be late.
            if next(self.unfinished, _DONE) is _DONE:
                self.unfinished = None
            if self.unfinished is not None or self._replica.raft.can_apply:
                self._run.wake()

    def _apply(self, entries: Sequence[Entry]) -> Steps[None]:
        began_s = self._config.stopwatch()
        self._require_able(entries)
        raft, machine, pending = self._replica.raft, self._replica.machine, self._pending
        term_before = machine.applied_term
        all_applied = yield from machine.apply_in_steps(
            entries, lambda index: raft.log.hash(index) or UNKNOWN
        )
        for applied in all_applied:
            if applied.origin == pending.origin:
                pending.resolve(applied.number, applied.result)
        last = entries[-1]
        raft.applied(last.index)
        new_term = last.term != term_before
        if new_term:
            pending.revive_before(last.term)
        self._applied(entries, new_term)
        self._counters.apply.observe(self._config.stopwatch() - began_s)

    def _require_able(self, entries: Sequence[Entry]) -> None:
        """Raise if the entries raise the cluster version to one that this program does not know.

        Raises `RemovedFromCluster` if the cluster removed the node before, else
        `ConfigurationError`.
        """
        node_id, versions = self._replica.raft.node_id, self._config.versions
        membership = self._replica.machine.membership
        for entry in entries:
            if entry.kind is EntryKind.MEMBERSHIP:
                membership = decode_membership(entry.payload)
            elif entry.kind is EntryKind.VERSION:
                version = decode_version(entry.payload)
                if version not in versions and node_id in membership.removed:
                    raise removed_from_cluster(f"node {node_id}")
                require_version(version, versions)

    async def checkpoint(self) -> tuple[Checkpoint, SnapshotPoint]:
        """Freeze the state as of `last_applied`. Nothing is applied meanwhile."""
        self._paused = True
        try:
            machine = self._replica.machine
            index, term = machine.applied_index, machine.applied_term
            point = SnapshotPoint(
                index, term, machine.membership, machine.applied_hash, self._replica.incarnation
            )
            return await self._replica.storage.checkpoint(index, term), point
        finally:
            self._paused = False
            self._run.wake()

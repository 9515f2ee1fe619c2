"""Automatic compaction: the leader bounds the age and the bytes of the history.

The leader decides how far to compact, and proposes the same command as `raftkv compact`. A
compaction is due where the tighter of the two bounds is exceeded, but the last
`history_revisions_min` revisions stay.

Each node reports the oldest revision that it needs to its leader: the present one, or an older one
that a scan in pages, a read of an old revision or a watch that catches up uses. The leader compacts
beyond the oldest report only what has been due for `history_pin_s_max`. Until a member has
reported, and while it is down, all revisions count as needed. So it is certain that a scan which
began at the latest revision finds its next page for `history_pin_s_max`, while the node that
answered the first page runs; and no client and no member delays a compaction for longer than that.
"""

from __future__ import annotations

from collections import deque

import structlog

from raftkv.node.clocks import ClusterClock
from raftkv.node.config import NodeConfig
from raftkv.node.history_record import HistoryPins, HistoryRecord
from raftkv.node.proposer import Proposer
from raftkv.node.replica import Replica
from raftkv.peer.ports import Author, Submission
from raftkv.rpc.v1 import kv_pb2

INTERVAL_S = 1.0
"""A node reports, and a leader decides, this often."""

KEPT_SHARE = 7 / 8
"""A history with too many bytes is cut down to this share of the bound, not at every write."""


class HistoryCompaction:
    """Records one node's history, reports what this node needs of it, and compacts it at the
    leader.
    """

    def __init__(
        self,
        replica: Replica,
        proposer: Proposer,
        clock: ClusterClock,
        config: NodeConfig,
        needed: dict[int, int],
    ) -> None:
        """`needed` has what the members report."""
        self.record = HistoryRecord(config.history_age_ms_max, config.history_bytes_max)
        self.pins = HistoryPins(config.history_pin_s_max)
        self._replica = replica
        self._proposer = proposer
        self._clock = clock
        self._config = config
        self._needed = needed
        self._due: deque[tuple[float, int]] = deque()
        """The revision up to which compaction was due at earlier decisions of this leader."""
        self._proposed_index = 0
        self._report = 0
        """What the next message to the leader reports; 0: nothing."""
        self._decided_s = 0.0
        self._log = structlog.get_logger("raftkv.node").bind(node=replica.raft.node_id)
        self.state_replaced()

    def state_replaced(self) -> None:
        """The state is another one than before: that of the disk, or of a snapshot."""
        self.record.begin(self._replica.machine, self._replica.storage.store)

    def applied(self) -> None:
        """Entries were applied."""
        machine = self._replica.machine
        self.record.observe(machine.time_ms, machine)

    def begin_role(self) -> None:
        """The term or the role has changed."""
        self._needed.clear()
        self._due.clear()
        self._proposed_index = self._report = 0

    def tick(self, now_s: float) -> None:
        """Prepare the report of what this node needs, or decide, if it is time."""
        if now_s - self._decided_s < INTERVAL_S:
            return
        self._decided_s = now_s
        raft = self._replica.raft
        needed = self.pins.oldest(self._replica.machine.revision, now_s)
        if raft.leads:
            self._needed[raft.node_id] = needed
            if raft.established and not raft.transferee:
                self._compact_if_due(now_s)
        else:
            self._report = needed

    def take_report(self) -> int:
        """The oldest revision that this node needs, if its leader does not know it yet; else 0."""
        report, self._report = self._report, 0
        return report

    def _compact_if_due(self, now_s: float) -> None:
        raft, machine = self._replica.raft, self._replica.machine
        time_ms = self._clock.read_ms(now_s)
        self.record.observe(time_ms, machine)
        due, by = self._due_revision(time_ms)
        if not due:
            return
        revision = self._allowed_revision(due, now_s)
        if revision <= machine.compacted_revision or raft.last_applied < self._proposed_index:
            return
        self._propose(revision, by, now_s)

    def _propose(self, revision: int, by: str, now_s: float) -> None:
        raft, machine = self._replica.raft, self._replica.machine
        command = kv_pb2.Command(compact=kv_pb2.Compact(revision=revision))
        rights = machine.rights
        # The result concerns no client, so the submission has no origin. The leader acts for a user
        # who may compact, if users need rights.
        submission = Submission(
            origin=0,
            number=0,
            commands=kv_pb2.CommandBatch(commands=[command]).SerializeToString(),
            author=Author(rights.root_user(), rights.revision),
        )
        self._log.info(
            "history_compacted",
            term=raft.current_term,
            by=by,
            revision=revision,
            present=machine.revision,
            bytes=self.record.bytes_kept(machine),
        )
        self._proposed_index = self._proposer.propose([submission], now_s)

    def _due_revision(self, time_ms: int) -> tuple[int, str]:
        """The revision up to which compaction is due, and the bound that is exceeded; 0: none."""
        config, machine = self._config, self._replica.machine
        due, by = 0, ""
        if config.history_age_ms_max:
            due, by = self.record.revision_at(time_ms - config.history_age_ms_max), "age"
        bytes_max = config.history_bytes_max
        if bytes_max and self.record.bytes_kept(machine) > bytes_max:
            by_bytes = self.record.revision_keeping(int(bytes_max * KEPT_SHARE), machine)
            if by_bytes > due:
                due, by = by_bytes, "bytes"
        due = min(due, machine.revision - config.history_revisions_min)
        return (due, by) if due > machine.compacted_revision else (0, "")

    def _allowed_revision(self, due: int, now_s: float) -> int:
        """How far to compact of what is due, for what the members need."""
        overdue = 0
        while self._due and now_s - self._due[0][0] >= self._config.history_pin_s_max:
            overdue = max(overdue, self._due.popleft()[1])
        if overdue:
            self._due.appendleft((now_s - self._config.history_pin_s_max, overdue))
        self._due.append((now_s, due))
        members = self._replica.raft.membership.members
        needed = min(self._needed.get(member, 0) for member in members)
        return min(due, max(needed, overdue))

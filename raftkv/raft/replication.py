"""Log replication at the leader (section 5.3): what to send to each peer, and its replies."""

from __future__ import annotations

from raftkv.errors import check
from raftkv.raft.entry import Entry, SnapshotPoint
from raftkv.raft.log import Log, size_of
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from raftkv.raft.outbox import Outbox
from raftkv.raft.progress import Progress, Replication
from raftkv.raft.ready import RaftConfig


class Replicator:
    """The sending side of the leader of `term`; at a node that does not lead, it has no peers."""

    def __init__(
        self, node_id: int, term: int, config: RaftConfig, log: Log, outbox: Outbox
    ) -> None:
        self.progress: dict[int, Progress] = {}
        """By peer: all members but the leader, and the departing. Empty unless the node leads."""

        self.departing: dict[int, int] = {}
        """Peers that left the membership and may not have applied that yet, with the ticks for
        which they still get messages. Each has a `progress`, and at least one tick left."""

        self.ticks = 0
        """Ticks of this leadership."""

        self._node_id = node_id
        self._term = term
        self._config = config
        self._log = log
        self._outbox = outbox
        self._snapshots_wanted: list[int] = []
        """Peers that entered SNAPSHOT since the last `Ready`."""

    # ---- peers -----------------------------------------------------------------------

    def track_members(self, members: frozenset[int]) -> None:
        """Have one `Progress` per peer. A peer that left is kept a while, to receive that entry."""
        for peer in sorted(members - self.progress.keys() - {self._node_id}):
            self.progress[peer] = Progress(
                self._log.last_index + 1,
                self._config.in_flight_messages_max,
                self._config.in_flight_bytes_max,
            )
            self.progress[peer].recently_active = True
        for peer in self.progress.keys() - members - self.departing.keys():
            self.departing[peer] = 2 * self._config.election_ticks_max

    def tick_departing(self, members: frozenset[int]) -> None:
        """Forget departing peers whose ticks are over."""
        for peer in [peer for peer, ticks in self.departing.items() if ticks <= 1]:
            del self.departing[peer]
            if peer not in members:
                self.progress.pop(peer, None)
        for peer in self.departing:
            self.departing[peer] -= 1

    def take_active(self) -> frozenset[int]:
        """The peers that have sent a message since the last call."""
        active = [peer for peer, progress in self.progress.items() if progress.recently_active]
        for progress in self.progress.values():
            progress.recently_active = False
        return frozenset(active)

    # ---- sending ---------------------------------------------------------------------

    def replicate(self, commit_index: int) -> None:
        """Send every peer the entries it lacks, as far as flow control allows."""
        last_index = self._log.last_index
        for peer, progress in self.progress.items():
            while not progress.paused and (
                progress.next_index <= last_index or progress.replication is Replication.PROBE
            ):
                if not self._send_entries(peer, progress, commit_index):
                    break
            commit_due = min(commit_index, progress.match_index, progress.commit_wanted)
            if progress.commit_sent < commit_due:
                self._send_heartbeat(peer, progress, commit_index, read_round=0)

    def _send_entries(self, peer: int, progress: Progress, commit_index: int) -> bool:
        prev_index = progress.next_index - 1
        prev_term = self._log.term(prev_index)
        if prev_term is None:
            if progress.recently_active:
                progress.become_snapshot()
                self._snapshots_wanted.append(peer)
            return False
        entries = self._log.entries(
            progress.next_index, self._log.last_index + 1, self._config.append_bytes_max
        )
        progress.sent(prev_index + len(entries), sum(map(size_of, entries)))
        progress.commit_sent = min(commit_index, prev_index + len(entries))
        self._send_append(peer, prev_index, prev_term, commit_index, entries)
        return True

    def _send_append(
        self,
        peer: int,
        prev_index: int,
        prev_term: int,
        commit_index: int,
        entries: tuple[Entry, ...] = (),
    ) -> None:
        self._outbox.send(
            AppendEntries(
                self._node_id,
                peer,
                self._term,
                prev_index,
                prev_term,
                commit_index,
                entries,
                self._log.hash(prev_index) or 0,
            )
        )

    def broadcast_heartbeat(self, commit_index: int, read_round: int) -> None:
        """Send every peer a heartbeat that opens `read_round` (0: no read round)."""
        for peer, progress in self.progress.items():
            self._send_heartbeat(peer, progress, commit_index, read_round)

    def _send_heartbeat(
        self, peer: int, progress: Progress, commit_index: int, read_round: int
    ) -> None:
        # A peer's log is only known to agree up to its match index.
        commit = min(commit_index, progress.match_index)
        progress.commit_sent = commit
        self._outbox.send(Heartbeat(self._node_id, peer, self._term, commit, read_round))

    def probe_for_losses(self, commit_index: int) -> None:
        """Allow every peer in PROBE another probe, and send an empty AppendEntries to every peer
        that lags in REPLICATE: if the last entries were lost, only a rejection shows it.
        """
        for peer, progress in self.progress.items():
            progress.probe_sent = False
            if progress.replication is Replication.REPLICATE:
                self._check_pipeline(peer, progress, commit_index)

    def _check_pipeline(self, peer: int, progress: Progress, commit_index: int) -> None:
        prev_index = progress.next_index - 1
        prev_term = self._log.term(prev_index)
        if prev_term is None:
            progress.become_probe()  # the entry before next_index is compacted
        elif progress.match_index < prev_index:
            self._send_append(peer, prev_index, prev_term, commit_index)

    def take_snapshots_wanted(self) -> tuple[int, ...]:
        """Peers that need a snapshot since the last call."""
        wanted, self._snapshots_wanted = self._snapshots_wanted, []
        return tuple(wanted)

    # ---- replies ---------------------------------------------------------------------

    def received(self, peer: int) -> None:
        """A message of the peer in our term has arrived."""
        progress = self.progress[peer]
        progress.recently_active = True
        # Any message of a peer that has every entry counts as an acknowledgement. One that lacks
        # entries has to acknowledge some: a node whose disk hangs answers heartbeats, too.
        if progress.match_index == self._log.last_index:
            progress.acknowledged_tick = self.ticks

    def acknowledging(self, after_tick: int) -> frozenset[int]:
        """The peers that have acknowledged in a later tick than this one, and the leader."""
        peers = (p for p, each in self.progress.items() if each.acknowledged_tick > after_tick)
        return frozenset(peers) | {self._node_id}

    def acknowledge(self, peer: int, match_index: int) -> bool:
        """The peer has everything up to `match_index` on disk. True if `match_index` rises."""
        check(
            match_index <= self._log.last_index,
            "no follower has what its leader has not",
            follower=peer,
            match_index=match_index,
            last_index=self._log.last_index,
        )
        progress = self.progress[peer]
        advanced = progress.acknowledge(match_index)
        if advanced or match_index == self._log.last_index:
            progress.acknowledged_tick = self.ticks
        if progress.replication is Replication.PROBE or (
            progress.replication is Replication.SNAPSHOT
            and progress.match_index >= self._log.compacted_index
        ):
            progress.become_replicate()
        return advanced

    def reject(self, message: AppendEntriesReply) -> None:
        """The peer rejected entries: go back to where the two logs may agree (section 5.3)."""
        agreement, _ = self._log.last_agreement(message.conflict_index, message.conflict_term)
        self.progress[message.sender].reject(message.match_index, agreement)

    def probe_at(self, peer: int, index: int) -> None:
        """The peer's log up to `index` has another running hash: send an AppendEntries there."""
        progress = self.progress[peer]
        progress.become_probe()
        progress.next_index = max(index, progress.match_index) + 1

    def match_index_of(self, member: int) -> int:
        """How far the log on this member's disk is known to agree with ours."""
        # Never called for a leader that is no voter: it does not count itself (section 6).
        if member == self._node_id:
            return self._log.persisted_index
        return self.progress[member].match_index

    def want_commit(self, peer: int) -> None:
        """See `Raft.want_commit`."""
        progress = self.progress.get(peer)
        if progress is not None:
            progress.commit_wanted = self._log.last_index

    def snapshot_sent(self, peer: int, point: SnapshotPoint) -> None:
        """The transfer has ended; it failed if `point` is empty."""
        progress = self.progress.get(peer)
        if progress is not None and progress.replication is Replication.SNAPSHOT:
            progress.become_probe(point.last_included_index)
            # The peer may have everything before our first uncompacted index already, perhaps from
            # a snapshot whose acknowledgement was lost. It would refuse every other snapshot, so
            # probe there.
            progress.next_index = max(progress.next_index, self._log.compacted_index + 1)
            progress.probe_sent = True

    def unreachable(self, peer: int) -> None:
        """The link to the peer broke: messages in flight may be lost."""
        progress = self.progress.get(peer)
        if progress is not None and progress.replication is Replication.REPLICATE:
            progress.become_probe()

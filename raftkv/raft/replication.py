"""What a leader sends so that every peer's log becomes its own. Knows progress and the log; roles,
votes and what commits are its caller's.
"""

from __future__ import annotations

from raftkv.errors import check
from raftkv.raft.entry import Entry, SnapshotPoint
from raftkv.raft.log import Log, size_of
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from raftkv.raft.outbox import Outbox
from raftkv.raft.progress import Progress, Replication
from raftkv.raft.ready import RaftConfig


class Replicator:
    """The sending side of one leader in its `term`; of a node that does not lead, without peers.

    `progress` holds everybody who is talked to, those in `departing` included.
    """

    def __init__(
        self, node_id: int, term: int, config: RaftConfig, log: Log, outbox: Outbox
    ) -> None:
        self.progress: dict[int, Progress] = {}
        self.departing: dict[int, int] = {}  # removed, and may not have heard of it: ticks left
        self.ticks = 0
        self._node_id = node_id
        self._term = term
        self._config = config
        self._log = log
        self._outbox = outbox
        self._snapshots_wanted: list[int] = []

    # ---- who is talked to ------------------------------------------------------------

    def track_members(self, members: frozenset[int]) -> None:
        """One `Progress` per peer; who left is kept until it has heard that it did."""
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
        """Forget who has had its time to hear that it is no member any more."""
        for peer in [peer for peer, ticks in self.departing.items() if ticks <= 1]:
            del self.departing[peer]
            if peer not in members:
                self.progress.pop(peer, None)
        for peer in self.departing:
            self.departing[peer] -= 1

    def take_active(self) -> frozenset[int]:
        """The peers that were heard from since this was last asked."""
        active = [peer for peer, progress in self.progress.items() if progress.recently_active]
        for progress in self.progress.values():
            progress.recently_active = False
        return frozenset(active)

    # ---- sending ---------------------------------------------------------------------

    def replicate(self, commit_index: int) -> None:
        """Send every peer what it lacks, as far as its window allows."""
        last_index = self._log.last_index
        for peer, progress in self.progress.items():
            while not progress.paused and (
                progress.next_index <= last_index or progress.replication is Replication.PROBE
            ):
                if not self._send_entries(peer, progress, commit_index):
                    break
            news = min(commit_index, progress.match_index, progress.commit_wanted)
            if progress.commit_told < news:
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
        progress.commit_told = min(commit_index, prev_index + len(entries))
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
        for peer, progress in self.progress.items():
            self._send_heartbeat(peer, progress, commit_index, read_round)

    def _send_heartbeat(
        self, peer: int, progress: Progress, commit_index: int, read_round: int
    ) -> None:
        # A peer's log is only known to agree up to its match index.
        commit = min(commit_index, progress.match_index)
        progress.commit_told = commit
        self._outbox.send(Heartbeat(self._node_id, peer, self._term, commit, read_round))

    def look_for_losses(self, commit_index: int) -> None:
        """Send a lost probe again, and ask whether the last entries reached who lags: they may
        have been lost, and no later ones would make it say so.
        """
        for peer, progress in self.progress.items():
            progress.probe_sent = False
            if progress.replication is Replication.REPLICATE:
                self._check_pipeline(peer, progress, commit_index)

    def _check_pipeline(self, peer: int, progress: Progress, commit_index: int) -> None:
        prev_index = progress.next_index - 1
        prev_term = self._log.term(prev_index)
        if prev_term is None:
            progress.become_probe()  # what to ask about is compacted away: start over
        elif progress.match_index < prev_index:
            self._send_append(peer, prev_index, prev_term, commit_index)

    def take_snapshots_wanted(self) -> tuple[int, ...]:
        """Peers whose entries turned out to be compacted away."""
        wanted, self._snapshots_wanted = self._snapshots_wanted, []
        return tuple(wanted)

    # ---- what is heard back ----------------------------------------------------------

    def heard(self, peer: int) -> None:
        """The peer has sent something in our term."""
        progress = self.progress[peer]
        progress.recently_active = True
        # Any message of a peer that has every entry counts as an acknowledgement. One that lacks
        # entries has to acknowledge some: a node whose disk hangs answers heartbeats, too.
        if progress.match_index == self._log.last_index:
            progress.acknowledged_tick = self.ticks

    def acknowledging(self, after_tick: int) -> frozenset[int]:
        """Who has acknowledged in a later tick than this one, the leader itself included."""
        peers = (p for p, each in self.progress.items() if each.acknowledged_tick > after_tick)
        return frozenset(peers) | {self._node_id}

    def acknowledge(self, peer: int, match_index: int) -> bool:
        """The peer has everything up to `match_index` on disk. True if that is news."""
        check(
            match_index <= self._log.last_index,
            "no follower has what its leader has not",
            follower=peer,
            match_index=match_index,
            last_index=self._log.last_index,
        )
        progress = self.progress[peer]
        news = progress.acknowledge(match_index)
        if news or match_index == self._log.last_index:
            progress.acknowledged_tick = self.ticks
        if progress.replication is Replication.PROBE or (
            progress.replication is Replication.SNAPSHOT
            and progress.match_index >= self._log.compacted_index
        ):
            progress.become_replicate()
        return news

    def refuse(self, message: AppendEntriesReply) -> None:
        """The peer's log does not fit: go back to where the two may agree (section 5.3)."""
        agreement, _ = self._log.last_agreement(message.conflict_index, message.conflict_term)
        self.progress[message.sender].refuse(message.match_index, agreement)

    def suspect(self, peer: int, index: int) -> None:
        """The peer's log is another one up to `index`: ask it about just that index."""
        progress = self.progress[peer]
        progress.become_probe()
        progress.next_index = max(index, progress.match_index) + 1

    def match_index_of(self, member: int) -> int:
        """How far the log on this member's disk is known to agree with ours."""
        # A leader that is no voter is never asked for: it does not count itself (section 6).
        if member == self._node_id:
            return self._log.persisted_index
        return self.progress[member].match_index

    def want_commit(self, peer: int) -> None:
        progress = self.progress.get(peer)
        if progress is not None:
            progress.commit_wanted = self._log.last_index

    def snapshot_sent(self, peer: int, point: SnapshotPoint) -> None:
        progress = self.progress.get(peer)
        if progress is not None and progress.replication is Replication.SNAPSHOT:
            progress.snapshot_index = point.last_included_index
            progress.become_probe()
            # Whoever has what was compacted, a snapshot of ours perhaps whose acknowledgement was
            # lost, needs no other one, and would refuse it for ever: ask from there.
            progress.next_index = max(progress.next_index, self._log.compacted_index + 1)
            progress.probe_sent = True

    def unreachable(self, peer: int) -> None:
        progress = self.progress.get(peer)
        if progress is not None and progress.replication is Replication.REPLICATE:
            progress.become_probe()

"""The consensus core: every transition of a Raft node, driven by calls and read through `ready()`.

Section and figure numbers are those of the extended Raft paper; "dissertation" is Ongaro's.
Input: tick, step, propose, read_index, propose_membership, transfer_leadership, and the driver's
reports (persisted, applied, snapshot_...). The core does no IO and reads no clock; its only chance
is the `Random` that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from raftkv.errors import InvariantViolation, MembershipRefused, check
from raftkv.raft import breach, quorum
from raftkv.raft.entry import (
    Address,
    Entry,
    EntryKind,
    HardState,
    Membership,
    SnapshotPoint,
    encode_version,
)
from raftkv.raft.membership import (
    MembershipCodec,
    MembershipLog,
    enter,
    leave,
    require_majorities,
)
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raftkv.raft.outbox import Outbox
from raftkv.raft.progress import Progress
from raftkv.raft.quorum import Vote
from raftkv.raft.read_index import ReadRequest, ReadRounds
from raftkv.raft.ready import ConfirmedRead, Persist, PersistedState, RaftConfig, RaftRole, Ready
from raftkv.raft.replication import Replicator
from raftkv.raft.running_hash import agree

if TYPE_CHECKING:
    from random import Random

FROM_LEADER = (AppendEntries, Heartbeat, InstallSnapshot)


class Raft:
    """One node of the cluster, as the algorithm sees it.

    Raises `InvariantViolation` when a safety property does not hold: the node must stop and must
    not answer.
    """

    def __init__(
        self,
        node_id: int,
        config: RaftConfig,
        codec: MembershipCodec,
        rng: Random,
        persisted: PersistedState,
    ) -> None:
        log, hard_state = persisted.log, persisted.hard_state
        self.node_id = node_id
        """Never 0, which means "no node" in `voted_for`, `leader_id` and `transferee`."""

        self.log = log
        """`log.compacted_index <= last_applied <= commit_index <= log.last_index`, and
        `log.last_term <= current_term` (figure 2)."""

        self.current_term = hard_state.current_term
        """The latest term that this node has seen (figure 2). Never decreases. On disk before any
        message of the term leaves that promises something."""

        self.voted_for = hard_state.voted_for
        """The candidate that has this node's vote in `current_term`, 0 if none (figure 2). Within
        a term it changes only from 0. On disk before the vote leaves. Pre-votes leave it alone."""

        self.commit_index = max(hard_state.commit_index, persisted.applied_index)
        """The highest entry known to be committed (figure 2). Never decreases."""

        self.last_applied = persisted.applied_index
        """The highest entry that the state machine has applied (figure 2). Never decreases, and
        `last_applied <= min(commit_index, log.persisted_index)`: no crash leaves the state machine
        ahead of the log."""

        self.passive = False
        """Peers report that this node was removed: it sends pre-votes, because the answers show
        whether that is true, and becomes no candidate. Set by the driver."""

        self._config = config
        self._codec = codec
        self._rng = rng
        self._memberships = MembershipLog(persisted.applied_index, persisted.membership, codec)
        """The membership at `last_applied` and all later ones in the log; the last one is in force,
        committed or not (section 6)."""

        self._term_start_index = 0
        """The index of the leader's own no-op (section 8). Meaningful only at a leader."""

        self._leaderless_ticks = 0
        """Ticks since the last message of any leader, or since the start: the last process on this
        disk may have received one. No change of role or term resets it (dissertation 6.4.1)."""

        self._outbox = Outbox(hard_state)
        """Messages for the next `Ready`, and messages that await a write."""

        self._reads: list[ConfirmedRead] = []
        """Confirmed reads of this node for the next `Ready`."""

        self._installing: InstallSnapshot | None = None
        """The snapshot that is to replace log and state (section 7). While there is one, the node
        appends and commits nothing and stands for no election."""

        self._install_in_ready = False
        """Whether a `Ready` has handed out `_installing`. Implies `_installing is not None`; no
        write to the log begins while it is true."""

        check(
            log.compacted_index <= self.last_applied
            and self.commit_index <= log.last_index
            and log.last_term <= self.current_term,
            "what was persisted fits together",
            compacted=log.compacted_index,
            applied=self.last_applied,
            commit=self.commit_index,
            last=(log.last_term, log.last_index),
            term=self.current_term,
        )
        self._memberships.read(log, self.last_applied + 1)
        self._reset_role(RaftRole.FOLLOWER)

    def _reset_role(self, role: RaftRole) -> None:
        """Begin a role: all that follows lives as long as the role."""
        config = self._config
        self.role = role
        """FOLLOWER after a start. Only a PRE_CANDIDATE, or the target of a leadership transfer,
        becomes a CANDIDATE; only a CANDIDATE becomes LEADER."""

        self.leader_id = 0
        """The leader of `current_term`, 0 if unknown. `leader_id == node_id` if and only if this
        node leads. A term has one leader (election safety, figure 3)."""

        self.transferee = 0
        """The voter that a leadership transfer is under way to (dissertation 3.10), 0 if none. 0
        unless this node leads. While it is set, nothing is proposed."""

        self._transfer_offered = False
        """Whether a leadership transfer began in this leadership, whatever its end: a TimeoutNow
        may still arrive, so there is no leader lease any more."""

        self._replicator = Replicator(
            self.node_id, self.current_term, config, self.log, self._outbox
        )
        """The progress of all peers. Without peers unless this node leads."""

        self._transfer_elapsed = 0
        """Ticks since the transfer to `transferee` began. Meaningless without one. The ticks of
        check-quorum are counted apart: transfers that are repeated must not postpone it."""

        self._votes: dict[int, bool] = {}
        """By voter, whether it granted its (pre-)vote in this candidacy; the first answer counts.
        Empty unless this node is a pre-candidate or candidate."""

        self._rounds = ReadRounds(self.node_id)
        """The ReadIndex rounds of this leadership (dissertation 6.4)."""

        self._election_elapsed = 0
        """At a leader, ticks since its last check-quorum. At others, ticks since the role began,
        the leader's last message, a granted vote or the last election timeout."""

        self._heartbeat_elapsed = 0
        """At a leader, ticks since its last heartbeats; below `heartbeat_ticks` between ticks."""

        self._election_timeout = self._rng.randint(
            config.election_ticks_min, config.election_ticks_max
        )
        """In ticks (section 5.2). A node that does not lead starts an election when
        `_election_elapsed` reaches it."""

    # ---- state -----------------------------------------------------------------------

    @property
    def membership(self) -> Membership:
        """The membership in force, committed or not."""
        return self._memberships.current

    @property
    def membership_committed(self) -> bool:
        return self._memberships.current_index <= self.commit_index

    @property
    def electable(self) -> bool:
        """A voter that is not waiting for a snapshot.

        A voter whose removal is not committed still counts: if only its log has that entry, no
        other candidate can win, and without it the removal would never commit (dissertation 4.2.2).
        """
        voter = self.node_id in self._memberships.voters_since(self.commit_index)
        return voter and self._installing is None

    @property
    def leads(self) -> bool:
        return self.role is RaftRole.LEADER

    @property
    def committed_in_term(self) -> bool:
        """The leader has committed an entry of its own term, so its commit index is up to date."""
        return self.leads and self.commit_index >= self._term_start_index

    @property
    def established(self) -> bool:
        """The leader has applied its own no-op: its state holds all that was committed before."""
        return self.leads and self.last_applied >= self._term_start_index

    @property
    def may_lease(self) -> bool:
        """Whether the followers of this leader elect no other within an election timeout.

        They may after the begin of a leadership transfer: a TimeoutNow may arrive late.
        """
        return self._config.leader_lease and self.leads and not self._transfer_offered

    @property
    def progress(self) -> Mapping[int, Progress]:
        """A leader's progress of its peers; empty at all other nodes."""
        return self._replicator.progress

    @property
    def ticks_led(self) -> int:
        """How long this node has led, in ticks; 0 at all others."""
        return self._replicator.ticks

    def acknowledging(self, after_tick: int) -> frozenset[int]:
        """The members that have acknowledged in a later tick of this leadership, and the leader.

        Acknowledgements within one tick are not ordered.
        """
        return self._replicator.acknowledging(after_tick)

    @property
    def peers(self) -> frozenset[int]:
        """All nodes that this node may exchange messages with, departing members included.

        A leader that leaves needs its followers' answers until its removal is committed.
        """
        return (self._memberships.members | self._replicator.departing.keys()) - {self.node_id}

    @property
    def addresses(self) -> Mapping[int, Address]:
        """Where the peers are reached; one that has left is missing once that is applied."""
        return self._memberships.addresses

    @property
    def peers_version(self) -> tuple[int, int]:
        """Differs whenever `peers` may."""
        return self._memberships.version, len(self._replicator.departing)

    @property
    def can_apply(self) -> bool:
        """There are committed entries that `ready()` has not handed out yet."""
        return self.last_applied < self._applicable_index and self._installing is None

    @property
    def _applicable_index(self) -> int:
        """The last entry that may be applied: committed, and on our own disk."""
        return min(self.commit_index, self.log.persisted_index)

    # ---- time ------------------------------------------------------------------------

    def tick(self) -> None:
        """One unit of time has passed."""
        self._election_elapsed += 1
        self._leaderless_ticks += 1
        if self.leads:
            self._tick_leader()
        elif self._election_elapsed >= self._election_timeout:
            self._election_elapsed = 0
            if self.electable:
                self._become_pre_candidate()
            else:
                self.leader_id = 0

    def _tick_leader(self) -> None:
        self._heartbeat_elapsed += 1
        self._replicator.ticks += 1
        self._transfer_elapsed += 1
        if self._transfer_elapsed >= self._config.election_ticks_min:
            self.transferee = 0
        if self._election_elapsed >= self._config.election_ticks_min:
            self._election_elapsed = 0
            if not self._quorum_is_active():
                self._become_follower(self.current_term, leader_id=0)
                return
        if self._heartbeat_elapsed >= self._config.heartbeat_ticks:
            self._heartbeat_elapsed = 0
            self._replicator.broadcast_heartbeat(self.commit_index, self._rounds.number)
            self._replicator.probe_for_losses(self.commit_index)
        self._replicator.tick_departing(self.membership.members)

    def _quorum_is_active(self) -> bool:
        """Check-quorum (dissertation 6.2): a leader without an active quorum steps down."""
        active = self._replicator.take_active() | {self.node_id}
        return quorum.agreed(self.membership, lambda member: int(member in active)) == 1

    # ---- roles -----------------------------------------------------------------------

    def _become_follower(self, term: int, leader_id: int) -> None:
        check(term >= self.current_term, "terms never go back", term=term, now=self.current_term)
        if term > self.current_term:
            self.current_term = term
            self.voted_for = 0
        self._reset_role(RaftRole.FOLLOWER)
        self.leader_id = leader_id

    def _become_pre_candidate(self) -> None:
        """Ask whether an election could be won, without raising any term (dissertation 9.6)."""
        self._reset_role(RaftRole.PRE_CANDIDATE)
        self._votes[self.node_id] = True
        self._request_votes(self.current_term + 1, pre_vote=True, leadership_transfer=False)
        self._count_votes()

    def _become_candidate(self, *, leadership_transfer: bool = False) -> None:
        self.current_term += 1
        self.voted_for = self.node_id
        self._reset_role(RaftRole.CANDIDATE)
        # Our own vote counts when it is on disk, like every other vote.
        self._outbox.promise(
            RequestVoteReply(self.node_id, self.node_id, self.current_term, granted=True)
        )
        self._request_votes(
            self.current_term, pre_vote=False, leadership_transfer=leadership_transfer
        )

    def _become_leader(self) -> None:
        check(self.role is RaftRole.CANDIDATE, "only a candidate becomes leader", role=self.role)
        self._reset_role(RaftRole.LEADER)
        self.leader_id = self.node_id
        self._replicator.track_members(self.membership.members)
        self._term_start_index = self.log.last_index + 1
        self._append(EntryKind.NOOP, [b""])
        self._replicator.broadcast_heartbeat(self.commit_index, self._rounds.number)

    # ---- elections (sections 5.2, 5.4.1) ---------------------------------------------

    def _request_votes(self, term: int, *, pre_vote: bool, leadership_transfer: bool) -> None:
        last_index, last_term = self.log.last_index, self.log.last_term
        for peer in sorted(self.membership.all_voters - {self.node_id}):
            self._outbox.promise(
                RequestVote(
                    self.node_id,
                    peer,
                    term,
                    last_index,
                    last_term,
                    pre_vote,
                    leadership_transfer,
                    self.log.hash(last_index) or 0,
                )
            )

    def _count_votes(self) -> None:
        vote = quorum.tally(self.membership, self._votes)
        if vote is Vote.LOST or (vote is Vote.WON and self.passive):
            self._become_follower(self.current_term, leader_id=0)
        elif vote is Vote.WON and self.role is RaftRole.PRE_CANDIDATE:
            self._become_candidate()
        elif vote is Vote.WON:
            self._become_leader()

    def _handle_request_vote(self, message: RequestVote) -> None:
        last_index, last_term = message.last_log_index, message.last_log_term
        # The candidate's last entry has the index and term of one of ours, but another running
        # hash: its log is another history, and following it would lose ours.
        up_to_date = self.log.is_up_to_date(last_index, last_term) and not (
            self.log.matches(last_index, last_term)
            and self.log.contradicts(last_index, last_term, message.last_log_hash)
        )
        if message.pre_vote:
            granted = message.term > self.current_term and up_to_date
            term = message.term if granted else self.current_term
        else:
            free = not self._lease_forbids_vote or message.leadership_transfer
            granted = free and up_to_date and self.voted_for in (0, message.sender)
            term = self.current_term
            if granted:
                self.voted_for = message.sender
                self._election_elapsed = 0
        self._outbox.promise(
            RequestVoteReply(self.node_id, message.sender, term, granted, message.pre_vote)
        )

    @property
    def _lease_forbids_vote(self) -> bool:
        """Whether a leader's lease may still rely on this node's vote (dissertation 6.4.1)."""
        config = self._config
        return config.leader_lease and self._leaderless_ticks < config.election_ticks_min

    def _handle_request_vote_reply(self, message: RequestVoteReply) -> None:
        asked = RaftRole.PRE_CANDIDATE if message.pre_vote else RaftRole.CANDIDATE
        if self.role is asked:
            self._votes.setdefault(message.sender, message.granted)
            self._count_votes()

    def _handle_timeout_now(self, message: TimeoutNow) -> None:
        # Only the leader may start a leadership transfer.
        able = self.electable and not self.passive
        if able and message.sender == self.leader_id != self.node_id:
            self._become_candidate(leadership_transfer=True)

    # ---- messages --------------------------------------------------------------------

    def step(self, message: Message) -> None:
        """A message has arrived. It may be old, repeated or out of order.

        Raises `breach.ProtocolBreach`, and has done nothing then.
        """
        if message.term < self.current_term:
            self._answer_stale(message)
            return
        self._require_no_breach(message)
        if message.term > self.current_term and not self._accepts_term_of(message):
            return
        self._dispatch(message)

    def _require_no_breach(self, message: Message) -> None:
        in_term = message.term == self.current_term
        if isinstance(message, FROM_LEADER):
            if in_term:
                breach.require_one_leader(message, self.leader_id)
            if self._installing is None:
                breach.require_one_history(message, self.log, self.commit_index)
        elif in_term and self.leads and message.sender in self.progress:
            breach.require_own_question(message, self.log.last_index, self._rounds.number)

    def _accepts_term_of(self, message: Message) -> bool:
        """Adopt a higher term (section 5.1). False: the message is to be ignored."""
        if isinstance(message, RequestVote):
            # Leader stickiness (dissertation 4.2.3): while a leader is active, no candidate may
            # raise the term, except in a leadership transfer.
            leader_active = self.leader_id != 0 and (
                self.leads or self._election_elapsed < self._config.election_ticks_min
            )
            if (leader_active or self._lease_forbids_vote) and not message.leadership_transfer:
                return False
            if message.pre_vote:
                return True
        if isinstance(message, RequestVoteReply) and message.pre_vote and message.granted:
            # The answer to our own question about the next term.
            return message.term == self.current_term + 1
        leader_id = message.sender if isinstance(message, FROM_LEADER) else 0
        self._become_follower(message.term, leader_id)
        return True

    def _answer_stale(self, message: Message) -> None:
        """Answer with our term, so that a deposed leader or a late candidate steps down."""
        me, sender, term = self.node_id, message.sender, self.current_term
        if isinstance(message, FROM_LEADER):
            self._outbox.promise(HeartbeatReply(me, sender, term, read_round=0))
        elif isinstance(message, RequestVote):
            self._outbox.promise(
                RequestVoteReply(me, sender, term, granted=False, pre_vote=message.pre_vote)
            )

    def _dispatch(self, message: Message) -> None:
        if isinstance(message, FROM_LEADER):
            self._observe_leader(message.sender)
        elif self.leads and message.sender in self.progress:
            self._replicator.received(message.sender)
        match message:
            case AppendEntries():
                self._handle_append_entries(message)
            case AppendEntriesReply():
                self._handle_append_entries_reply(message)
            case Heartbeat():
                self._handle_heartbeat(message)
            case HeartbeatReply():
                self._handle_heartbeat_reply(message)
            case RequestVote():
                self._handle_request_vote(message)
            case RequestVoteReply():
                self._handle_request_vote_reply(message)
            case InstallSnapshot():
                self._handle_install_snapshot(message)
            case ReadIndex():
                self._handle_read_index(message)
            case ReadIndexReply():
                self._reads.append(ConfirmedRead(message.context, message.read_index))
            case TimeoutNow():
                self._handle_timeout_now(message)

    def _observe_leader(self, leader_id: int) -> None:
        if self.role is not RaftRole.FOLLOWER:
            self._become_follower(self.current_term, leader_id)
        self.leader_id = leader_id
        self._election_elapsed = self._leaderless_ticks = 0

    # ---- log replication: follower (section 5.3) -------------------------------------

    def _handle_append_entries(self, message: AppendEntries) -> None:
        if self._installing is not None:
            return
        leader, prev_index = message.sender, message.prev_log_index
        if prev_index < self.commit_index:
            self._acknowledge(leader, self.commit_index)
        elif self.log.matches(prev_index, message.prev_log_term):
            self.log.merge(message.entries, self.commit_index)
            self._memberships.follow(self.log, message.entries)
            last_new = prev_index + len(message.entries)
            self._commit_to(min(message.leader_commit, last_new))
            self._acknowledge(leader, last_new)
        else:
            index, term = self.log.last_agreement(prev_index, message.prev_log_term)
            self._outbox.promise(
                AppendEntriesReply(
                    self.node_id,
                    leader,
                    self.current_term,
                    success=False,
                    match_index=prev_index,
                    conflict_index=index,
                    conflict_term=term,
                )
            )

    def _acknowledge(self, leader: int, match_index: int) -> None:
        """Acknowledge everything up to `match_index` once it is on our disk."""
        self._outbox.acknowledge(
            AppendEntriesReply(
                self.node_id,
                leader,
                self.current_term,
                success=True,
                match_index=match_index,
                match_hash=self.log.hash(match_index) or 0,
            )
        )

    def _handle_heartbeat(self, message: Heartbeat) -> None:
        self._commit_to(message.leader_commit)
        if message.read_round:
            # The reply promises nothing about our disk, so it does not wait for an fsync.
            self._outbox.send(
                HeartbeatReply(self.node_id, message.sender, self.current_term, message.read_round)
            )

    def _commit_to(self, index: int) -> None:
        if index > self.commit_index and self._installing is None:
            check(index <= self.log.last_index, "only what is in the log commits", index=index)
            self.commit_index = index

    # ---- log replication: leader -----------------------------------------------------

    def propose(self, payloads: Sequence[bytes]) -> int | None:
        """Append one COMMANDS entry per payload; the index of the first, None if that's refused.

        Only a leader without a leadership transfer under way accepts it.
        """
        if not self.leads or self.transferee:
            return None
        first_index = self.log.last_index + 1
        self._append(EntryKind.COMMANDS, payloads)
        return first_index

    def _append(self, kind: EntryKind, payloads: Sequence[bytes]) -> None:
        next_index = self.log.last_index + 1
        entries = [
            Entry(self.current_term, next_index + offset, kind, payload)
            for offset, payload in enumerate(payloads)
        ]
        self.log.append(entries)
        for entry in entries:
            self._memberships.append(entry)

    def _handle_append_entries_reply(self, message: AppendEntriesReply) -> None:
        if not self.leads or message.sender not in self.progress:
            return
        if not message.success:
            self._replicator.reject(message)
            return
        own_hash = self.log.hash(message.match_index)
        if own_hash is not None and not agree(own_hash, message.match_hash):
            # The acknowledgement does not count. An AppendEntries at that index makes the peer
            # notice that the histories differ.
            self._replicator.probe_at(message.sender, message.match_index)
            return
        if self._replicator.acknowledge(message.sender, message.match_index):
            self._advance_commit()
        if message.sender == self.transferee:
            self._send_timeout_now_if_caught_up()

    def _advance_commit(self) -> None:
        """Commit what a majority has on disk (figure 2, rules for leaders)."""
        index = quorum.agreed(self.membership, self._replicator.match_index_of)
        # Only an entry of our own term proves that no later leader can overwrite it;
        # older entries commit with it, never by count (section 5.4.2, figure 8).
        if index <= self.commit_index or self.log.term(index) != self.current_term:
            return
        self.commit_index = index
        if self.membership_committed and self.membership.joint:
            self._propose_membership_entry(leave(self.membership))
        if self.membership_committed and self.node_id not in self.membership.voters:
            self._replicator.broadcast_heartbeat(self.commit_index, read_round=0)
            self._become_follower(self.current_term, leader_id=0)

    def want_commit(self, peer: int) -> None:
        """Send this peer the commit index as soon as all that is in the log now has committed: a
        client of that peer waits for it.

        Other peers get the commit index with the next entries or heartbeat, so that an entry costs
        a peer one message, not two.
        """
        self._replicator.want_commit(peer)

    # ---- linearizable reads (dissertation 6.4) ---------------------------------------

    def read_index(self, context: int) -> bool:
        """Ask for an index that makes a read linearizable; the answer comes in `Ready.reads`.

        False if no leader is known. An answer may get lost: ask again under the same context.
        """
        if self.leads:
            self._rounds.add(ReadRequest(self.node_id, context))
        elif self.leader_id:
            self._outbox.send(ReadIndex(self.node_id, self.leader_id, self.current_term, context))
        else:
            return False
        return True

    def _handle_read_index(self, message: ReadIndex) -> None:
        if self.leads:
            self._rounds.add(ReadRequest(message.sender, message.context))

    def _start_read_round(self) -> None:
        # Before its own first commit a leader does not know how far its predecessors got.
        if self._rounds.waiting and self.committed_in_term:
            read_round = self._rounds.start(self.commit_index)
            self._replicator.broadcast_heartbeat(self.commit_index, read_round)
            self._confirm_reads()

    def _handle_heartbeat_reply(self, message: HeartbeatReply) -> None:
        peer = message.sender
        if peer in self.progress and self._rounds.answer(peer, message.read_round):
            self._confirm_reads()

    def _confirm_reads(self) -> None:
        number = quorum.agreed(self.membership, self._rounds.answered_by)
        for confirmed in self._rounds.confirm(number):
            for request in confirmed.requests:
                self._answer_read(request, confirmed.read_index)

    def _answer_read(self, request: ReadRequest, index: int) -> None:
        requester, context = request.requester, request.context
        if requester == self.node_id:
            self._reads.append(ConfirmedRead(context, index))
        else:
            self.want_commit(requester)
            self._outbox.send(
                ReadIndexReply(self.node_id, requester, self.current_term, context, index)
            )

    # ---- membership (section 6) ------------------------------------------------------

    def propose_membership(self, target: Membership, *, force: bool = False) -> int:
        """Start the change to `target`; the index of its first entry.

        If voters change it goes through a joint membership, which the leader leaves by
        itself. Raises `MembershipRefused` if it can't start now, or never; without `force` also if
        the members that have acknowledged within an election timeout are too few to commit it, or
        to commit anything after it.
        """
        if not self.leads:
            raise MembershipRefused("only the leader changes the membership; ask it")
        if self.transferee:
            raise _not_yet("leadership is being transferred; ask the next leader")
        # Without an entry of our own term an older, uncommitted change may still be alive.
        if not self.committed_in_term:
            raise _not_yet("the leader has just been elected; try again in a moment")
        if not self.membership_committed or self.membership.joint:
            raise _not_yet("another change of membership is under way; try again after it")
        entered = enter(self.membership, target)
        if not force:
            before = self.ticks_led - self._config.election_ticks_max - 1
            require_majorities(self.membership, entered, self.acknowledging(before))
        self._propose_membership_entry(entered)
        return self.log.last_index

    def propose_version(self, version: int) -> None:
        """Raise the cluster version to `version` for all entries after this one.

        The caller has made sure that every member can take part in it. Only a leader does it.
        """
        if self.leads and not self.transferee:
            self._append(EntryKind.VERSION, [encode_version(version)])

    def _propose_membership_entry(self, membership: Membership) -> None:
        self._append(EntryKind.MEMBERSHIP, [self._codec.encode(membership)])
        self._replicator.track_members(self.membership.members)

    # ---- leadership transfer (dissertation 3.10) -------------------------------------

    def transfer_leadership(self, to: int) -> bool:
        """Transfer leadership to the voter `to`, or give up after an election timeout.

        Meanwhile nothing can be proposed. False if this node does not lead or `to` can't.
        """
        if not self.leads or to not in self.membership.voters or to == self.node_id:
            return False
        self.transferee = to
        self._transfer_offered = True
        self._transfer_elapsed = 0
        self._send_timeout_now_if_caught_up()
        return True

    def _send_timeout_now_if_caught_up(self) -> None:
        if self.progress[self.transferee].match_index == self.log.last_index:
            self._outbox.send(TimeoutNow(self.node_id, self.transferee, self.current_term))

    # ---- snapshots (section 7) -------------------------------------------------------

    def wants_snapshot(self, message: InstallSnapshot) -> bool:
        """Whether this node would install this snapshot."""
        return (
            message.term >= self.current_term
            and message.snapshot.last_included_index > self.commit_index
            and self._installing is None
        )

    @property
    def installing(self) -> bool:
        """Whether a snapshot is replacing state and log."""
        return self._installing is not None

    def _handle_install_snapshot(self, message: InstallSnapshot) -> None:
        if self._installing is not None:
            return
        point = message.snapshot
        index, term = point.last_included_index, point.last_included_term
        if index <= self.commit_index:
            self._acknowledge(message.sender, self.commit_index)
        elif self.log.matches(index, term):
            # The log has everything in it already; only the commit index may be new. Later entries
            # stay (figure 13, step 6): some of them may have been acknowledged.
            self._commit_to(index)
            self._acknowledge(message.sender, index)
        else:
            self._installing = message

    def snapshot_installed(self) -> None:
        """The state of `Ready.snapshot` is on disk, and the log there has been reset to it."""
        message = self._installing
        if message is None or self._outbox.persisting is not None:
            raise InvariantViolation("no write crosses a snapshot's installation")
        point = message.snapshot
        self._installing, self._install_in_ready = None, False
        self.log.reset(
            point.last_included_index, point.last_included_term, point.last_included_hash
        )
        self._memberships.reset(point.last_included_index, point.membership)
        self.commit_index = self.last_applied = point.last_included_index
        if message.term == self.current_term:
            self._acknowledge(message.sender, point.last_included_index)

    def snapshot_refused(self) -> None:
        """The snapshot could not be installed; the old state and log stand."""
        self._installing, self._install_in_ready = None, False

    def snapshot_sent(self, peer: int, point: SnapshotPoint) -> None:
        """The peer has received the data; a probe shows when it has installed it."""
        self._replicator.snapshot_sent(peer, point)

    def snapshot_failed(self, peer: int) -> None:
        """The peer did not receive the data; it will be probed and offered a snapshot again."""
        self._replicator.snapshot_sent(peer, SnapshotPoint())

    def unreachable(self, peer: int) -> None:
        """The link to this peer broke: what was in flight may be lost."""
        self._replicator.unreachable(peer)

    # ---- the driver's side -----------------------------------------------------------

    def ready(self) -> Ready:
        """What has to be done now; an empty `Ready` if nothing."""
        if self.leads:
            self._start_read_round()
            self._replicator.replicate(self.commit_index)
        persist = self._take_persist()
        reads, self._reads = self._reads, []
        snapshot = None
        # The term is written first: no log may end in a term above the node's own.
        writing = self._outbox.persisting is not None
        if self._installing is not None and not self._install_in_ready and not writing:
            snapshot, self._install_in_ready = self._installing, True
        messages, committed = self._outbox.take(), self._take_committed()
        wanted = self._replicator.take_snapshots_wanted()
        return Ready(persist, messages, committed, tuple(reads), snapshot, wanted)

    def _take_persist(self) -> Persist | None:
        if self._outbox.persisting is not None or self._install_in_ready:
            return None
        hard_state = HardState(self.current_term, self.voted_for, self.commit_index)
        persist = self._outbox.begin_write(hard_state, self.log.hand_over())
        if persist is None:
            self._release(self._outbox.nothing_to_write())
        return persist

    def _release(self, promises: list[Message]) -> None:
        """All that these messages promise is on disk: send them."""
        for message in promises:
            if message.recipient == self.node_id:
                self.step(message)
            else:
                self._outbox.send(message)

    def persisted(self) -> None:
        """The last `Ready.persist` is on disk."""
        done = self._outbox.persisting
        if done is None:
            raise InvariantViolation("only what was handed over is reported as persisted")
        if done.entries:
            self.log.persisted(done.entries[-1].index, done.entries[-1].term)
        self._release(self._outbox.end_write())
        if self.leads:
            self._advance_commit()
            if self.transferee:
                self._send_timeout_now_if_caught_up()

    def _take_committed(self) -> tuple[Entry, ...]:
        if not self.can_apply:
            return ()
        stop = self._applicable_index + 1
        return self.log.entries(self.last_applied + 1, stop, self._config.apply_bytes_max)

    def applied(self, index: int) -> None:
        """The state machine holds everything up to `index`."""
        check(
            self.last_applied <= index <= self.commit_index,
            "applied never goes back, and never past commit",
            index=index,
            last_applied=self.last_applied,
            commit_index=self.commit_index,
        )
        self.last_applied = index
        self._memberships.compact(index)

    def compact(self, index: int) -> None:
        """Forget the log up to `index`: the state has it durably, and so does the disk."""
        check(index <= self.last_applied, "only what is applied is compacted", index=index)
        self.log.compact(index)


def _not_yet(reason: str) -> MembershipRefused:
    return MembershipRefused(reason, retry_after_s=0.5)

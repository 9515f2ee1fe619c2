"""The driver: the only place where core, disk, peers and state machine meet.

Everything that arrives is handed to the core at once; what the core then wants is done in one
round per turn of the event loop, so work is per batch. Only disk writes that wait run
elsewhere, one at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import structlog

from raftkv.errors import (
    DamagedData,
    DeadlineExceeded,
    InvalidRequest,
    OutOfResources,
    OutOfService,
    RemovedFromCluster,
    ShuttingDown,
    Unavailable,
    check,
)
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import STEP_UNITS, Steps
from raftkv.kv.store import StateStore
from raftkv.kv.validation import check_forwarded
from raftkv.node import scrub
from raftkv.node.apply_scheduler import ApplyScheduler
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.clocks import ClusterClock, LeaderLease
from raftkv.node.log_compaction import LogCompaction
from raftkv.node.peer_register import PeerRegister
from raftkv.node.proposal_queue import ProposalQueue
from raftkv.node.proposals import PendingProposals, in_parts
from raftkv.node.reads import ReadBarriers
from raftkv.node.recovery import Recovered
from raftkv.node.removal import RemovalClaims
from raftkv.node.snapshots import SnapshotTransfers
from raftkv.node.tasks import Fatal, Tasks
from raftkv.node.upkeep import next_version, require_version, updated_membership
from raftkv.node.withdrawal import Withdrawal
from raftkv.peer.bounds import TERM_JUMP_MAX
from raftkv.peer.handshake import Caller, HandshakeRefused, Refusal
from raftkv.peer.ports import Acknowledged, Forward, ForwardRefused, Frame, PeerLinks, Submission
from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.entry import Entry, EntryKind, SnapshotPoint, decode_version
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.raft.ready import Persist, RaftConfig, RaftRole
from raftkv.raft.running_hash import UNKNOWN
from raftkv.rpc.v1 import kv_pb2, log_pb2
from raftkv.storage.damage import damage_of
from raftkv.storage.ports import Checkpoint, LogStore, StateStorage
from raftkv.versions import HASHED, SUPPORTED, VersionRange
from raftkv.wire.membership import decode_membership

INSTALL_TIMEOUT_S = 60.0
UPKEEP_TICKS = 4
CONTACTS_MAX = 256
"""Senders whose last message has its time noted; more than members there can be strangers."""

NOTES_TICKS = 20
"""So often this node writes down what its followers have acknowledged, if that is news."""

_OVER = object()
"""What an iteration has come to."""

# A peer that says so has on its own disk why this node must not go on from the disk it has.
_WRONG_DISK = (Refusal.OTHER_DISK, Refusal.OLDER_COPY, Refusal.CLONE)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node's driver is told. Times of the core are in ticks of `tick_s` seconds."""

    raft: RaftConfig
    tick_s: float
    limits: Limits
    submissions_in_flight_max: int
    uncommitted_bytes_max: int
    log_retained_bytes: int
    log_compaction_bytes: int
    entry_bytes_max: int = 1 << 20
    versions: VersionRange = SUPPORTED
    scrub_interval_s: float = scrub.INTERVAL_S
    step_units: int = STEP_UNITS
    """Work that one step of an apply or a read does."""


class Driver:
    """Runs one core. Time is the running loop's; `stopped` gets the reason when it has ended."""

    def __init__(
        self,
        own: Caller,
        config: NodeConfig,
        recovered: Recovered,
        log_store: LogStore,
        state_storage: StateStorage,
        links: PeerLinks,
        rng: Random,
    ) -> None:
        self.raft = recovered.raft
        self.machine: StateMachine = recovered.machine
        self.changes = ChangeFeed(self.machine)
        self.clock = ClusterClock()
        self.submissions = PendingProposals(
            rng.getrandbits(64), config.submissions_in_flight_max, config.uncommitted_bytes_max
        )
        self.barriers = ReadBarriers(rng.getrandbits(62))
        self._lease = LeaderLease(config.raft, config.tick_s)
        node_id = own.node_id
        self.last_contact: dict[int, float] = {}
        self.loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[BaseException | None] = self.loop.create_future()
        self.dead = False
        self._node_id = node_id
        self._config = config
        self._log_store = log_store
        self._storage = state_storage
        self._links = links
        # An honest node stays below its own bound, which may be a little above ours.
        self._intake = ProposalQueue(2 * config.uncommitted_bytes_max)
        self._snapshots = SnapshotTransfers(node_id, state_storage, links, self._take_checkpoint)
        self._own = own
        self._log_disk = asyncio.Lock()
        self._register = PeerRegister(node_id, recovered.starts, log_store, self._log_disk)
        self._removal = RemovalClaims(2 * config.raft.election_ticks_max)
        self._version_proposed = (0, 0)  # in which term, and which
        self._upkeep_index = 0  # of the last bare stamp that was proposed
        self._ticks = 0
        self._peer_addresses: dict[int, str] = {}
        self._linked_version = (-1, -1)
        self._withdrawal = Withdrawal(self, config.raft.election_ticks_max * config.tick_s)
        self._fatal = Fatal(self.broken)
        self.tasks = Tasks(self._fatal)
        self._compaction = LogCompaction(
            node_id,
            self.raft,
            log_store,
            self._log_disk,
            state_storage,
            self._snapshots,
            self.tasks,
            self.stopped,
            trigger_bytes=config.log_compaction_bytes,
            retained_bytes=config.log_retained_bytes,
        )
        # In order, as sets are not: one seed must decide who goes first.
        self._changed: dict[asyncio.Future[None], None] = {}
        self._round_due = False
        self._apply_paused = False
        self._applying: Steps[None] | None = None  # the run that is being applied
        self._forwards: deque[tuple[int, Forward]] = deque()  # that are not checked yet
        self._checking: Steps[None] | None = None
        self._apply_turn = ApplyScheduler(self.wake, config.tick_s)
        self._writing: asyncio.Task[None] | None = None
        self._received: Path | None = None
        self._seen: tuple[int, RaftRole, int] = (0, RaftRole.FOLLOWER, 0)
        self._log = structlog.get_logger("raftkv.node").bind(node=node_id)
        self._next_tick = self.loop.time()

    # ---- life ------------------------------------------------------------------------

    def start(self) -> None:
        self._follow_membership()
        # It may have crashed between applying its removal and leaving.
        self._check_own_membership()
        self._tick()

    def finish(self, reason: BaseException | None) -> None:
        """Stop for good. Nothing is promised and nothing is answered after this."""
        if self.dead:
            return
        self.dead = True
        self.raft.passive = True
        reason = reason or self._withdrawal.reason
        if reason is None or isinstance(reason, RemovedFromCluster):
            self._log.info("node_stopped", term=self.raft.current_term, reason=str(reason or ""))
        else:
            self._log.critical("node_stopped", reason=str(reason), kind=type(reason).__name__)
        self.submissions.fail_all(lambda: ShuttingDown("the node is stopping; ask another one"))
        self.barriers.fail_all(lambda: ShuttingDown("the node is stopping; ask another one"))
        self._notice_change()
        self.stopped.set_result(reason)

    def broken(self, error: BaseException) -> None:
        """This node can't go on as it is. Because of damaged data it leaves service, and gives
        leadership away before that; because of anything else it stops.
        """
        if isinstance(error, DamagedData):
            self._withdrawal.begin(error)
        elif not self._withdrawal.hastened_by(error):
            self.finish(error)

    @property
    def leaving(self) -> bool:
        """Whether this node is about to leave service: it takes no work any more."""
        return self._withdrawal.reason is not None

    async def until(self, condition: Callable[[], bool], deadline: float) -> None:
        """Return when `condition` holds after a round; `DeadlineExceeded` if that is too late."""
        while not condition():
            if self.dead:
                raise ShuttingDown("the node has stopped")
            left = deadline - self.loop.time()
            if left <= 0:
                raise DeadlineExceeded("it did not happen in time")
            future: asyncio.Future[None] = self.loop.create_future()
            self._changed[future] = None
            timer = self.loop.call_later(left, _resolve, future)
            try:
                await future
            finally:
                timer.cancel()
                del self._changed[future]

    def _notice_change(self) -> None:
        for future in self._changed:
            _resolve(future)

    # ---- calls from the links --------------------------------------------------------

    @property
    def last_log_index(self) -> int:
        """The end of the log on this node's disk."""
        return self.raft.log.persisted_index

    @property
    def cluster_version(self) -> int:
        """The cluster version in force here."""
        return self.machine.cluster_version

    async def admit(self, caller: Caller) -> HandshakeRefused | None:
        """Why this peer may not talk to us, None if it may."""
        if not self.dead:
            self._note_acknowledged()
            with self._fatal:  # a disk that does not take the note fails the node
                return await self._register.admit(
                    caller, self.machine.membership, self.machine.cluster_version
                )
        return HandshakeRefused(Refusal.NOT_READY, f"node {self._node_id} is stopping")

    def receive(self, sender: int, frame: Frame) -> None:
        """A frame of an admitted peer has arrived.

        Raises `InvalidRequest` or `ProtocolBreach` if nothing more is to be taken from this link.
        """
        for message in frame.messages:
            self._require_sane_term(message)
            if type(message) is InstallSnapshot:
                raise InvalidRequest(f"node {sender} announces a snapshot without its data")
        self._step(sender, frame)

    def _step(self, sender: int, frame: Frame) -> None:
        if self.dead:
            return
        self._note_contact(sender)
        of_stranger: ProtocolBreach | None = None
        with self._fatal:
            try:
                for message in frame.messages:
                    self.raft.step(message)
            except ProtocolBreach as breach:
                of_stranger = self._breached(breach)
            if of_stranger is None and not self.dead:
                if frame.forwards:
                    self._take_forwards(sender, frame.forwards)
                if frame.acknowledged and sender == self.raft.leader_id:
                    self._note_word_of_leader(frame.acknowledged)
                self._hear_refusals(sender, frame.forwards_refused)
        self.wake()
        if of_stranger is not None:
            raise of_stranger

    def _note_contact(self, sender: int) -> None:
        self.last_contact[sender] = self.loop.time()
        if len(self.last_contact) > CONTACTS_MAX:
            peers = self.raft.peers
            self.last_contact = {id: at for id, at in self.last_contact.items() if id in peers}

    def _require_sane_term(self, message: Message) -> None:
        if message.term > self.raft.current_term + TERM_JUMP_MAX:
            raise InvalidRequest(
                f"node {message.sender} sends term {message.term}, and this node is in term"
                f" {self.raft.current_term}: elections raise it one by one"
            )

    def _breached(self, breach: ProtocolBreach) -> ProtocolBreach | None:
        """A message says what can't be. Said by a member, one of the two nodes has lost what it
        promised, and this one leaves service. Returns the breach of a stranger: it ends the link.
        """
        if not self._is_known(breach.sender):
            return breach
        self.finish(
            OutOfService(
                f"{breach}: one of the two has lost or forgotten what it promised, and this node"
                " can't tell which. It takes no part any more. Keep this directory and export it;"
                " compare what both nodes hold, then rebuild the one that is wrong: `raftkv member"
                f" replace {self._node_id} NEW`",
                peer=breach.sender,
            )
        )
        return None

    def _is_known(self, peer: int) -> bool:
        """Whether the peer belongs to the cluster: it has proved that, or it is a member here."""
        caller = self._register.callers.get(peer)
        return (caller is not None and caller.proven) or peer in self.raft.peers

    def _take_forwards(self, sender: int, forwards: Sequence[Forward]) -> None:
        self._watch_role()
        if self.raft.leads and sender not in self.raft.peers:
            return  # a leader has the latest membership, and a node forwards for its clients
        # A forward for another term is dead or early: its origin will repeat it.
        self._forwards.extend(
            (sender, forward)
            for forward in forwards
            if self.raft.leads and forward.term == self.raft.current_term
        )

    def _check_forwards(self) -> None:
        """Go on for one step with the checks of what others have forwarded in this term."""
        if self._checking is None and self._forwards:
            self._checking = self._check_forward(*self._forwards.popleft())
        if self._checking is not None:
            if next(self._checking, _OVER) is _OVER:
                self._checking = None
            if self._checking is not None or self._forwards:
                self.wake()

    def _check_forward(self, sender: int, forward: Forward) -> Steps[None]:
        refused: list[ForwardRefused] = []
        good: list[Submission] = []
        for submission in forward.submissions:
            checked = yield from check_forwarded(submission.commands, self._config.limits)
            if not checked.refused:
                good.append(replace(submission, weight=checked.weight))
            for _, error in checked.refused[:1]:
                refused.append(ForwardRefused(forward.term, submission.number, error))
        refused += [
            ForwardRefused(forward.term, number, error)
            for number, error in self._intake.add(sender, good, forward.settled)
        ]
        if refused:
            self._links.send(sender, Frame(forwards_refused=tuple(refused)))

    def _hear_refusals(self, sender: int, forwards_refused: Sequence[ForwardRefused]) -> None:
        for refused in forwards_refused:
            # Nobody else can say what the leader of a term has not proposed, nor in another term.
            if sender == self.raft.leader_id and refused.term == self.raft.current_term:
                self.submissions.refused(refused.term, refused.number, refused.error)

    @property
    def removal_claimed_by(self) -> frozenset[int]:
        """The members that say that this node was removed."""
        return self._removal.claimed_by(self.raft.membership.members)

    def link_up(self, peer: int) -> None:
        """The peer has admitted this node."""
        self._removal.withdrawn(peer)

    def link_down(self, peer: int) -> None:
        """The link to this peer broke."""
        self.raft.unreachable(peer)
        self.wake()

    def refused(self, by: int, refused: HandshakeRefused) -> None:
        """A peer does not admit this node. What a stranger says is no reason to do anything."""
        if self.dead or not self._is_known(by):
            return
        if refused.reason is Refusal.REMOVED:
            self._removal.claimed(by)
        elif refused.reason in _WRONG_DISK:
            self.finish(OutOfService(f"node {by} does not admit this node: {refused.message}"))

    def refusal_of(self, caller: Caller) -> HandshakeRefused | None:
        """Why nothing more is taken from this caller, which was admitted; None if it is."""
        return self._register.refusal_of_admitted(caller, self.machine.membership)

    def begin_snapshot(self, message: InstallSnapshot) -> Path:
        """A peer offers a snapshot: where its files go. `Unavailable` if it is of no use."""
        self._require_sane_term(message)
        if message.snapshot.incarnation != self._own.incarnation:
            raise InvalidRequest(
                f"the snapshot is of the cluster founded as {message.snapshot.incarnation:016x},"
                f" and this node belongs to {self._own.incarnation:016x}"
            )
        if self.dead or not self.raft.wants_snapshot(message):
            raise Unavailable("this snapshot is not wanted")
        return self._storage.begin_receive()

    async def finish_snapshot(self, message: InstallSnapshot, received: Path) -> None:
        """All files are there: verify them, let the core decide, and wait until the state stands.

        Raises `DamagedData` for what is damaged. While this node verifies it still votes and
        appends; while the state is replaced it can't.
        """
        await self._storage.verify_received(received)
        if self.dead or not self.raft.wants_snapshot(message):
            raise Unavailable("this snapshot is not wanted any more")
        self._received = received
        self._step(message.sender, Frame(messages=(message,)))
        raft, index = self.raft, message.snapshot.last_included_index

        def decided() -> bool:
            under_way = raft.installing or raft.commit_index >= index
            return raft.last_applied >= index or not under_way

        await self.until(decided, self.loop.time() + INSTALL_TIMEOUT_S)
        if raft.last_applied < index:
            raise Unavailable("this snapshot could not be installed")

    # ---- time ------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.dead:
            return
        now = self.loop.time()
        # A loop that stalled owes one tick, not many: nobody could be heard meanwhile.
        self._next_tick = max(self._next_tick, now - self._config.tick_s) + self._config.tick_s
        self.loop.call_at(self._next_tick, self._tick)
        raft, core = self.raft, self._config.raft
        patience_ticks = 2 * core.election_ticks_max
        with self._fatal:
            raft.tick()
            self.submissions.tick(now, raft.leader_id != 0, patience_ticks)
            self.barriers.tick(now, raft.read_index, core.election_ticks_min // 2, patience_ticks)
            self._intake.load.tick()
            self._resend_overdue()
            self._let_time_pass(now)
            self._ticks += 1
            if self._ticks % UPKEEP_TICKS == 0:
                self._keep_up()
            if self._ticks % NOTES_TICKS == 0:
                self._pass_on(self._note_acknowledged())
                if self._register.changed:
                    self.tasks.spawn(self._register.write())
            self._weigh_removal()
        self.wake()

    def _resend_overdue(self) -> None:
        if self.raft.leader_id and not self.raft.leads:
            self._forward(self.submissions.take_overdue(self.raft.current_term))

    def _let_time_pass(self, now: float) -> None:
        """Propose a bare stamp when nobody writes and leases run, and when the state machine has
        something to remove: one a tick at most, and only once the last one is applied, so that
        others have their turn.
        """
        raft, machine, clock = self.raft, self.machine, self.clock
        if not raft.established or raft.last_applied < self._upkeep_index:
            return
        if clock.stamp_is_due(machine.next_deadline_ms(), now) or machine.upkeep_is_due(
            clock.read_ms(now)
        ):
            self._upkeep_index = self._propose([], now)

    def _keep_up(self) -> None:
        """At a leader: raise the cluster version, and note members' disks and new addresses."""
        raft = self.raft
        if not raft.committed_in_term or raft.transferee:
            return
        callers = {**self._register.callers, self._node_id: self._own}
        version = next_version(self.machine.cluster_version, raft.membership, callers)
        if version is not None and self._version_proposed != (raft.current_term, version):
            self._version_proposed = raft.current_term, version
            self._log.info("cluster_version_raised", term=raft.current_term, version=version)
            raft.propose_version(version)
        if raft.membership_committed and not raft.membership.joint:
            updated = updated_membership(raft.membership, callers)
            if updated is not None and self.machine.cluster_version >= HASHED:
                self._log.info("members_updated", term=raft.current_term)
                raft.propose_membership(updated, force=True)  # its voters stay as they are

    def _note_acknowledged(self) -> Mapping[int, Acknowledged]:
        """At a leader: note up to where each member has acknowledged what is committed."""
        raft = self.raft
        acknowledged = {
            peer: Acknowledged(
                min(progress.match_index, raft.commit_index), self._register.start_of(peer).id
            )
            for peer, progress in raft.progress.items()
            if peer in raft.membership.members
        }
        self._register.acknowledged(acknowledged)
        return acknowledged

    def _pass_on(self, acknowledged: Mapping[int, Acknowledged]) -> None:
        """To all peers, so that an older copy is found out also while this node is down."""
        for peer in acknowledged:
            self._links.send(peer, Frame(acknowledged=acknowledged))

    def _note_word_of_leader(self, acknowledged: Mapping[int, Acknowledged]) -> None:
        """What this node knows to be committed is not undone by a word that it can't check."""
        raft = self.raft
        self._register.acknowledged(
            {
                member: replace(each, index=min(each.index, raft.commit_index))
                for member, each in acknowledged.items()
                if member in raft.membership.members and member != self._node_id
            }
        )

    def _weigh_removal(self) -> None:
        """Stop if all others that answer say that this node was removed; else stand by."""
        others = self.raft.membership.all_voters - {self._node_id}
        by = self._removal.tick(others, self._links.connected)
        self.raft.passive = bool(self._removal.claimed_by(others))
        if by:
            names = " and ".join(map(str, sorted(by)))
            self.finish(self._removal_by(f"all that answer (nodes {names}) say that node"))

    # ---- the round -------------------------------------------------------------------

    def wake(self) -> None:
        """There is something to do: run a round in this turn of the loop."""
        if not self._round_due and not self.dead:
            self._round_due = True
            self.loop.call_soon(self._round)

    def _round(self) -> None:
        self._round_due = False
        if not self.dead:
            with self._fatal:
                self._run_round()

    def _run_round(self) -> None:
        raft = self.raft
        self._watch_role()
        self._hand_in_submissions()
        self.barriers.ask(raft.read_index, self.loop.time())
        ready = raft.ready()
        if ready.messages:
            self._send(ready.messages)
        if ready.persist is not None:
            self._writing = self.tasks.spawn(self._persist(ready.persist))
        if (
            ready.committed
            and self._applying is None
            and not self._apply_paused
            and not self.leaving
        ):
            # A leader acknowledges nothing to others; its callers wait for what it applies.
            write = None if raft.leads else self._writing
            sends = bool(ready.messages) or ready.persist is not None
            if self._apply_turn.has_come(write, self.loop.time(), sends=sends):
                self._applying = self._apply(ready.committed)
        if self._applying is not None and not self._apply_paused and not self.leaving:
            # A step takes some milliseconds: the messages of the next round must not be late.
            if next(self._applying, _OVER) is _OVER:
                self._applying = None
            if self._applying is not None or raft.can_apply:
                self.wake()
        for read in ready.reads:
            self._lease.confirm(self.barriers.confirm(read.context, read.read_index))
        self.barriers.open(raft.last_applied)
        if ready.snapshot is not None:
            self.tasks.spawn(self._install(ready.snapshot))
        for peer in ready.snapshots_wanted:
            # In this turn's term: in the next one this node may follow another leader.
            self.tasks.spawn(self._send_snapshot(peer, raft.current_term))
        self._follow_membership()
        if self._changed:
            self._notice_change()
        if self._may_propose or (raft.leader_id and self.submissions.may_send):
            self.wake()  # what was applied has made room for more

    def _send(self, messages: Sequence[Message]) -> None:
        by_peer: dict[int, list[Message]] = {}
        for message in messages:
            by_peer.setdefault(message.recipient, []).append(message)
        for peer, batch in by_peer.items():
            self._links.send(peer, Frame(messages=batch))

    def _watch_role(self) -> None:
        raft = self.raft
        before, now = self._seen, (raft.current_term, raft.role, raft.leader_id)
        if now == before:
            return
        if now[:2] != before[:2]:
            # What the leader of an older term had queued is its origins' again.
            self._intake.clear()
            self._forwards.clear()
            self._checking = None
            self._upkeep_index = 0
            self._lease.begin(raft.current_term if raft.leads else 0, self.loop.time())
        self._seen = now
        self._log.info("role_changed", term=now[0], role=now[1].name.lower(), leader=now[2] or None)

    # ---- reads -----------------------------------------------------------------------

    def holds_lease(self) -> bool:
        """Whether nobody else can have committed anything. Renews the lease in good time."""
        raft, now = self.raft, self.loop.time()
        if self.dead or self.leaving:
            return False
        if not raft.may_lease or not self._lease.holds(raft.current_term, now):
            return False
        if self._lease.is_due(now):
            self.barriers.ask_anyway()
            self.wake()
        return True

    # ---- writes ----------------------------------------------------------------------

    def _hand_in_submissions(self) -> None:
        raft, own = self.raft, self.submissions
        if raft.leads:
            self._check_forwards()
            if own.may_send:
                self._intake.add(self._node_id, own.take_unsent(raft.current_term), own.settled)
            if self._may_propose:
                # One in a round, so what is small leaves without what is large and goes next.
                submissions, senders = self._intake.take(
                    self._config.entry_bytes_max, raft.log.last_index + 1
                )
                self._propose(submissions, self.loop.time())
                for sender in senders:
                    raft.want_commit(sender)
        elif raft.leader_id and own.may_send:
            self._forward(own.take_unsent(raft.current_term))

    @property
    def mixed_load(self) -> bool:
        """At a leader: whether clients of any nodes that write little share it with others."""
        return self.raft.leads and self._intake.load.is_on

    @property
    def _may_propose(self) -> bool:
        raft = self.raft
        ready = raft.leads and raft.established and not raft.transferee
        return ready and self._intake.may_propose(raft.last_applied)

    def _forward(self, submissions: Sequence[Submission]) -> None:
        settled, term = self.submissions.settled, self.raft.current_term
        # In frames that a link carries: after a change of leader this is all that is under way.
        for part in in_parts(submissions, self._config.entry_bytes_max):
            forward = Forward(term, settled, tuple(part))
            self._links.send(self.raft.leader_id, Frame(forwards=(forward,)))

    def _propose(self, submissions: Sequence[Submission], now: float) -> int:
        """Append an entry of these submissions; its index."""
        batch = log_pb2.StampedBatch(time_ms=self.clock.stamp_ms(now))
        for submission in submissions:
            batch.submissions.add(
                origin=submission.origin, number=submission.number, commands=submission.commands
            )
        self.raft.propose([batch.SerializeToString()])
        return self.raft.log.last_index

    async def _persist(self, persist: Persist) -> None:
        async with self._log_disk:
            await self._log_store.append(persist.hard_state, persist.entries)
        if not self.dead:
            self.raft.persisted()
            self.wake()

    def _apply(self, entries: Sequence[Entry]) -> Steps[None]:
        raft, own = self.raft, self.submissions
        if not self._can_follow(entries):
            self.finish(self._removal_by("node"))
            return
        term_before = self.machine.applied_term
        all_applied = yield from self.machine.apply_in_steps(
            entries, lambda index: raft.log.hash(index) or UNKNOWN
        )
        for applied in all_applied:
            if applied.origin == own.origin:
                own.resolve(applied.number, applied.result)
        last = entries[-1]
        raft.applied(last.index)
        if last.term != term_before:
            own.revive_before(last.term)
            if raft.established:
                self.clock.start(self.machine.time_ms, self.loop.time())
        if any(entry.kind is EntryKind.MEMBERSHIP for entry in entries):
            self._check_own_membership()
        self._compaction.start_if_due()

    def _can_follow(self, entries: Sequence[Entry]) -> bool:
        """False if the cluster takes up a version without this node, which it has removed.

        Raises `ConfigurationError` if the node belongs to it and its program can't take part.
        """
        membership = self.machine.membership
        for entry in entries:
            if entry.kind is EntryKind.MEMBERSHIP:
                membership = decode_membership(entry.payload)
            elif entry.kind is EntryKind.VERSION:
                version = decode_version(entry.payload)
                if version not in self._config.versions and self._node_id in membership.removed:
                    return False
                require_version(version, self._config.versions)
        return True

    # ---- snapshots -------------------------------------------------------------------

    async def _take_checkpoint(self) -> tuple[Checkpoint, SnapshotPoint]:
        """Freeze the state as of what is applied; nothing is applied meanwhile."""
        self._apply_paused = True
        try:
            machine = self.machine
            index, term = machine.applied_index, machine.applied_term
            point = SnapshotPoint(
                index, term, machine.membership, machine.applied_hash, self._own.incarnation
            )
            return await self._storage.checkpoint(index, term), point
        finally:
            self._apply_paused = False
            self.wake()

    async def _send_snapshot(self, peer: int, term: int) -> None:
        try:
            point = await self._snapshots.send(peer, term)
        except (Unavailable, OutOfResources) as error:
            self._log.warning("snapshot_not_sent", peer=peer, reason=error.message)
            self.raft.snapshot_failed(peer)
        else:
            self.raft.snapshot_sent(peer, point)
        self.wake()

    async def _install(self, message: InstallSnapshot) -> None:
        """Put the received state and an empty log in the place of what is here."""
        point = message.snapshot
        index, term = point.last_included_index, point.last_included_term
        # What is half applied must be whole: if the snapshot is damaged, the node goes on from it.
        await self.until(lambda: self._applying is None, self.loop.time() + INSTALL_TIMEOUT_S)
        check(self._received is not None, "a snapshot is stepped after its data has arrived")
        try:
            store = await self._storage.install(
                self._received or Path(), lambda state: self._require_point(state, point)
            )
        except DamagedData as error:
            # It says nothing of this node's own data.
            self._log.error("snapshot_damaged", leader=message.sender, reason=damage_of(error))
            self.raft.snapshot_refused()
            return
        except OutOfResources as error:
            self._log.warning("snapshot_not_installed", reason=error.message)
            self.raft.snapshot_refused()
            return
        async with self._log_disk:
            await self._log_store.reset(index, term, point.last_included_hash)
            self.machine = StateMachine(store, self._config.limits, self._config.step_units)
            self.raft.snapshot_installed()
        self.changes.replace(self.machine)
        await self._storage.retire()
        self.submissions.jump(_in_session)
        self._log.info("snapshot_installed", index=index, term=term, leader=message.sender)
        self._check_own_membership()
        self.wake()

    def _require_point(self, state: StateStore, point: SnapshotPoint) -> None:
        """Raise `DamagedData` unless the state is as of just this entry of just this history."""
        machine = StateMachine(state, self._config.limits, self._config.step_units)
        holds = machine.applied_index, machine.applied_term, machine.applied_hash
        named = point.last_included_index, point.last_included_term, point.last_included_hash
        if holds != named:
            raise DamagedData(
                "a snapshot holds what its name does not say: (index, term, hash)"
                f" {holds}, named {named}"
            )

    # ---- membership ------------------------------------------------------------------

    def _follow_membership(self) -> None:
        """Keep exactly the links that the core may want to use."""
        if self.raft.peers_version == self._linked_version:
            return
        self._linked_version = self.raft.peers_version
        peers = self.raft.peers
        for member, address in self.raft.addresses.items():
            self._peer_addresses[member] = address.peer
        self._links.set_peers({peer: self._peer_addresses[peer] for peer in sorted(peers)})

    def _check_own_membership(self) -> None:
        if self._node_id in self.machine.membership.removed:
            self.tasks.spawn(self._leave())

    async def _leave(self) -> None:
        """Stay for an election timeout, so that the others get our last answers; then stop."""
        await asyncio.sleep(self._config.raft.election_ticks_min * self._config.tick_s)
        self.finish(self._removal_by("node"))

    def _removal_by(self, who: str) -> RemovedFromCluster:
        return RemovedFromCluster(
            f"{who} {self._node_id} has been removed from the cluster. The members have its data:"
            " once `raftkv status` shows that they are well, its directory is of no more use. Its"
            " id never comes back"
        )


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _in_session(commands: bytes) -> bool:
    """Whether the state machine remembers this batch, so that it can be handed in again."""
    return kv_pb2.CommandBatch.FromString(commands).session != 0

"""The driver: the only place where core, disk, peers and state machine meet.

Everything that arrives is handed to the core at once; what the core then wants is done in one
round per turn of the event loop, so work is per batch. Only disk writes that wait run
elsewhere, one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import structlog

from raftkv.errors import (
    DamagedData,
    DeadlineExceeded,
    RemovedFromCluster,
    ShuttingDown,
    Unavailable,
    check,
)
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.node import scrub
from raftkv.node.apply_turn import ApplyTurn
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.cluster_clock import ClusterClock
from raftkv.node.leader_lease import LeaderLease
from raftkv.node.log_compaction import LogCompaction
from raftkv.node.reads import ReadBarriers
from raftkv.node.recovery import Recovered
from raftkv.node.snapshots import SnapshotSender
from raftkv.node.submissions import Intake, Submissions
from raftkv.node.tasks import Fatal, Tasks
from raftkv.node.withdrawal import Withdrawal
from raftkv.raft.entry import Entry, EntryKind, SnapshotPoint
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.raft.ready import Persist, RaftConfig, Role
from raftkv.rpc import kv_pb2, log_pb2
from raftkv.storage.damage import damage_of
from raftkv.storage.ports import Checkpoint, LogStore, StateStorage
from raftkv.transport.ports import Forward, Frame, PeerLinks, Submission

INSTALL_TIMEOUT_S = 60.0


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
    scrub_interval_s: float = scrub.INTERVAL_S


class Driver:
    """Runs one core. Time is the running loop's; `stopped` gets the reason when it has ended."""

    def __init__(
        self,
        node_id: int,
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
        self.submissions = Submissions(
            rng.getrandbits(64), config.submissions_in_flight_max, config.uncommitted_bytes_max
        )
        self.barriers = ReadBarriers(rng.getrandbits(62))
        self._lease = LeaderLease(config.raft, config.tick_s)
        self.last_contact: dict[int, float] = {}
        self.loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[BaseException | None] = self.loop.create_future()
        self.dead = False
        self._node_id = node_id
        self._config = config
        self._log_store = log_store
        self._storage = state_storage
        self._links = links
        self._intake = Intake()
        self._forwarders: set[int] = set()  # peers with submissions in the intake
        self._snapshots = SnapshotSender(node_id, state_storage, links, self._take_checkpoint)
        self._log_disk = asyncio.Lock()
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
        self._apply_turn = ApplyTurn(self.wake, config.tick_s)
        self._writing: asyncio.Task[None] | None = None
        self._received: Path | None = None
        self._seen: tuple[int, Role, int] = (0, Role.FOLLOWER, 0)
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

    def receive(self, sender: int, frame: Frame) -> None:
        """A frame has arrived."""
        if self.dead:
            return
        self.last_contact[sender] = self.loop.time()
        with self._fatal:
            for message in frame.messages:
                self.raft.step(message)
            if frame.forwards:
                self._watch_role()
                for forward in frame.forwards:
                    # A forward for another term is dead or early: its origin will repeat it.
                    if self.raft.leads and forward.term == self.raft.current_term:
                        self._intake.add(forward.submissions, forward.settled)
                        self._forwarders.add(sender)
        self.wake()

    def link_down(self, peer: int) -> None:
        """The link to this peer broke."""
        self.raft.unreachable(peer)
        self.wake()

    def removed(self, by: int) -> None:
        """A peer says that this node has been removed from the cluster."""
        self.finish(self._removal(f"node {by} says that node {self._node_id}"))

    def is_member(self, peer: int) -> bool:
        """Whether this peer may talk to us: false only for one that is known to be removed."""
        return peer not in self.machine.membership.removed

    def begin_snapshot(self, message: InstallSnapshot) -> Path:
        """A peer offers a snapshot: where its files go. `Unavailable` if it is of no use."""
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
        self.receive(message.sender, Frame(messages=(message,)))
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
            self._resend_overdue()
            self._let_time_pass(now)
        self.wake()

    def _resend_overdue(self) -> None:
        if self.raft.leader_id and not self.raft.leads:
            self._forward(self.submissions.take_overdue(self.raft.current_term))

    def _let_time_pass(self, now: float) -> None:
        """When nobody writes and leases run, propose bare stamps."""
        deadline_ms = self.machine.next_deadline_ms()
        if self.raft.established and self.clock.stamp_is_due(deadline_ms, now):
            self._propose([], now)

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
        if ready.committed and not self._apply_paused and not self.leaving:
            # A leader acknowledges nothing to others; its callers wait for what it applies.
            write = None if raft.leads else self._writing
            sends = bool(ready.messages) or ready.persist is not None
            if self._apply_turn.has_come(write, self.loop.time(), sends=sends):
                self._apply(ready.committed)
                if raft.can_apply:
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
            self._forwarders.clear()
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
            if own.has_unsent:
                self._intake.add(own.take_unsent(raft.current_term), own.settled)
            if self._intake and raft.established and not raft.transferee:
                now = self.loop.time()
                for submissions in self._intake.take(self._config.entry_bytes_max):
                    self._propose(submissions, now)
                for peer in self._forwarders:
                    raft.want_commit(peer)
                self._forwarders.clear()
        elif raft.leader_id and own.has_unsent:
            self._forward(own.take_unsent(raft.current_term))

    def _forward(self, submissions: Sequence[Submission]) -> None:
        if submissions:
            settled, term = self.submissions.settled, self.raft.current_term
            forward = Forward(term, settled, tuple(submissions))
            self._links.send(self.raft.leader_id, Frame(forwards=(forward,)))

    def _propose(self, submissions: Sequence[Submission], now: float) -> None:
        batch = log_pb2.StampedBatch(time_ms=self.clock.stamp_ms(now))
        for submission in submissions:
            batch.submissions.add(
                origin=submission.origin, number=submission.number, commands=submission.commands
            )
        self.raft.propose([batch.SerializeToString()])

    async def _persist(self, persist: Persist) -> None:
        async with self._log_disk:
            await self._log_store.append(persist.hard_state, persist.entries)
        if not self.dead:
            self.raft.persisted()
            self.wake()

    def _apply(self, entries: Sequence[Entry]) -> None:
        raft, own = self.raft, self.submissions
        term_before = self.machine.applied_term
        for applied in self.machine.apply(entries):
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

    # ---- snapshots -------------------------------------------------------------------

    async def _take_checkpoint(self) -> tuple[Checkpoint, SnapshotPoint]:
        """Freeze the state as of what is applied; nothing is applied meanwhile."""
        self._apply_paused = True
        try:
            machine = self.machine
            index, term = machine.applied_index, machine.applied_term
            point = SnapshotPoint(index, term, machine.membership)
            return await self._storage.checkpoint(index, term), point
        finally:
            self._apply_paused = False
            self.wake()

    async def _send_snapshot(self, peer: int, term: int) -> None:
        try:
            point = await self._snapshots.send(peer, term)
        except Unavailable as error:
            self._log.warning("snapshot_not_sent", peer=peer, reason=error.message)
            self.raft.snapshot_failed(peer)
        else:
            self.raft.snapshot_sent(peer, point)
        self.wake()

    async def _install(self, message: InstallSnapshot) -> None:
        """Put the received state and an empty log in the place of what is here."""
        point = message.snapshot
        index, term = point.last_included_index, point.last_included_term
        check(self._received is not None, "a snapshot is stepped after its data has arrived")
        try:
            store = await self._storage.install(self._received or Path())
        except DamagedData as error:
            # It says nothing of this node's own data.
            self._log.error("snapshot_damaged", leader=message.sender, reason=damage_of(error))
            self.raft.snapshot_refused()
            return
        async with self._log_disk:
            await self._log_store.reset(index, term)
            self.machine = StateMachine(store, self._config.limits)
            holds = (self.machine.applied_index, self.machine.applied_term)
            check(holds == (index, term), "a snapshot holds what its name says", found=holds)
            self.raft.snapshot_installed()
        self.changes.replace(self.machine)
        await self._storage.retire()
        self.submissions.jump(_in_session)
        self._log.info("snapshot_installed", index=index, term=term, leader=message.sender)
        self._check_own_membership()
        self.wake()

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
        self.finish(self._removal(f"node {self._node_id}"))

    def _removal(self, who: str) -> RemovedFromCluster:
        return RemovedFromCluster(
            f"{who} has been removed from the cluster; delete its data directory, and never use"
            " its id again"
        )


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _in_session(commands: bytes) -> bool:
    """Whether the state machine remembers this batch, so that it can be handed in again."""
    return kv_pb2.CommandBatch.FromString(commands).session != 0

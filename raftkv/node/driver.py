"""The driver of a Raft core: feeds it ticks and requests, and does what its `Ready` asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import structlog

from raftkv.errors import (
    DamagedData,
    OutOfResources,
    RemovedFromCluster,
    ReplicasDiffer,
    ShuttingDown,
    Unavailable,
)
from raftkv.kv.machine import StateMachine
from raftkv.kv.state_hash import StateMark
from raftkv.node.apply import Applier
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.clocks import AppliedClock, ClusterClock, LeaderLease
from raftkv.node.config import NodeConfig, NodeStores
from raftkv.node.history_compaction import HistoryCompaction
from raftkv.node.leader_maintenance import LeaderMaintenance
from raftkv.node.leadership_transfer import Withdrawal, transfer_leadership
from raftkv.node.log_compaction import LogCompaction
from raftkv.node.peer_handler import NodePeerHandler
from raftkv.node.peer_register import PeerRegister
from raftkv.node.proposer import Proposer
from raftkv.node.read_barriers import ReadBarriers
from raftkv.node.recovery import Recovered
from raftkv.node.removal import Removal
from raftkv.node.replica import LogDisk, Replica
from raftkv.node.run_loop import RunLoop
from raftkv.node.snapshots import SnapshotInstaller, SnapshotTransfers
from raftkv.node.state_comparison import StateComparison
from raftkv.node.statistics import NodeCounters, ProposalOutcomes
from raftkv.peer.handshake import Caller
from raftkv.peer.ports import Author, Frame, PeerLinks
from raftkv.raft.entry import Entry, EntryKind, Membership
from raftkv.raft.messages import Message
from raftkv.raft.ready import Persist, RaftRole
from raftkv.raft.view import RaftView
from raftkv.rpc.v1 import kv_pb2

ACKNOWLEDGED_TICKS = 20
"""A leader passes on this often what its followers have acknowledged, and all nodes record it."""

STATE_MARK_TICKS = 20
"""A member sends its last marks to all others this often, and at once when it has a new one."""


class Driver:
    """Runs one Raft core, one round per turn of the event loop.

    Input goes to the core at once. A round then sends, persists, applies and answers what the core
    has for all input of that turn, so that the work is per batch. The disk writes run beside the
    rounds, one at a time. Deadlines are in time of the running loop.
    """

    def __init__(
        self,
        own: Caller,
        config: NodeConfig,
        recovered: Recovered,
        stores: NodeStores,
        links: PeerLinks,
        rng: Random,
    ) -> None:
        raft = self._raft = recovered.raft
        self._config = config
        self._links = links
        self._log = structlog.get_logger("raftkv.node").bind(node=own.node_id)
        run = self._run = RunLoop(self._round, self.fail)
        replica = self._replica = Replica(
            raft,
            recovered.machine,
            LogDisk(stores.log),
            stores.state,
            own.incarnation,
            StateComparison(own.node_id),
        )
        self._comparison = replica.comparison
        self._clock = ClusterClock()
        self._applied_clock = AppliedClock(recovered.machine.time_ms, run.loop.time())
        self._lease = LeaderLease(config.raft, config.tick_s)
        self._proposer = Proposer(
            raft,
            config,
            links,
            self._clock,
            run,
            rng.getrandbits(64),
            lambda: self._comparison.in_dispute,
        )
        self._barriers = ReadBarriers(rng.getrandbits(62))
        self.counters = NodeCounters()
        self._applier = Applier(
            replica, self._proposer.pending, config, run, self._applied, self.counters
        )
        transfers = SnapshotTransfers(own.node_id, stores.state, links, self._applier.checkpoint)
        self._transfers = transfers
        self._installer = SnapshotInstaller(
            replica, self._applier, config, run, self._snapshot_installed
        )
        self._compaction = LogCompaction(replica, transfers, run, config)
        self._register = PeerRegister(own.node_id, recovered.starts, replica.log_disk)
        self._removal = Removal(replica, links, self._register, config, run)
        self._withdrawal = Withdrawal(
            raft, run, self._barriers, self.finish, config.election_timeout_s_max
        )
        self._maintenance = LeaderMaintenance(
            own,
            replica,
            self._proposer,
            self._clock,
            self._register,
            rng,
            config.signing_key_age_ms_max,
        )
        self.peer_handler = NodePeerHandler(
            replica,
            self._register,
            self._removal,
            self._proposer,
            self._installer,
            run,
            self._observe_role,
        )
        self._history = HistoryCompaction(
            replica, self._proposer, self._clock, config, self.peer_handler.history_needed
        )
        self._ticks = 0
        self._next_tick_s = run.loop.time()
        self._writing: asyncio.Task[None] | None = None
        """The last write to the log disk, done or not."""
        self._role_seen: tuple[int, RaftRole, int] = (0, RaftRole.FOLLOWER, 0)
        """Term, role and leader at the last look."""
        self._marks_sent: Sequence[StateMark] = ()
        self._peer_addresses: dict[int, str] = {}
        """Of all peers ever seen in a membership: a peer that leaves is dialled a while longer."""
        self._linked_version = (-1, -1)
        """`Raft.peers_version` of the peers that have links."""

    # ---- start and stop --------------------------------------------------------------

    def start(self) -> None:
        self._link_peers()
        # The last process may have crashed between applying this node's removal and stopping.
        self._removal.check_applied()
        self._tick()

    def finish(self, reason: BaseException | None) -> None:
        """Stop for good. The node makes no promise and answers no call after this."""
        run = self._run
        if run.dead:
            return
        run.dead = True  # first: the node must not go on even if what follows fails
        self._raft.passive = True
        reason = reason or self._withdrawal.reason
        if reason is None or isinstance(reason, RemovedFromCluster):
            self._log.info("node_stopped", term=self._raft.current_term, reason=str(reason or ""))
        else:
            self._log.critical("node_stopped", reason=str(reason), kind=type(reason).__name__)
        self._proposer.pending.fail_all(
            lambda: ShuttingDown("the node is stopping; ask another one")
        )
        self._barriers.fail_all(lambda: ShuttingDown("the node is stopping; ask another one"))
        run.stop(reason)

    def fail(self, error: BaseException) -> None:
        """The node can't go on because of `error`.

        With damaged data it transfers leadership before it stops, otherwise it stops at once.
        """
        if isinstance(error, DamagedData):
            self._withdrawal.begin(error)
        elif not self._withdrawal.ended_by(error):
            self.finish(error)

    @property
    def stopped(self) -> asyncio.Future[BaseException | None]:
        """Done when the node has stopped, with the reason if it was not asked to."""
        return self._run.stopped

    @property
    def dead(self) -> bool:
        """Whether the node has stopped."""
        return self._run.dead

    @property
    def leaving(self) -> bool:
        """Whether this node is about to leave service: it takes no work any more."""
        return self._withdrawal.reason is not None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the rounds. Its failure is the node's."""
        self._run.spawn(work)

    async def settle(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        await self._run.settle()

    async def until(self, condition: Callable[[], bool], deadline: float) -> None:
        """See `RunLoop.until`."""
        await self._run.until(condition, deadline)

    # ---- state -----------------------------------------------------------------------

    @property
    def core(self) -> RaftView:
        """The Raft core, read-only."""
        return self._raft

    @property
    def machine(self) -> StateMachine:
        """The state machine. A snapshot that is installed replaces it."""
        return self._replica.machine

    @property
    def changes(self) -> ChangeFeed:
        """The changes of `machine`, as they are applied."""
        return self._applier.changes

    @property
    def origin(self) -> int:
        """The id of this process in its proposals."""
        return self._proposer.pending.origin

    @property
    def cluster_time_ms(self) -> int:
        """The leader's cluster time now; at other nodes that of the last applied entry."""
        if self._raft.established:
            return self._clock.read_ms(self._run.loop.time())
        return self.machine.time_ms

    @property
    def auth_time_ms(self) -> int:
        """See `AppliedClock`."""
        return self._applied_clock.read_ms(self._run.loop.time())

    def pin_history(self, revision: int) -> None:
        """See `Node.pin_history`."""
        if revision >= self.machine.compacted_revision:
            self._history.pins.pin(revision, self._run.loop.time())

    @property
    def history_bytes(self) -> int:
        """See `HistoryRecord.bytes_kept`."""
        return self._history.record.bytes_kept(self.machine)

    @property
    def removal_reporters(self) -> frozenset[int]:
        """The members that report that this node was removed."""
        return self._removal.reporters

    @property
    def dispute(self) -> str:
        """Which members differ when no majority agrees on a state, and what ends that; or empty."""
        return self._comparison.describe_dispute() if self._comparison.in_dispute else ""

    @property
    def wrong_members(self) -> Sequence[int]:
        """The members whose states differ from a majority's and that have not left service yet, as
        far as this node knows.
        """
        return sorted(self._comparison.found.wrong)

    # ---- requests --------------------------------------------------------------------

    def propose(
        self, commands: bytes, deadline: float, client: int, weight: int, author: Author
    ) -> asyncio.Future[bytes]:
        """See `Node.submit`. Raises `Overloaded` and `ReplicasDiffer`."""
        if self._comparison.is_for_operator(self._run.loop.time()):
            raise ReplicasDiffer(self._comparison.describe_dispute())
        future: asyncio.Future[bytes] = self._run.loop.create_future()
        self._proposer.pending.add(commands, future, deadline, client, weight, author)
        self._run.wake()
        return future

    @property
    def proposals_pending(self) -> int:
        """How many proposals of this node's clients have no result yet."""
        return len(self._proposer.pending)

    @property
    def proposal_outcomes(self) -> ProposalOutcomes:
        """How the proposals of this node's clients have ended."""
        return self._proposer.pending.outcomes

    @property
    def batch_commands_advised(self) -> int:
        """See `Proposer.batch_commands_advised`."""
        return self._proposer.batch_commands_advised

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        """Done when `machine` includes all that was acknowledged before this call (ReadIndex)."""
        future: asyncio.Future[None] = self._run.loop.create_future()
        self._barriers.add(future, deadline)
        self._run.wake()
        return future

    def commit_barrier(self, deadline: float) -> asyncio.Future[None] | None:
        """Done when `machine` includes all that is committed here now; None if it does already."""
        commit_index = self._raft.commit_index
        if self._raft.last_applied >= commit_index:
            return None
        future: asyncio.Future[None] = self._run.loop.create_future()
        self._barriers.add_confirmed(future, deadline, commit_index)
        return future

    def holds_lease(self) -> bool:
        """Whether no other node can have committed anything. Renews the lease in good time."""
        raft, now_s = self._raft, self._run.loop.time()
        if self._run.dead or self.leaving:
            return False
        if not raft.may_lease or not self._lease.holds(raft.current_term, now_s):
            return False
        if self._lease.is_due(now_s):
            self._barriers.ask_anyway()
            self._run.wake()
        return True

    @property
    def fresh_as_of_s(self) -> float | None:
        """See `ReadBarriers.fresh_as_of_s`."""
        return self._barriers.fresh_as_of_s

    def propose_membership(self, target: Membership, *, force: bool) -> None:
        """See `Raft.propose_membership`."""
        self._raft.propose_membership(target, force=force)
        self._run.wake()

    async def transfer_leadership(self, to: int, deadline: float) -> int:
        """See `leadership_transfer.transfer_leadership`."""
        return await transfer_leadership(self._raft, self._run, to, deadline)

    # ---- ticks -----------------------------------------------------------------------

    def _tick(self) -> None:
        run = self._run
        if run.dead:
            return
        now_s, tick_s = run.loop.time(), self._config.tick_s
        # A loop that stalled makes up for one tick at most: no message was read meanwhile.
        self._next_tick_s = max(self._next_tick_s, now_s - tick_s) + tick_s
        run.loop.call_at(self._next_tick_s, self._tick)
        raft, core = self._raft, self._config.raft
        leaderless_ticks_max = 2 * core.election_ticks_max
        with run.fatal:
            raft.tick()
            self._proposer.pending.tick(now_s, raft.leader_id != 0, leaderless_ticks_max)
            self._barriers.tick(
                now_s, raft.read_index, core.election_ticks_min // 2, leaderless_ticks_max
            )
            self._proposer.tick()
            self._maintenance.tick(now_s)
            self._history.tick(now_s)
            self._ticks += 1
            if self._ticks % ACKNOWLEDGED_TICKS == 0:
                self._share_acknowledged()
            if self._ticks % STATE_MARK_TICKS == 0:
                self._share_state_marks()
            self._compare_states()
            self._removal.tick()
        run.wake()

    def _share_acknowledged(self) -> None:
        """Record acknowledgements, and at the leader send them to all peers: any of them may be
        the one that meets an older copy of a disk while this node is down.
        """
        acknowledged = self.peer_handler.record_acknowledged()
        for peer in acknowledged:
            self._links.send(peer, Frame(acknowledged=acknowledged))
        if self._register.changed:
            self._run.spawn(self._register.write())

    # ---- the comparison of states ----------------------------------------------------

    def _share_state_marks(self) -> None:
        """Send the last marks to all members. A cluster below `COMPARED` has none."""
        self._marks_sent = marks = self.machine.state_marks
        if marks:
            for member in sorted(self._raft.membership.members - {self._raft.node_id}):
                self._links.send(member, Frame(state_marks=marks))

    def _compare_states(self) -> None:
        """Leave service if this node differs from a majority of voters."""
        if self.leaving:
            return
        raft, machine = self._raft, self.machine
        disputed_before = self._comparison.in_dispute
        now_s = self._run.loop.time()
        found = self._comparison.judge(machine.state_marks, raft.membership, now_s)
        if raft.node_id in found.wrong:
            self._withdrawal.quarantine(
                f"the state of node {raft.node_id} differs at index {found.wrong[raft.node_id]}"
                " from that of a majority of voters"
            )
        elif self._comparison.in_dispute and not disputed_before:
            self._log.critical("states_disputed", reason=self._comparison.describe_dispute())

    # ---- the round -------------------------------------------------------------------

    def _round(self) -> None:
        raft, run = self._raft, self._run
        self._observe_role()
        self._proposer.propose_pending()
        self._barriers.ask(raft.read_index, run.loop.time())
        ready = raft.ready()
        if ready.messages:
            self._send(ready.messages)
        if ready.persist is not None:
            self._writing = run.spawn(self._persist(ready.persist))
        applier = self._applier
        if (ready.committed or applier.unfinished is not None) and not self.leaving:
            # A leader sends no acknowledgement; its clients wait for the apply.
            write = None if raft.leads else self._writing
            sends = bool(ready.messages) or ready.persist is not None
            applier.step(ready.committed, write, sends=sends)
        for read in ready.reads:
            self._lease.confirm(self._barriers.confirm(read.context, read.read_index))
        self._barriers.open(raft.last_applied)
        if ready.snapshot is not None:
            run.spawn(self._installer.install(ready.snapshot))
        for peer in ready.snapshots_wanted:
            # The term is that of this turn: in the next one this node may follow another leader.
            run.spawn(self._send_snapshot(peer, raft.current_term))
        self._link_peers()
        if run.waiters:
            run.round_ended()
        if self._proposer.may_continue:
            run.wake()  # the apply has made room for more proposals

    def _send(self, messages: Sequence[Message]) -> None:
        by_peer: dict[int, list[Message]] = {}
        for message in messages:
            by_peer.setdefault(message.recipient, []).append(message)
        leader_id = self._raft.leader_id
        for peer, batch in by_peer.items():
            needed = self._history.take_report() if peer == leader_id else 0
            self._links.send(peer, Frame(messages=batch, history_needed=needed))

    def _observe_role(self) -> None:
        """React to a change of term, role or leader since the last call."""
        raft = self._raft
        before, now = self._role_seen, (raft.current_term, raft.role, raft.leader_id)
        if now == before:
            return
        if now[:2] != before[:2]:
            self._proposer.begin_role()
            self._maintenance.begin_role()
            self._history.begin_role()
            self._lease.begin(raft.current_term if raft.leads else 0, self._run.loop.time())
        if now[2] and now[::2] != before[::2]:
            self.counters.leader_changes += 1
        self._role_seen = now
        self._log.info("role_changed", term=now[0], role=now[1].name.lower(), leader=now[2] or None)

    async def _persist(self, persist: Persist) -> None:
        await self._replica.log_disk.append(persist.hard_state, persist.entries)
        if not self._run.dead:
            self._raft.persisted()
            self._run.wake()

    def _applied(self, entries: Sequence[Entry], new_term: bool) -> None:
        if new_term and self._raft.established:
            self._clock.start(self.machine.time_ms, self._run.loop.time())
        if any(entry.kind is EntryKind.COMMANDS for entry in entries):
            self._applied_clock.set(self.machine.time_ms, self._run.loop.time())
        if any(entry.kind is EntryKind.MEMBERSHIP for entry in entries):
            self._removal.check_applied()
        if self.machine.state_marks != self._marks_sent:
            self._share_state_marks()
            self._compare_states()
        self._history.applied()
        self._compaction.start_if_due()

    async def _send_snapshot(self, peer: int, term: int) -> None:
        # The marks of a voter that lags decide; a copy of this node's state would decide nothing.
        if self._comparison.in_dispute and peer in self._raft.membership.voters:
            self._raft.snapshot_failed(peer)
            return
        try:
            point = await self._transfers.send(peer, term)
        except (Unavailable, OutOfResources) as error:
            self._log.warning("snapshot_not_sent", peer=peer, reason=error.message)
            self._raft.snapshot_failed(peer)
        else:
            self.counters.snapshots_sent += 1
            self._raft.snapshot_sent(peer, point)
        self._run.wake()

    def _snapshot_installed(self) -> None:
        self.counters.snapshots_installed += 1
        self._history.state_replaced()
        self._applied_clock.set(self.machine.time_ms, self._run.loop.time())
        self._proposer.pending.snapshot_installed(_in_session)
        self._removal.check_applied()

    def _link_peers(self) -> None:
        """Keep exactly the links that the core may need."""
        raft = self._raft
        if raft.peers_version == self._linked_version:
            return
        self._linked_version = raft.peers_version
        for member, address in raft.addresses.items():
            self._peer_addresses[member] = address.peer
        self._links.set_peers({peer: self._peer_addresses[peer] for peer in sorted(raft.peers)})


def _in_session(commands: bytes) -> bool:
    """Whether the state machine deduplicates this batch, so that it may be proposed again."""
    return kv_pb2.CommandBatch.FromString(commands).session != 0

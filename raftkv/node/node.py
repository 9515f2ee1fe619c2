"""One node of the cluster: start, stop, requests, status and membership changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any

import structlog

from raftkv.errors import OutOfService, RaftkvError, ShuttingDown, StorageError, Unavailable
from raftkv.kv.machine import StateMachine
from raftkv.node import membership_changes
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.config import NodeConfig, NodeStores, require_version
from raftkv.node.driver import Driver
from raftkv.node.peer_handler import NodePeerHandler
from raftkv.node.reconfiguration import Reconfiguration, require_leader
from raftkv.node.recovery import recover
from raftkv.node.scrub import Scrub
from raftkv.node.statistics import NodeStatistics
from raftkv.node.status import NodeState, PeerReachability, PeerState
from raftkv.peer.handshake import Caller
from raftkv.peer.ports import NO_AUTHOR, Author, PeerLinks
from raftkv.raft import quorum
from raftkv.raft.entry import Address, Membership
from raftkv.raft.view import RaftView
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.versions import VersionRange

SHUTDOWN_GRACE_S = 1.0
READY_TRY_S = 5.0


class Node:
    """Starts and stops a node, takes its requests, and changes the membership.

    `identity` is that of a founder whose cluster is founded, of a node that has joined, or of a
    member; `address` is where the node is reached now. Deadlines are in time of the running loop,
    and `rng` is the only source of chance.
    """

    def __init__(
        self,
        identity: DirectoryIdentity,
        address: Address,
        config: NodeConfig,
        stores: NodeStores,
        links: PeerLinks,
        rng: Random,
    ) -> None:
        self.node_id = identity.node_id
        self.cluster_id = identity.cluster_id
        self.incarnation = identity.incarnation
        self.ready = False
        self._identity = identity
        self._address = address
        self._config = config
        self._stores = stores
        self._links = links
        self._rng = rng
        self._stopping = False
        self._log = structlog.get_logger("raftkv.node").bind(node=identity.node_id)
        self.driver: Driver
        self._reconfiguration: Reconfiguration

    async def start(self) -> None:
        """Recover from disk and begin to take part. Raises `StorageError` if that can't be."""
        identity, config, stores = self._identity, self._config, self._stores
        recovered = await recover(identity, config, stores, self._rng)
        require_version(recovered.machine.cluster_version, config.versions)
        if identity.stage is Stage.REFOUNDING:
            self._log.warning("new_cluster_begun", incarnation=f"{identity.incarnation:016x}")
        if identity.stage is not Stage.MEMBER:
            # From now on log and state are there, or have been lost.
            self._save(replace(identity, stage=Stage.MEMBER, membership=b""))
        raft, start = recovered.raft, recovered.starts.own
        self._log.info(
            "node_recovered",
            term=raft.current_term,
            applied=raft.last_applied,
            last_index=raft.log.last_index,
        )
        own = Caller(
            self.node_id,
            self._address,
            identity.incarnation,
            identity.disk_id,
            start,
            config.versions,
        )
        driver = self.driver = Driver(own, config, recovered, stores, self._links, self._rng)
        self._reconfiguration = Reconfiguration(driver, config)
        driver.stopped.add_done_callback(self._remember_out_of_service)
        self._links.start(driver.peer_handler, start)
        driver.start()
        driver.spawn(self._become_ready())
        scrub = Scrub(
            self.node_id,
            stores.log,
            stores.state,
            Random(driver.origin),
            config.scrub_interval_s,
        )
        driver.spawn(scrub.run())

    def _save(self, identity: DirectoryIdentity) -> None:
        self._stores.identities.save(identity)
        self._identity = identity

    def _remember_out_of_service(self, stopped: asyncio.Future[BaseException | None]) -> None:
        reason = stopped.result()
        if isinstance(reason, OutOfService):
            self._save(replace(self._identity, out_of_service=reason.message))

    async def stop(self) -> None:
        """Take no new work, transfer leadership, resolve what is pending, and stop."""
        if not self._stopping and not self.driver.dead:
            self._stopping = True
            await self._transfer_before_stop()
            self.driver.finish(None)
        await self.driver.stopped
        await self.driver.settle()

    def fail(self, error: BaseException) -> None:
        """The node can't go on because of `error`, which a read of its data or the like has met."""
        self.driver.fail(error)

    async def _become_ready(self) -> None:
        """Ready once a read at this node has been linearizable."""
        loop = asyncio.get_running_loop()
        while not self.ready:
            try:
                await self.driver.read_barrier(loop.time() + READY_TRY_S)
                self.ready = True
            except Unavailable:
                continue
        self._log.info("node_ready", term=self.term, index=self.core.last_applied)

    async def _transfer_before_stop(self) -> None:
        driver, core = self.driver, self.core
        deadline = asyncio.get_running_loop().time() + SHUTDOWN_GRACE_S
        try:
            if core.leads and len(core.membership.voters) > 1:
                await driver.transfer_leadership(0, deadline)
            await driver.until(lambda: driver.proposals_pending == 0, deadline)
        except RaftkvError as error:
            if driver.proposals_pending == 0 and not self._sees_majority():
                # Perhaps all nodes stop at once: the others could not have elected a leader.
                self._log.info("leadership_kept", reason="no majority is left to elect another")
            else:
                self._log.warning("shutdown_in_haste", reason=error.message)

    def _sees_majority(self) -> bool:
        here = self._links.connected | {self.node_id}
        return quorum.agreed(self.membership, lambda member: int(member in here)) == 1

    # ---- state -----------------------------------------------------------------------

    @property
    def identity(self) -> DirectoryIdentity:
        """Whose data directory this node runs from."""
        return self._identity

    @property
    def core(self) -> RaftView:
        """The Raft core, read-only: for the simulator's invariants, for tests and for tools."""
        return self.driver.core

    @property
    def peer_handler(self) -> NodePeerHandler:
        """Takes what peers send to this node."""
        return self.driver.peer_handler

    @property
    def term(self) -> int:
        return self.core.current_term

    @property
    def membership(self) -> Membership:
        return self.core.membership

    @property
    def machine(self) -> StateMachine:
        """The state machine. A snapshot that is installed replaces it."""
        return self.driver.machine

    @property
    def changes(self) -> ChangeFeed:
        """The changes of `machine`, as they are applied."""
        return self.driver.changes

    @property
    def cluster_time_ms(self) -> int:
        """The leader's cluster time now; at other nodes that of the last applied entry."""
        return self.driver.cluster_time_ms

    @property
    def auth_time_ms(self) -> int:
        """Cluster time by which tokens expire: the last stamp that this node applied, and the time
        since then on the node's own clock.
        """
        return self.driver.auth_time_ms

    @property
    def stopped(self) -> asyncio.Future[BaseException | None]:
        """Done when the node has stopped, with the reason if it was not asked to."""
        return self.driver.stopped

    def pin_history(self, revision: int) -> None:
        """A client of this node is about to use this revision, and later ones, again.

        Automatic compaction leaves it for a minute at least, if it was the latest one.
        """
        self.driver.pin_history(revision)

    def status(self) -> NodeState:
        """What this node knows now; needs no other node."""
        core, machine = self.core, self.machine
        return NodeState(
            node_id=self.node_id,
            cluster_id=self.cluster_id,
            incarnation=self.incarnation,
            cluster_version=machine.cluster_version,
            notice=self._notice(),
            term=core.current_term,
            role=core.role,
            leader_id=core.leader_id,
            learner=self.node_id in core.membership.learners,
            commit_index=core.commit_index,
            applied_index=core.last_applied,
            first_log_index=core.log.first_index,
            last_log_index=core.log.last_index,
            revision=machine.revision,
            compacted_revision=machine.compacted_revision,
            cluster_time_ms=self.cluster_time_ms,
            disk_bytes=self._disk_bytes(),
            membership=core.membership,
            peers=tuple(self._peer_state(peer) for peer in sorted(core.peers)),
        )

    def statistics(self) -> NodeStatistics:
        """What this node counts about itself; as `status`, without a look at the disk."""
        core, machine, driver = self.core, self.machine, self.driver
        counters = driver.counters
        peers = tuple(self._peer_state(peer) for peer in sorted(core.peers))
        return NodeStatistics(
            term=core.current_term,
            leads=core.leads,
            leader_id=core.leader_id,
            sees_majority=self._hears_majority(peers),
            ready=self.ready,
            stopping=self._stopping or driver.dead or driver.leaving,
            leader_changes=counters.leader_changes,
            membership=core.membership,
            commit_index=core.commit_index,
            applied_index=core.last_applied,
            last_log_index=core.log.last_index,
            log_bytes=core.log.bytes,
            proposals_pending=driver.proposals_pending,
            proposals=asdict(driver.proposal_outcomes),
            snapshots_sent=counters.snapshots_sent,
            snapshots_installed=counters.snapshots_installed,
            apply=counters.apply.read(),
            revision=machine.revision,
            compacted_revision=machine.compacted_revision,
            leases=machine.lease_count,
            sessions=machine.session_count,
            peers=peers,
        )

    def _hears_majority(self, peers: Sequence[PeerState]) -> bool:
        """See `NodeStatistics.sees_majority`."""
        core = self.core
        heard = {
            peer.node_id for peer in peers if peer.reachability is not PeerReachability.UNREACHABLE
        }
        if not core.leads:
            return core.leader_id in heard
        heard.add(self.node_id)
        return quorum.agreed(self.membership, lambda member: int(member in heard)) == 1

    def queues(self) -> dict[str, int]:
        """What waits at this moment, by name."""
        core = self.core
        return {
            "proposals_pending": self.driver.proposals_pending,
            "entries_uncommitted": core.log.last_index - core.commit_index,
            "entries_unapplied": core.commit_index - core.last_applied,
        }

    def _disk_bytes(self) -> int:
        """0 if the system reports none: a node that can't measure its disk still has a status."""
        try:
            return self._stores.state.disk_bytes()
        except StorageError:
            return 0

    def _notice(self) -> str:
        """A warning for the operator of a node that serves."""
        notices = []
        by = self.driver.removal_reporters
        if by:
            notices.append(
                f"node {' and '.join(map(str, sorted(by)))} says that this node was removed, the"
                " others do not: it stands for no election until they agree"
            )
        notices += [
            f"the state of node {wrong} differs from that of a majority of voters: rebuild it by"
            f" `raftkv member replace {wrong} NEW`"
            for wrong in self.driver.wrong_members
        ]
        if self.driver.dispute:
            notices.append(self.driver.dispute)
        return "; ".join(notices)

    def _peer_state(self, peer: int) -> PeerState:
        contact_s = self.peer_handler.last_contact.get(peer)
        age_s = None if contact_s is None else asyncio.get_running_loop().time() - contact_s
        progress = self.core.progress.get(peer)
        return PeerState(
            node_id=peer,
            reachability=self._reachability(peer, age_s),
            last_contact_ms=-1 if age_s is None else int(age_s * 1000),
            match_index=progress.match_index if progress else 0,
            replication=progress.replication.value if progress else "",
        )

    def _reachability(self, peer: int, age_s: float | None) -> PeerReachability:
        core = self.core
        if not core.leads and peer != core.leader_id:
            # Followers exchange no messages: only the link itself shows that the peer is there.
            connected = peer in self._links.connected
            return PeerReachability.REACHABLE if connected else PeerReachability.UNREACHABLE
        suspect_after_s = self._config.election_timeout_s_min
        if age_s is None or age_s > 4 * suspect_after_s:
            return PeerReachability.UNREACHABLE
        return PeerReachability.SUSPECT if age_s > suspect_after_s else PeerReachability.REACHABLE

    # ---- reads and writes ------------------------------------------------------------

    def submit(
        self,
        commands: bytes,
        deadline: float,
        *,
        client: int = 0,
        weight: int = 1,
        author: Author = NO_AUTHOR,
    ) -> asyncio.Future[bytes]:
        """Put a checked CommandBatch through the log; the BatchResult of this node's apply.

        Clients take turns by the cost of their batches; 0 is the node itself. The rights of the
        author were checked, and are checked again at apply if they have changed.

        Fails with `Overloaded`, `NoLeader`, `ShuttingDown`, `ReplicasDiffer` or `DeadlineExceeded`
        if it was certainly not applied, with `OutcomeUnknown` if this node can't know.
        """
        try:
            self.require_running()
            return self.driver.propose(commands, deadline, client, weight, author)
        except RaftkvError as error:
            return _failed(error)

    @property
    def batch_commands_advised(self) -> int:
        """See `Proposer.batch_commands_advised`."""
        return self.driver.batch_commands_advised

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        """Done when `machine` includes everything that was acknowledged before this call."""
        try:
            self.require_running()
            return self.driver.read_barrier(deadline)
        except RaftkvError as error:
            return _failed(error)

    def lease_barrier(self, deadline: float) -> asyncio.Future[None] | None:
        """As `read_barrier`, without a round of heartbeats while a leader lease holds. None if
        `machine` is up to date already.
        """
        # The clock is read before the commit index: what is committed while this process is paused
        # between the two comes after the read.
        if self._stopping or not self.driver.holds_lease():
            return self.read_barrier(deadline)
        return self.driver.commit_barrier(deadline)

    @property
    def fresh_as_of_s(self) -> float | None:
        """`machine` includes all that was acknowledged before this time; None: unknown."""
        return self.driver.fresh_as_of_s

    def require_running(self) -> None:
        """Raise `ShuttingDown` once this node takes no work any more."""
        if self._stopping or self.driver.dead or self.driver.leaving:
            raise ShuttingDown("the node is stopping; ask another one")

    # ---- membership and leadership, at the leader ------------------------------------

    async def member_add(
        self, node_id: int, address: Address, deadline: float, *, force: bool = False
    ) -> Membership:
        """Add a learner. It votes only after `member_promote` or `member_replace`."""
        return await self._change(
            membership_changes.AddLearner(node_id, address, force), deadline, force
        )

    async def member_promote(
        self, node_id: int, deadline: float, *, force: bool = False
    ) -> Membership:
        """Make a learner that has caught up a voter."""
        return await self._change(membership_changes.Promote(node_id), deadline, force)

    async def member_remove(
        self, node_id: int, deadline: float, *, force: bool = False
    ) -> Membership:
        """Remove a voter or learner for good; it stops when it has applied that."""
        return await self._change(membership_changes.Remove(node_id), deadline, force)

    async def member_replace(
        self, old_id: int, new_id: int, deadline: float, *, force: bool = False
    ) -> Membership:
        """Remove `old_id` and give its part to the learner `new_id`, in one change.

        What was done before is not done again.
        """
        self.require_running()
        change = membership_changes.Replace(old_id, new_id)
        return await self._reconfiguration.replace(change, deadline, force=force)

    async def member_update(self, node_id: int, address: Address, deadline: float) -> Membership:
        """Give a member new addresses; one that is empty stays."""
        return await self._change(
            membership_changes.UpdateAddress(node_id, address), deadline, force=False
        )

    async def member_join(
        self, node_id: int, disk_id: int, versions: VersionRange, address: Address, deadline: float
    ) -> Membership:
        """Bind the id of an added node to its disk, and record its address.

        The same claim again changes nothing.
        """
        self.require_running()
        claim = membership_changes.Claim(node_id, disk_id, versions, address)
        return await self._reconfiguration.join(claim, deadline)

    async def _change(
        self, change: membership_changes.MembershipChange, deadline: float, force: bool
    ) -> Membership:
        self.require_running()
        return await self._reconfiguration.change(change, deadline, force=force)

    async def transfer_leader(self, to: int, deadline: float) -> int:
        """Make `to` (0: the most up-to-date voter) the leader; returns the new leader."""
        self._require_leader()
        if to:
            membership_changes.require_member(self.membership, to)
        return to if to == self.node_id else await self.driver.transfer_leadership(to, deadline)

    def _require_leader(self) -> None:
        self.require_running()
        require_leader(self.core)


def _failed(error: RaftkvError) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future

"""One member of the cluster, as its front door sees it. Knows what may be asked, not how."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import structlog

from raftkv.errors import (
    OutOfService,
    RaftkvError,
    ShuttingDown,
    StorageError,
    Unavailable,
)
from raftkv.kv.machine import StateMachine
from raftkv.node import membership_changes
from raftkv.node.change_feed import ChangeFeed
from raftkv.node.driver import Driver, NodeConfig
from raftkv.node.flow_control import BATCH_COMMANDS_ADVISED
from raftkv.node.leadership import hand_over
from raftkv.node.reconfiguration import Reconfiguration, require_leader
from raftkv.node.recovery import recover
from raftkv.node.scrub import Scrub
from raftkv.node.status import NodeState, PeerReachability, PeerState
from raftkv.node.upkeep import require_version
from raftkv.peer.handshake import Caller
from raftkv.peer.ports import PeerLinks
from raftkv.raft import quorum
from raftkv.raft.entry import Address, Membership
from raftkv.raft.membership import MembershipCodec
from raftkv.storage.identity import DirectoryIdentity, IdentityStore, Stage
from raftkv.storage.ports import LogStore, StateStorage
from raftkv.versions import VersionRange
from raftkv.wire.membership import decode_membership, encode_membership

CODEC = MembershipCodec(encode_membership, decode_membership)
SHUTDOWN_GRACE_S = 1.0
READY_TRY_S = 5.0


class Node:
    """Ports are handed in; time is the running loop's, chance is `rng`.

    The identity in `identities` is that of a founder whose cluster is founded, of a node that has
    joined, or of a member; `address` is where the node is reached now.
    """

    def __init__(
        self,
        identities: IdentityStore,
        identity: DirectoryIdentity,
        address: Address,
        config: NodeConfig,
        log_store: LogStore,
        state_storage: StateStorage,
        links: PeerLinks,
        rng: Random,
    ) -> None:
        self.node_id = identity.node_id
        self.cluster_id = identity.cluster_id
        self.incarnation = identity.incarnation
        self.ready = False
        self._identities = identities
        self._identity = identity
        self._address = address
        self._config = config
        self._log_store = log_store
        self._storage = state_storage
        self._links = links
        self._rng = rng
        self._stopping = False
        self._log = structlog.get_logger("raftkv.node").bind(node=identity.node_id)
        self.driver: Driver
        self._reconfiguration: Reconfiguration

    async def start(self) -> None:
        """Recover from disk and begin to take part. Raises `StorageError` if that can't be."""
        identity = self._identity
        recovered = await recover(
            identity,
            self._config.raft,
            CODEC,
            self._rng,
            self._config.limits,
            self._config.step_units,
            self._log_store,
            self._storage,
        )
        require_version(recovered.machine.cluster_version, self._config.versions)
        if identity.stage is not Stage.MEMBER:
            # From now on log and state are there, or have been lost.
            self._save(replace(identity, stage=Stage.MEMBER, membership=b""))
        raft = recovered.raft
        self._log.info(
            "node_recovered",
            term=raft.current_term,
            applied=raft.last_applied,
            last_index=raft.log.last_index,
        )
        start = recovered.starts.own
        self.driver = Driver(
            Caller(
                self.node_id,
                self._address,
                identity.incarnation,
                identity.disk_id,
                start,
                self._config.versions,
            ),
            self._config,
            recovered,
            self._log_store,
            self._storage,
            self._links,
            self._rng,
        )
        self._reconfiguration = Reconfiguration(self.driver, self._config)
        self.driver.stopped.add_done_callback(self._remember_out_of_service)
        self._links.start(self.driver, start)
        self.driver.start()
        self.driver.tasks.spawn(self._become_ready())
        scrub = Scrub(
            self.node_id,
            self._log_store,
            self._storage,
            Random(self.driver.submissions.origin),
            self._config.scrub_interval_s,
        )
        self.driver.tasks.spawn(scrub.run())

    def _save(self, identity: DirectoryIdentity) -> None:
        self._identities.save(identity)
        self._identity = identity

    def _remember_out_of_service(self, stopped: asyncio.Future[BaseException | None]) -> None:
        reason = stopped.result()
        if isinstance(reason, OutOfService):
            self._save(replace(self._identity, out_of_service=reason.message))

    async def stop(self) -> None:
        """Take no new work, give leadership away, settle what is under way, and go."""
        if not self._stopping and not self.driver.dead:
            self._stopping = True
            await self._give_leadership_away()
            self.driver.finish(None)
        await self.driver.stopped
        await self.driver.tasks.settle()

    async def _become_ready(self) -> None:
        """Ready once a read at this node has been linearizable."""
        loop = self.driver.loop
        while not self.ready:
            future = loop.create_future()
            self.driver.barriers.add(future, loop.time() + READY_TRY_S)
            self.driver.wake()
            try:
                await future
                self.ready = True
            except Unavailable:
                continue
        self._log.info("node_ready", term=self.term, index=self.driver.raft.last_applied)

    async def _give_leadership_away(self) -> None:
        driver = self.driver
        deadline = driver.loop.time() + SHUTDOWN_GRACE_S
        try:
            if driver.raft.leads and len(driver.raft.membership.voters) > 1:
                await hand_over(driver, 0, deadline)
            await driver.until(lambda: len(driver.submissions) == 0, deadline)
        except RaftkvError as error:
            if len(driver.submissions) == 0 and not self._sees_majority():
                # All are stopped at once, perhaps: whoever is left could not have been elected.
                self._log.info("leadership_kept", reason="no majority is left to elect another")
            else:
                self._log.warning("shutdown_in_haste", reason=error.message)

    def _sees_majority(self) -> bool:
        here = self._links.connected | {self.node_id}
        return quorum.agreed(self.membership, lambda member: int(member in here)) == 1

    # ---- what the front door reads ---------------------------------------------------

    @property
    def identity(self) -> DirectoryIdentity:
        """Whose data directory this node runs from."""
        return self._identity

    @property
    def term(self) -> int:
        return self.driver.raft.current_term

    @property
    def membership(self) -> Membership:
        return self.driver.raft.membership

    @property
    def machine(self) -> StateMachine:
        """What has been applied. A snapshot that arrives replaces it."""
        return self.driver.machine

    @property
    def changes(self) -> ChangeFeed:
        """Tells what `machine` changes, as it does."""
        return self.driver.changes

    @property
    def stopped(self) -> asyncio.Future[BaseException | None]:
        """Done when the node has stopped, with the reason if that was its own doing."""
        return self.driver.stopped

    def status(self) -> NodeState:
        """What this node knows now; needs nobody else."""
        raft, machine = self.driver.raft, self.machine
        now = self.driver.loop.time()
        time_ms = self.driver.clock.read_ms(now) if raft.established else machine.time_ms
        return NodeState(
            node_id=self.node_id,
            cluster_id=self.cluster_id,
            incarnation=self.incarnation,
            cluster_version=machine.cluster_version,
            notice=self._notice(),
            term=raft.current_term,
            role=raft.role,
            leader_id=raft.leader_id,
            learner=self.node_id in raft.membership.learners,
            commit_index=raft.commit_index,
            applied_index=raft.last_applied,
            first_log_index=raft.log.first_index,
            last_log_index=raft.log.last_index,
            revision=machine.revision,
            compacted_revision=machine.compacted_revision,
            cluster_time_ms=time_ms,
            disk_bytes=self._disk_bytes(),
            membership=raft.membership,
            peers=tuple(self._peer_status(peer, now) for peer in sorted(raft.peers)),
        )

    def _disk_bytes(self) -> int:
        """0 if the system does not say: a node that can't measure its disk still has a status."""
        try:
            return self._storage.disk_bytes()
        except StorageError:
            return 0

    def _notice(self) -> str:
        """What the operator should know although the node serves."""
        by = self.driver.removal_claimed_by
        if not by:
            return ""
        return (
            f"node {' and '.join(map(str, sorted(by)))} says that this node was removed, the others"
            " do not: it stands for no election until they agree"
        )

    def _peer_status(self, peer: int, now: float) -> PeerState:
        contact = self.driver.last_contact.get(peer)
        age_s = None if contact is None else now - contact
        progress = self.driver.raft.progress.get(peer)
        return PeerState(
            node_id=peer,
            reachability=self._reachability(peer, age_s),
            last_contact_ms=-1 if age_s is None else int(age_s * 1000),
            match_index=progress.match_index if progress else 0,
            replication=progress.replication.value if progress else "",
        )

    def _reachability(self, peer: int, age_s: float | None) -> PeerReachability:
        raft = self.driver.raft
        if not raft.leads and peer != raft.leader_id:
            # Followers have nothing to say to each other: only the link itself tells.
            connected = peer in self._links.connected
            return PeerReachability.REACHABLE if connected else PeerReachability.UNREACHABLE
        patience_s = self._config.raft.election_ticks_min * self._config.tick_s
        if age_s is None or age_s > 4 * patience_s:
            return PeerReachability.UNREACHABLE
        return PeerReachability.SUSPECT if age_s > patience_s else PeerReachability.REACHABLE

    # ---- reads and writes ------------------------------------------------------------

    def submit(
        self, commands: bytes, deadline: float, *, client: int = 0, weight: int = 1
    ) -> asyncio.Future[bytes]:
        """Put a checked CommandBatch through the log; the BatchResult of this node's apply.

        Clients have turns by what their batches cost; 0 is the node itself.

        Fails with `Overloaded`, `NoLeader`, `ShuttingDown` or `DeadlineExceeded` if it was
        certainly not applied, with `OutcomeUnknown` if nobody here can say.
        """
        future: asyncio.Future[bytes] = self.driver.loop.create_future()
        try:
            self.require_running()
            self.driver.submissions.add(commands, future, deadline, client, weight)
            self.driver.wake()
        except RaftkvError as error:
            future.set_exception(error)
        return future

    @property
    def batch_commands_advised(self) -> int:
        """How many commands clients should put in a batch at most, for others' sake; 0: any number.

        The leader knows of the clients of all nodes, others of their own.
        """
        mixed = self.driver.submissions.load.is_on or self.driver.mixed_load
        return BATCH_COMMANDS_ADVISED if mixed else 0

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        """Done when `machine` includes everything that was acknowledged before this call."""
        future: asyncio.Future[None] = self.driver.loop.create_future()
        try:
            self.require_running()
            self.driver.barriers.add(future, deadline)
            self.driver.wake()
        except RaftkvError as error:
            future.set_exception(error)
        return future

    def lease_barrier(self, deadline: float) -> asyncio.Future[None] | None:
        """As `read_barrier`, but nobody is asked while a leader's lease holds. None: nothing to
        wait for.
        """
        driver = self.driver
        # The clock is read before the commit index: what is committed while this process is paused
        # between the two comes after the read.
        if self._stopping or not driver.holds_lease():
            return self.read_barrier(deadline)
        commit_index = driver.raft.commit_index
        if driver.raft.last_applied >= commit_index:
            return None
        future: asyncio.Future[None] = driver.loop.create_future()
        driver.barriers.add_confirmed(future, deadline, commit_index)
        return future

    @property
    def fresh_as_of_s(self) -> float | None:
        """`machine` holds all that was acknowledged before this time; None: nobody here knows."""
        return self.driver.barriers.fresh_as_of_s

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
        """Remove a voter or learner for good; it stops itself when it hears of it."""
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
        """Bind the id of an added node to its disk, and note where the node says that it is.

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
        """Make `to` (0: the most up-to-date voter) the leader; returns who is."""
        self._require_leader()
        if to:
            membership_changes.require_member(self.membership, to)
        return to if to == self.node_id else await hand_over(self.driver, to, deadline)

    def _require_leader(self) -> None:
        self.require_running()
        require_leader(self.driver.raft)

"""A simulated machine: its disk, and the successive processes of its node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol, cast

from jepsen_lite.faults.kinds import Trigger
from jepsen_lite.sim.checks.disk_losses import NEVER_TAKES_PART, REASONS_TO_LEAVE, Loss, Replica
from jepsen_lite.sim.checks.invariants import Invariants
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.net.peer_links import PeerPort, PeerPorts
from jepsen_lite.sim.nodes.checked_node import CheckedNode
from jepsen_lite.sim.nodes.client_server import SimulatedClientServer
from jepsen_lite.sim.nodes.disk import CheckedLogStore, Disk
from jepsen_lite.sim.nodes.join import JoinRequests
from jepsen_lite.sim.nodes.settings import NodeTuning
from jepsen_lite.sim.process import Process
from raftkv.errors import (
    DamagedData,
    DirectoryMismatch,
    InvariantViolation,
    OutOfService,
    RemovedFromCluster,
    StorageError,
)
from raftkv.node.config import NodeStores
from raftkv.node.founder import Founder
from raftkv.peer.handshake import PeerIdentity
from raftkv.peer.ports import Founding, Frame
from raftkv.raft.entry import Address, Membership
from raftkv.raft.raft import Raft
from raftkv.raft.ready import RaftRole
from raftkv.raft.view import RaftView
from raftkv.storage.identity import DirectoryIdentity, Stage
from raftkv.storage.memory import read_state
from raftkv.storage.ports import Checkpoint
from raftkv.versions import SUPPORTED, VersionRange

CLUSTER_ID = 1
PEER_PORT, CLIENT_PORT = 7511, 7411
DRAIN_GRACE_S = 2.0


def address_of(host: str) -> Address:
    return Address(f"{host}:{PEER_PORT}", f"{host}:{CLIENT_PORT}")


class ObservedState(NamedTuple):
    """The last observed state of a node, from which triggers are derived."""

    role: RaftRole = RaftRole.FOLLOWER
    last_index: int = 0
    commit_index: int = 0
    voted_for: int = 0
    installing: bool = False

    def events_until(self, now: ObservedState, raft: RaftView) -> Iterator[Trigger]:
        if now.role is not self.role and now.role is RaftRole.CANDIDATE:
            yield Trigger.CANDIDATE
        if now.voted_for not in (self.voted_for, 0, raft.node_id):
            yield Trigger.VOTED
        if now.installing and not self.installing:
            yield Trigger.INSTALLING
        if now.role is not RaftRole.LEADER:
            return
        if self.role is not RaftRole.LEADER:
            yield Trigger.LEADER
            return
        if now.last_index > self.last_index:
            yield Trigger.APPENDED
            if not raft.membership_committed:
                yield Trigger.MEMBERSHIP
        if now.commit_index > self.commit_index:
            yield Trigger.COMMITTED


@dataclass(frozen=True, slots=True)
class HostSpec:
    """What a machine is made of. `initial`: the first configuration; None if its node is to join.

    `clock_rate`: how fast its clock runs against the world's.
    """

    node_id: int
    name: str
    initial: Membership | None
    tuning: NodeTuning
    directory: Path
    clock_rate: float


class HostSurroundings(PeerPorts, Protocol):
    """What a machine needs of the cluster around it."""

    on_event: Callable[[Host, Trigger], None]
    """Called when a trigger happens to a node."""

    def leader(self) -> Host | None: ...


class Host:
    """One machine. At most one process of its node lives at a time."""

    def __init__(
        self,
        context: SimulationContext,
        invariants: Invariants,
        surroundings: HostSurroundings,
        spec: HostSpec,
    ) -> None:
        world = context.world
        self.node_id = spec.node_id
        self.name = spec.name
        self.initial = spec.initial
        self.disk = Disk(spec.directory, world.rng(f"{self.name}/disk"))
        self.replica = Replica(spec.node_id)
        self.twin: Host | None = None
        self.removed = False
        self.damaged = False
        self.out_of_service = False
        self.versions = SUPPORTED
        self.switched_off = False
        self.node: CheckedNode | None = None
        self.process: Process | None = None
        self.port: PeerPort | None = None
        self.server: SimulatedClientServer | None = None
        self.contacts: set[int] = set()
        """Peers from which a message of this node's term has come since the last look at them."""
        self._context = context
        self._world = world
        self._surroundings = surroundings
        self._invariants = invariants
        self._tuning = spec.tuning
        self._clock_rate = spec.clock_rate
        self._clock_factor = 1.0
        self._on_failure = context.on_failure
        self._shown = ObservedState()
        self._incarnation = 0
        self._stopping = False
        self._failed = False
        self._boot_again = False
        self._settings = spec.tuning.settings(
            spec.node_id, spec.directory, f"127.0.0.1:{CLIENT_PORT}", f"127.0.0.1:{PEER_PORT}"
        )

    @property
    def up(self) -> bool:
        return self.process is not None

    @property
    def paused(self) -> bool:
        """Whether the process stands still."""
        return self.process is not None and self.process.paused

    @property
    def stopping(self) -> bool:
        """Whether the node was asked to stop."""
        return self._stopping

    @property
    def clock_rate(self) -> float:
        """How fast the machine's clock runs against the world's."""
        return self._clock_rate * self._clock_factor

    @property
    def clock_disturbed(self) -> bool:
        """Whether a fault has changed the rate of the machine's clock."""
        return self._clock_factor != 1.0

    @property
    def left(self) -> bool:
        """Whether the node has stopped for good, by itself or with its machine."""
        return self.removed or self.damaged or self.out_of_service or self.switched_off

    @property
    def gone(self) -> bool:
        """Whether the host boots no more. A node that left because of its disk boots again: it has
        to leave each time.
        """
        stays = self.out_of_service and self.replica.loss not in NEVER_TAKES_PART
        return self.removed or self.damaged or self.switched_off or stays

    def boot(self) -> None:
        """Start the node from what is on the disk, unless it runs; once it has gone, if it is on
        its way out.
        """
        if self.process is not None and (self._stopping or self._failed):
            self._boot_again = True
        if self.process is not None or self.gone:
            return
        self._boot_again = False
        self._incarnation += 1
        given = self.initial is not None and self.twin is None
        older = self._tuning.older_programs and self._incarnation == 1 and given
        self.versions = VersionRange(0, 0) if older else SUPPORTED
        self._stopping = self._failed = False
        process = self.process = Process(  # type: ignore[abstract]  # only what is used
            self._world,
            self.name,
            rate=self.clock_rate,
            on_turn=self._turned,
            on_exception=self._on_failure,
        )
        self._shown = ObservedState()
        self._invariants.up(self.node_id, self._world.now_s)
        process.enter(lambda: process.create_task(self._start(process)))

    async def _start(self, process: Process) -> None:
        rng = self._world.rng(f"{self.name}/{self._incarnation}")
        try:
            node = await self._start_node(process, rng)
        except (*REASONS_TO_LEAVE, StorageError, InvariantViolation) as error:
            self._broke(process, error)
            self._world.after(0.0, self._died, process)
            return
        node.stopped.add_done_callback(lambda stopped: self._ended(process, stopped.result()))
        node.check_membership_changes(lambda: self._world.now_s)
        node.check_results()
        self.node = node
        self.server = SimulatedClientServer(process, node, self._settings, node.fail)

    async def _start_node(self, process: Process, rng: Random) -> CheckedNode:
        """As a server does it (raftkv/server/process.py)."""
        joining = JoinRequests(self._context.network, process, self.name, self._surroundings.leader)
        identity = self.disk.identities.load() or await self._new_identity(rng, joining)
        if identity.out_of_service:
            raise OutOfService(identity.out_of_service)
        if identity.node_id != self.node_id:
            raise DirectoryMismatch(f"this is the disk of node {identity.node_id}")
        port = self.port = PeerPort(
            self._context, self._surroundings, process, self, self._peer_identity(identity)
        )
        initial = self.initial.addresses if self.initial is not None else {}
        founder = Founder(self.disk.identities, identity, initial, frozenset(), rng, self.versions)
        port.founder = founder
        if not self.disk.log.used:
            if identity.stage is Stage.FOUNDING:
                identity = await founder.found(
                    lambda to, founding: self._ask(port, founder, to, initial[to].peer, founding)
                )
                port.identity = self._peer_identity(identity)
            else:
                await joining.join(identity, address_of(self.name))
        log = CheckedLogStore(
            self.disk.log, self.disk.state, self.replica, self._invariants, self._on_failure
        )
        node = CheckedNode(
            self._invariants,
            self.replica,
            self._on_failure,
            identity,
            address_of(self.name),
            self._tuning.node_config(self.versions),
            NodeStores(self.disk.identities, log, self.disk.state),
            port.links,
            rng,
        )
        await node.start()
        founder.started(node.identity, lambda: node.membership)
        return node

    async def _ask(
        self, port: PeerPort, founder: Founder, to: int, address: str, founding: Founding
    ) -> Founding:
        port.identity = self._peer_identity(founder.identity)
        return await port.ask_founder(to, address, founding)

    async def _new_identity(self, rng: Random, joining: JoinRequests) -> DirectoryIdentity:
        """What an unused disk becomes: a founder's, or that of a node that joins."""
        identity = DirectoryIdentity(CLUSTER_ID, self.node_id, rng.getrandbits(64) or 1)
        if self.initial is None:
            incarnation = await joining.incarnation()
            identity = replace(identity, incarnation=incarnation, stage=Stage.JOINING)
        self.disk.identities.save(identity)
        return identity

    def _peer_identity(self, identity: DirectoryIdentity) -> PeerIdentity:
        return PeerIdentity(
            identity.cluster_id,
            identity.incarnation,
            identity.node_id,
            address_of(self.name),
            identity.disk_id,
            versions=self.versions,
        )

    def crash(self, *, power: bool) -> None:
        """Kill the process, or take the machine's power away, in the middle of whatever it does."""
        process = self.process
        if process is None:
            return
        if self.port is not None:
            self.port.cut()
        if self.server is not None:
            self.server.cut()
        self.node = self.port = self.server = self.process = None
        self._invariants.down(self.node_id, self._world.now_s)
        # First the disk: what the dying process still tries to write must not get there.
        self.disk.crash(power=power)
        process.kill()

    def lose_disk(self, loss: Loss, copy: Disk | None = None) -> None:
        """The node, which is down, runs from this copy from now on, or from an empty disk."""
        if copy is not None:
            self.disk.put(copy)
        else:
            self.disk.empty()
        self.replica = self._invariants.replaced(self.replica, loss)

    def switch_off(self) -> None:
        """The machine is taken away for good."""
        self.switched_off = True
        self.crash(power=True)

    def stop(self) -> None:
        """Ask the node to stop in good order (SIGTERM)."""
        process, node, server = self.process, self.node, self.server
        if process is None or node is None or server is None or self._stopping:
            return
        self._stopping = True

        async def stop() -> None:
            await server.drain(DRAIN_GRACE_S)
            await node.stop()
            self._world.after(0.0, lambda: self._died(process))

        process.enter(lambda: process.create_task(stop()))

    @property
    def voters(self) -> frozenset[int]:
        """The voters by this node's configuration; empty while it is down."""
        return self.node.membership.voters if self.node is not None else frozenset()

    def set_clock_rate(self, factor: float) -> None:
        """Its clock runs by that factor faster than it does by itself."""
        self._clock_factor = factor
        if self.process is not None:
            self.process.set_rate(self.clock_rate)

    def pause(self) -> None:
        if self.process is not None:
            self.process.pause()

    def resume(self) -> None:
        if self.process is not None:
            self._invariants.up(self.node_id, self._world.now_s)
            self.process.resume()

    def _ended(self, process: Process, reason: BaseException | None) -> None:
        """The node stopped by itself."""
        if reason is None:
            return  # it was asked to, and is not done yet
        self._failed = True
        if isinstance(reason, RemovedFromCluster):
            self.removed = True
            membership, _ = self._invariants.last_membership()
            if self.node_id in membership.members and self.replica.loss is None:
                self._on_failure(f"{self.name} stopped as removed, and it is a member")
        else:
            self._broke(process, reason)
        self._world.after(0.0, lambda: self._died(process))

    def _broke(self, process: Process, reason: BaseException) -> None:
        """A node may refuse a disk on which bits have turned over, one that takes no writes, and
        one that was lost.
        """
        lost = self.replica.loss is not None or self.twin is not None
        if lost and isinstance(reason, REASONS_TO_LEAVE):
            self.out_of_service = True
            self._invariants.left_service(self.replica)
        elif isinstance(reason, DamagedData | OutOfService) and self.disk.flipped:
            self.damaged = True
        elif process.alive and (
            isinstance(reason, DamagedData) or not isinstance(reason, StorageError)
        ):
            self._on_failure(f"{self.name} stopped itself: {type(reason).__name__}: {reason}")

    def sends_snapshot(self, checkpoint: Checkpoint) -> None:
        if read_state(checkpoint.path).damaged:
            self._on_failure(f"{self.name} sends a damaged snapshot")

    def sends(self, frame: Frame) -> None:
        try:
            self._invariants.sent(self.replica, frame.messages)
        except Violation as violation:
            self._on_failure(str(violation))

    def accepts(self, sender: Replica, frame: Frame) -> None:
        if self.node is not None:
            term = self.node.core.current_term
            if any(message.term == term for message in frame.messages):
                self.contacts.add(sender.node_id)
        try:
            self._invariants.accepted(sender, frame.messages)
        except Violation as violation:
            self._on_failure(str(violation))

    def _died(self, process: Process) -> None:
        if self.process is process:
            self.crash(power=False)
            if self._boot_again:
                self.boot()

    def _turned(self) -> None:
        if self.node is None:
            return
        self._invariants.turned(self.replica, self.node)
        self.disk.state.look_for_use(self.node.machine.applied_index)
        self.node.check_results()
        raft = self.node.core
        role, last_index, commit_index = raft.role, raft.log.last_index, raft.commit_index
        voted_for, installing = raft.voted_for, cast("Raft", raft).installing
        before = self._shown
        if (
            commit_index != before.commit_index
            or last_index != before.last_index
            or role is not before.role
            or voted_for != before.voted_for
            or installing != before.installing
        ):
            now = self._shown = ObservedState(role, last_index, commit_index, voted_for, installing)
            for trigger in before.events_until(now, raft):
                self._surroundings.on_event(self, trigger)

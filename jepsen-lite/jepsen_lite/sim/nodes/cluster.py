"""The simulated cluster: its hosts, their addresses, and the present leader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jepsen_lite.faults.kinds import Trigger
from jepsen_lite.faults.record import OnEffect
from jepsen_lite.sim.checks.disk_losses import Loss, must_serve
from jepsen_lite.sim.checks.invariants import Invariants
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.net.peer_links import PeerPort, host_of
from jepsen_lite.sim.net.traffic import Traffic
from jepsen_lite.sim.nodes.client_server import SimulatedClientServer
from jepsen_lite.sim.nodes.disk import Disk, damage_snapshot
from jepsen_lite.sim.nodes.host import Host, HostSpec, address_of
from jepsen_lite.sim.nodes.settings import MARK_ENTRIES, NodeTuning
from raftkv.raft.entry import Membership


class Cluster:
    """All machines that run nodes."""

    def __init__(
        self,
        context: SimulationContext,
        invariants: Invariants,
        size: int,
        tuning: NodeTuning,
        clock_skew: float,
        directory: Path,
    ) -> None:
        self.invariants = invariants
        self.traffic = Traffic(context.world)
        self.hosts: dict[str, Host] = {}
        self.clones: dict[str, Host] = {}
        """Machines whose nodes run from a copy of the disk of one of `hosts`, under its id."""
        self.on_event: Callable[[Host, Trigger], None] = _ignore_event
        node_ids = range(1, size + 1)
        self._initial = Membership(
            voters=frozenset(node_ids),
            addresses={node_id: address_of(f"node-{node_id}") for node_id in node_ids},
        )
        self._context = context
        self._world = context.world
        self._tuning = tuning
        self._clock_skew = clock_skew
        self._directory = directory
        self._snapshot_faults: list[OnEffect] = []
        for node_id in node_ids:
            self._add(node_id, self._initial)

    @property
    def endpoints(self) -> list[str]:
        """The addresses of the nodes that clients are given."""
        return [address_of(f"node-{each}").client for each in sorted(self._initial.voters)]

    def add_host(self) -> Host:
        """A new machine with an empty disk, whose node waits to be made a member."""
        return self._add(len(self.hosts) + 1, None)

    @property
    def newest(self) -> Host | None:
        """The host that was added last; None if none was added."""
        host = list(self.hosts.values())[-1]
        return host if host.initial is None else None

    def add_clone(self, original: Host, copy: Disk, loss: Loss) -> Host:
        """A new machine with this copy of the original's disk and an address of its own; a cut of
        the network takes both or neither.
        """
        clone = self._machine(original.node_id, original.initial, f"copy-of-{original.name}")
        clone.disk.put(copy)
        clone.replica = self.invariants.another_disk(original.node_id, loss)
        clone.twin, original.twin = original, clone
        self.clones[clone.name] = clone
        self._context.network.stand_beside(clone.name, original.name)
        return clone

    def _add(self, node_id: int, initial: Membership | None) -> Host:
        host = self._machine(node_id, initial, f"node-{node_id}")
        self.hosts[host.name] = host
        return host

    def _machine(self, node_id: int, initial: Membership | None, name: str) -> Host:
        skew = self._world.rng(f"clock {node_id}").uniform(-self._clock_skew, self._clock_skew)
        spec = HostSpec(node_id, name, initial, self._tuning, self._directory / name, 1.0 + skew)
        host = Host(self._context, self.invariants, self, spec)
        host.disk.snapshot_arrives = self._snapshot_arrives
        return host

    @property
    def machines(self) -> list[Host]:
        """All hosts and clones."""
        return [*self.hosts.values(), *self.clones.values()]

    def peer_port(self, address: str) -> PeerPort | None:
        host = self._at(address)
        return host.port if host is not None else None

    def client_server(self, address: str) -> SimulatedClientServer | None:
        host = self._at(address)
        return host.server if host is not None else None

    def _at(self, address: str) -> Host | None:
        name = host_of(address)
        return self.hosts.get(name) or self.clones.get(name)

    @property
    def version(self) -> int:
        """The cluster version that the leader has applied; 0: there is no leader."""
        leader = self.leader()
        return leader.node.machine.cluster_version if leader and leader.node else 0

    def leader(self) -> Host | None:
        """The leader of the highest term, as seen from outside."""
        leading = [host for host in self.machines if host.node and host.node.core.leads]
        return max(leading, key=lambda host: _term(host), default=None)

    @property
    def damaged(self) -> frozenset[int]:
        """Nodes whose disks are damaged or lost, and nodes that have left service."""
        return frozenset(
            host.node_id
            for host in self.hosts.values()
            if host.disk.flipped or host.damaged or host.out_of_service or host.replica.loss
        )

    @property
    def down(self) -> frozenset[int]:
        """Nodes whose processes don't run."""
        return frozenset(host.node_id for host in self.hosts.values() if not host.up)

    def damage_next_snapshot(self, on_effect: OnEffect) -> None:
        """A bit of it turns over where it arrives, before it is installed."""
        self._snapshot_faults.append(on_effect)

    def _snapshot_arrives(self, received: Path) -> None:
        if self._snapshot_faults:
            damage_snapshot(received, self._world.rng("spoiled snapshots"))
            self._snapshot_faults.pop()()

    @property
    def must_serve(self) -> bool:
        """Whether the members that are not damaged can elect a leader."""
        membership, _ = self.invariants.last_membership()
        return must_serve(membership, self.damaged)

    @property
    def doubled(self) -> bool:
        """Whether a node and its clone are both in service."""
        return any(
            clone.twin is not None and not clone.left and not clone.twin.left
            for clone in self.clones.values()
        )

    def in_service(self, name: str) -> bool:
        """Whether the node of this host is a member that serves, or will once it runs again."""
        membership, _ = self.invariants.last_membership()
        host = self.hosts[name]
        return host.node_id in membership.members and not host.left

    def switch_off_lost(self) -> None:
        """The operator takes away all clones, and all hosts that have lost their disk or left."""
        for host in self.machines:
            if host.name in self.clones or host.replica.loss is not None or host.out_of_service:
                host.switch_off()

    def compare_states(self) -> None:
        """Raises `Violation` if replicas with the same applied index differ, or if one has damage
        that came from elsewhere.
        """
        states = [(host.replica, host.disk.state) for host in self.machines]
        for replica, state in states:
            if state.store.written.damaged and not state.flipped:
                raise Violation(f"node {replica} has damage in its state that came with a snapshot")
        self.invariants.state_machines.compare(
            (replica, state.store)
            for replica, state in states
            if not (state.store.written.damaged or state.wrong.key)
        )

    def wrong_states_found(self) -> bool:
        """Whether every node has left service whose state is wrong and was compared since."""
        leader = self.leader()
        applied = leader.node.machine.applied_index if leader and leader.node else 0
        return all(
            host.left or not wrong.used_index or applied < wrong.used_index + MARK_ENTRIES
            for host in self.hosts.values()
            for wrong in (host.disk.state.wrong,)
        )

    def settled(self) -> bool:
        """All members run, are ready, and have applied the same, up to the cluster version that all
        their programs can take part in; removed nodes have stopped.
        """
        leader = self.leader()
        if leader is None or leader.node is None:
            return False
        membership = leader.node.membership
        indexes: set[int] = set()
        version = min(
            host.versions.maximum
            for host in self.hosts.values()
            if host.node_id in membership.members
        )
        for host in self.hosts.values():
            if host.node_id in membership.removed and not host.gone:
                return False
            if host.node_id in membership.members:
                if host.node is None or not host.node.ready:
                    return False
                if host.node.machine.cluster_version != version:
                    return False
                indexes.add(host.node.core.last_applied)
        return len(indexes) == 1 and not membership.joint


def _ignore_event(host: Host, trigger: Trigger) -> None:
    """Until a nemesis does."""


def _term(host: Host) -> int:
    return host.node.core.current_term if host.node is not None else 0

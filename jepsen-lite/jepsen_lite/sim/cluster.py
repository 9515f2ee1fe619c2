"""The simulated cluster: its hosts, their addresses, and who leads. Knows no workload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jepsen_lite.sim.blows import Landed
from jepsen_lite.sim.disk import spoil
from jepsen_lite.sim.faults import Trigger
from jepsen_lite.sim.front_door import SimulatedFrontDoor
from jepsen_lite.sim.host import Host, NodeTuning, address_of
from jepsen_lite.sim.invariants import Invariants
from jepsen_lite.sim.network import Network
from jepsen_lite.sim.peer_links import PeerPort, host_of
from jepsen_lite.sim.traffic import Traffic
from jepsen_lite.sim.violation import Violation
from jepsen_lite.sim.world import World
from raftkv.raft.entry import Membership


class Cluster:
    """All machines that run nodes."""

    def __init__(
        self,
        world: World,
        network: Network,
        invariants: Invariants,
        size: int,
        tuning: NodeTuning,
        clock_skew: float,
        directory: Path,
        on_failure: Callable[[str], None],
    ) -> None:
        self.invariants = invariants
        self.traffic = Traffic(world)
        self.hosts: dict[str, Host] = {}
        self.on_event: Callable[[Host, Trigger], None] = _nobody_cares
        node_ids = range(1, size + 1)
        self._initial = Membership(
            voters=frozenset(node_ids),
            addresses={node_id: address_of(f"node-{node_id}") for node_id in node_ids},
        )
        self._world = world
        self._network = network
        self._tuning = tuning
        self._clock_skew = clock_skew
        self._directory = directory
        self._on_failure = on_failure
        self._spoilers: list[Landed] = []
        for node_id in node_ids:
            self._add(node_id, self._initial)

    @property
    def endpoints(self) -> list[str]:
        """Where clients are told that the nodes are."""
        return [address_of(f"node-{each}").client for each in sorted(self._initial.voters)]

    def add_host(self) -> Host:
        """A new machine with an empty disk, whose node waits to be made a member."""
        return self._add(len(self.hosts) + 1, None)

    def _add(self, node_id: int, initial: Membership | None) -> Host:
        skew = self._world.rng(f"clock {node_id}").uniform(-self._clock_skew, self._clock_skew)
        host = Host(
            self._world,
            self._network,
            self,
            self.invariants,
            node_id,
            initial,
            self._tuning,
            self._directory / f"node-{node_id}",
            1.0 + skew,
            self._on_failure,
            lambda host, trigger: self.on_event(host, trigger),
            self.leader,
        )
        host.disk.state.snapshot_arrives = self._snapshot_arrives
        self.hosts[host.name] = host
        return host

    def peer_port(self, address: str) -> PeerPort | None:
        host = self.hosts.get(host_of(address))
        return host.port if host is not None else None

    def front_door(self, address: str) -> SimulatedFrontDoor | None:
        host = self.hosts.get(host_of(address))
        return host.door if host is not None else None

    def leader(self) -> Host | None:
        """Who leads the highest term, as seen from outside."""
        leading = [
            host for host in self.hosts.values() if host.node and host.node.driver.raft.leads
        ]
        return max(leading, key=lambda host: _term(host), default=None)

    @property
    def damaged(self) -> frozenset[int]:
        """Nodes whose disks are no good any more."""
        return frozenset(
            host.node_id for host in self.hosts.values() if host.disk.rotten or host.damaged
        )

    def spoil_next_snapshot(self, landed: Landed) -> None:
        """A bit of it turns over where it arrives, before it is installed."""
        self._spoilers.append(landed)

    def _snapshot_arrives(self, received: Path) -> None:
        if self._spoilers:
            spoil(received, self._world.rng("spoiled snapshots"))
            self._spoilers.pop()()

    @property
    def down(self) -> frozenset[int]:
        """Nodes whose processes don't run."""
        return frozenset(host.node_id for host in self.hosts.values() if not host.up)

    def compare_states(self) -> None:
        """Raises `Violation` if replicas with the same applied index differ, or if one has damage
        that came from elsewhere.
        """
        states = [(host.node_id, host.disk.state) for host in self.hosts.values()]
        for node_id, state in states:
            if state.store.written.damaged and not state.rotten:
                raise Violation(f"node {node_id} has damage in its state that came with a snapshot")
        self.invariants.compare_states(
            (node_id, state.store) for node_id, state in states if not state.store.written.damaged
        )

    def settled(self) -> bool:
        """All members run, are ready, and have applied the same; who was removed has gone."""
        leader = self.leader()
        if leader is None or leader.node is None:
            return False
        membership = leader.node.membership
        indexes: set[int] = set()
        for host in self.hosts.values():
            if host.node_id in membership.removed and not (host.removed or host.damaged):
                return False
            if host.node_id in membership.members:
                if host.node is None or not host.node.ready:
                    return False
                indexes.add(host.node.driver.raft.last_applied)
        return len(indexes) == 1 and not membership.joint


def _nobody_cares(host: Host, trigger: Trigger) -> None:
    """Until a nemesis does."""


def _term(host: Host) -> int:
    return host.node.driver.raft.current_term if host.node is not None else 0

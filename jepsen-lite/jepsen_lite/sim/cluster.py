"""The simulated cluster: its hosts, their addresses, and who leads. Knows no workload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jepsen_lite.sim.front_door import SimulatedFrontDoor
from jepsen_lite.sim.host import Host, NodeTuning, address_of
from jepsen_lite.sim.invariants import Invariants
from jepsen_lite.sim.network import Network
from jepsen_lite.sim.peer_links import PeerPort, host_of
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
        rng = world.rng("clocks")
        node_ids = range(1, size + 1)
        initial = Membership(
            voters=frozenset(node_ids),
            addresses={node_id: address_of(f"node-{node_id}") for node_id in node_ids},
        )
        self.hosts = {
            f"node-{node_id}": Host(
                world,
                network,
                self,
                invariants,
                node_id,
                initial,
                tuning,
                directory / f"node-{node_id}",
                1.0 + rng.uniform(-clock_skew, clock_skew),
                on_failure,
            )
            for node_id in node_ids
        }

    @property
    def endpoints(self) -> list[str]:
        """Where clients reach the nodes."""
        return [address_of(name).client for name in self.hosts]

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

    def compare_states(self) -> None:
        """Raises `Violation` if replicas with the same applied index differ."""
        self.invariants.compare_states(
            (host.node_id, host.disk.state.store) for host in self.hosts.values()
        )

    def settled(self) -> bool:
        """All nodes run, are ready, and have applied the same."""
        nodes = [host.node for host in self.hosts.values()]
        indexes = {node.driver.raft.last_applied for node in nodes if node is not None}
        return (
            None not in nodes
            and len(indexes) == 1
            and all(node.ready for node in nodes if node is not None)
        )


def _term(host: Host) -> int:
    return host.node.driver.raft.current_term if host.node is not None else 0

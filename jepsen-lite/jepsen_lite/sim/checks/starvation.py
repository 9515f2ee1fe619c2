"""A bound on starvation: a client that reaches a healthy cluster is served within it.

Judged while faults last, by a look every `LOOK_S` of virtual time.
"""

from __future__ import annotations

from dataclasses import dataclass

from jepsen_lite.sim.checks.leadership import LOOK_S, LeadershipBounds
from jepsen_lite.sim.clients import TIMEOUTS_S, Clients
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.net.client_links import CONNECT_TIMEOUT_S
from jepsen_lite.sim.nodes.cluster import Cluster
from raftkv.client.settings import ClientSettings

FAILURES_MIN = 3
"""One operation that fails may have been begun at a bad moment."""


@dataclass(slots=True)
class ServedClient:
    """What one client's operations have come to. `reaches_since_s`: since when nothing has been
    between it and the leader, and all nodes have been healthy.
    """

    ok: int = 0
    failed: int = 0
    reaches_since_s: float = 0.0
    served_s: float = 0.0
    failed_before: int = 0


class StarvationBound:
    """Fails the simulation for a client that is not served. `begin` starts the looks."""

    def __init__(
        self,
        context: SimulationContext,
        cluster: Cluster,
        clients: Clients,
        leadership: LeadershipBounds,
    ) -> None:
        settings = ClientSettings()
        self._world = context.world
        self._network = context.network
        self._cluster = cluster
        self._clients = clients
        self._leadership = leadership
        self._on_failure = context.on_failure
        self._leader: tuple[str, int] | None = None
        self._led_since_s = 0.0
        self._served: dict[str, ServedClient] = {}
        # A silent node is left, its circuit breaker may be open, each address may take a connection
        # that fails, and an operation that began before that must end.
        self.starved_s_max = (
            settings.silence_s_max
            + settings.breaker_cool_down_s
            + len(cluster.endpoints) * CONNECT_TIMEOUT_S
            + max(TIMEOUTS_S)
        )

    def begin(self) -> None:
        """Look from now on."""
        now_s = self._world.now_s
        self._served = {
            host: ServedClient(reaches_since_s=now_s, served_s=now_s)
            for host in self._clients.hosts
        }
        self._world.after(LOOK_S, self._look)

    def _look(self) -> None:
        now_s = self._world.now_s
        host = self._cluster.leader()
        leader = None
        if host is not None and host.node is not None:
            leader = (host.name, host.node.core.current_term)
        if leader != self._leader:
            self._leader, self._led_since_s = leader, now_s
        for client, known in self._served.items():
            self._look_at(client, known)
        self._world.after(LOOK_S, self._look)

    def _look_at(self, client: str, known: ServedClient) -> None:
        now_s, outcomes = self._world.now_s, self._clients.outcomes[client]
        if outcomes.ok != known.ok:
            known.ok, known.served_s, known.failed_before = outcomes.ok, now_s, outcomes.failed
        if not self._reaches_all(client):
            known.reaches_since_s, known.failed_before = now_s, outcomes.failed
        starved_s = now_s - max(known.served_s, known.reaches_since_s, self._led_since_s)
        failed = outcomes.failed - known.failed_before
        if starved_s > self.starved_s_max and failed >= FAILURES_MIN:
            self._on_failure(
                f"{client} reaches a healthy cluster whose leader is"
                f" {self._leader and self._leader[0]}, and for {starved_s:.1f} s none of its"
                f" operations has succeeded; {failed} have failed"
            )

    def _reaches_all(self, client: str) -> bool:
        """Whether every member is healthy, and nothing is between them and this client."""
        membership, _ = self._cluster.invariants.last_membership()
        members = [
            host.name for host in self._cluster.hosts.values() if host.node_id in membership.members
        ]
        if client not in [self._clients.hosts[each] for each in self._clients.served]:
            return False  # the only node that it knows has left the cluster
        return self._leadership.healthy(*members) > 0 and all(
            self._network.is_swift(client, member) and self._network.is_swift(member, client)
            for member in members
        )

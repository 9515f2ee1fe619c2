"""No client trusts a lease that the store has let expire, judged while faults last."""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_lite.clients.raftkv_client import RaftkvClient
from jepsen_lite.sim.checks.leadership import LOOK_S
from jepsen_lite.sim.clients import Clients
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.nodes.cluster import Cluster
from raftkv.client.coordination.lease import KeptLease
from raftkv.kv.machine import StateMachine


class LeaseTrust:
    """Fails the simulation for a lease that outlives itself at its client. `begin` starts looks.

    A lease that was revoked is no evidence: its client learns of that by its next renewal. Nor is
    a look at a machine that is behind an earlier look: it has not applied the last renewals yet.
    """

    def __init__(self, context: SimulationContext, cluster: Cluster, clients: Clients) -> None:
        self._world = context.world
        self._cluster = cluster
        self._clients = clients
        self._on_failure = context.on_failure
        self._applied_index = 0  # the highest of any look
        self._deadlines_ms: dict[int, int] = {}  # at the last look, of each lease that was trusted

    def begin(self) -> None:
        """Look from now on."""
        self._world.after(LOOK_S, self._look)

    def _look(self) -> None:
        machine = self._most_advanced()
        before, self._deadlines_ms = self._deadlines_ms, {}
        for client, kept in self._trusted():
            if machine is None:
                continue
            left = machine.lease_time_to_live(kept.id)
            if left is not None:
                self._deadlines_ms[kept.id] = machine.time_ms + left[0]
            elif before.get(kept.id, machine.time_ms + 1) <= machine.time_ms:
                self._on_failure(
                    f"{client} trusts lease {kept.id} for {kept.remaining():.3f} s more, but the"
                    f" lease expired {machine.time_ms - before[kept.id]} ms ago by cluster time"
                )
        self._world.after(LOOK_S, self._look)

    def _most_advanced(self) -> StateMachine | None:
        """The state machine that has applied most; None if an earlier look was at a later state."""
        machines = [
            host.node.machine
            for host in self._cluster.machines
            if host.node is not None and not host.node.stopped.done()
        ]
        machine = max(machines, key=lambda machine: machine.applied_index, default=None)
        if machine is None or machine.applied_index < self._applied_index:
            return None
        self._applied_index = machine.applied_index
        return machine

    def _trusted(self) -> Iterator[tuple[str, KeptLease]]:
        for name, client in self._clients.connections():
            if isinstance(client, RaftkvClient):
                for kept in list(client._client._leases._kept.values()):
                    if kept.remaining() > 0:
                        yield name, kept

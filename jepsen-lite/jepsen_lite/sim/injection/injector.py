"""Carries out a schedule of faults on a simulated cluster, and takes it all back at the end. Knows
when each begins and ends and what becomes of it, not how it is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from jepsen_lite.faults.kinds import (
    BrokenLink,
    Clone,
    Compaction,
    DirectRemoval,
    EmptyDisk,
    Fault,
    ForeignCopy,
    Isolate,
    MemberChange,
    OlderCopy,
    PoorNetwork,
    RollingFault,
    Schedule,
    SlowLink,
    Split,
    Stranger,
    Transfer,
    Triggerable,
    TriggeredFault,
)
from jepsen_lite.faults.record import FaultLog, FaultRecord, OnEffect, Undo, detail_of, no_action
from jepsen_lite.sim.injection.disk_faults import DiskFaults
from jepsen_lite.sim.injection.machine_faults import MachineFaults
from jepsen_lite.sim.injection.network_faults import NetworkFaults
from jepsen_lite.sim.injection.operations import OperatorFaults
from jepsen_lite.sim.injection.strangers import call_as_stranger
from jepsen_lite.sim.injection.targets import Targets
from jepsen_lite.sim.injection.triggered_faults import TriggeredFaults
from jepsen_lite.sim.net.network import NetworkConditions, SimulatedNetwork
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host
from jepsen_lite.sim.operator import Operator
from jepsen_lite.sim.world import World


class SimulatedNemesis:
    """One schedule's, from its first fault until all is well again."""

    def __init__(
        self,
        world: World,
        network: SimulatedNetwork,
        cluster: Cluster,
        operator: Operator,
        clients: Iterable[str],
    ) -> None:
        self._world = world
        self._network = network
        self._cluster = cluster
        self._healed = False
        self._blows = FaultLog(world)
        self._targets = Targets(cluster)
        self._networks = NetworkFaults(network, cluster, self._targets, clients)
        self._machines = MachineFaults(network, cluster, self._targets, operator)
        self._disks = DiskFaults(
            world, network, cluster, self._targets, operator, self._machines.crash
        )
        self._operations = OperatorFaults(cluster, self._targets, operator)
        self._ambushes = TriggeredFaults(
            world, self._blows, self._machines, self._networks, self._spring
        )
        cluster.on_event = self._ambushes.happened

    @property
    def blows(self) -> tuple[FaultRecord, ...]:
        """Each fault that was tried, and whether it met something it could break."""
        return tuple(self._blows.dealt)

    @property
    def took_effect(self) -> Counter[str]:
        """How many faults did, by kind."""
        return Counter(blow.name for blow in self.blows if blow.took_effect)

    def begin(self, schedule: Schedule) -> None:
        for fault in schedule:
            self._world.after(fault.at_s, self._strike, fault)

    def heal(self, weather: NetworkConditions) -> None:
        """Undo everything, start what is down; what is still scheduled has no effect any more."""
        self._healed = True
        self._ambushes.give_up()
        for blow in self.blows:
            self._blows.end(blow)
        self._network.heal(weather)
        for host in self._cluster.machines:
            host.disk.slow_s = 0.0
            host.disk.full = False
            host.set_clock_rate(1.0)
            host.resume()
            host.boot()

    def _strike(self, fault: Fault, sprang: OnEffect = no_action) -> None:
        """`sprang` is told as well if it takes effect: of the ambush that it was a part of."""
        if self._healed:
            return
        blow = self._blows.begin(type(fault).__name__, self._targets.names(fault), detail_of(fault))

        def landed() -> None:
            blow.took_effect = True
            sprang()

        meets = self._targets.meets(fault)
        undo = self._apply(fault, landed)
        if undo is None:
            self._blows.end(blow)
            return
        if meets:
            landed()

        def take_back() -> None:
            if not self._healed:
                self._blows.end(blow)
                undo()

        self._world.after(fault.for_s, take_back)

    def _spring(self, host: Host, trap: Triggerable, landed: OnEffect) -> None:
        self._targets.caught = host
        self._strike(trap, landed)

    def _apply(self, fault: Fault, landed: OnEffect) -> Undo | None:
        """Do it; the way to take it back, None if there was nothing to do it to. `landed` is for
        those that take effect later, if at all.
        """
        match fault:
            case TriggeredFault() | RollingFault():
                return self._ambushes.begin(fault, landed)
            case Transfer() | MemberChange() | DirectRemoval() | Compaction():
                return self._operations.begin(fault, landed)
            case EmptyDisk() | OlderCopy() | ForeignCopy() | Clone():
                return self._disks.begin(fault, landed)
            case Stranger():
                host = self._targets.host(fault.node)
                return (
                    no_action if host is not None and call_as_stranger(host, fault.says) else None
                )
            case Isolate() | Split() | SlowLink() | PoorNetwork() | BrokenLink():
                return self._networks.begin(fault)
        return self._machines.begin(fault, landed)

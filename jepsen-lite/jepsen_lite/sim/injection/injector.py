"""The simulated nemesis: carries out a schedule of faults on a simulated cluster and heals it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from jepsen_lite.faults.kinds import (
    AddressChange,
    BitFlip,
    BrokenLink,
    ClockJump,
    ClockRate,
    Clone,
    Compaction,
    DirectRemoval,
    EmptyDisk,
    Fault,
    ForeignCopy,
    FullDisk,
    Isolate,
    Kill,
    LearnerRemoval,
    MemberChange,
    NetworkConditions,
    OlderCopy,
    Pause,
    PoorNetwork,
    RollingFault,
    Schedule,
    SlowDisk,
    SlowLink,
    Split,
    Stop,
    Stranger,
    Transfer,
    Triggerable,
    TriggeredFault,
    WallClockJump,
)
from jepsen_lite.faults.record import FaultLog, FaultRecord, OnEffect, Undo, detail_of, no_action
from jepsen_lite.sim.injection.disk_faults import DiskFaults
from jepsen_lite.sim.injection.machine_faults import MachineFaults
from jepsen_lite.sim.injection.network_faults import NetworkFaults
from jepsen_lite.sim.injection.operations import OperatorFaults
from jepsen_lite.sim.injection.strangers import call_as_stranger
from jepsen_lite.sim.injection.targets import Targets
from jepsen_lite.sim.injection.triggered_faults import TriggeredFaults
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host
from jepsen_lite.sim.operator import Operator
from jepsen_lite.sim.world import World


class SimulatedNemesis:
    """Injects the faults of one run, records each, and heals everything at the end."""

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
        self._log = FaultLog(world.now_ns)
        self._targets = Targets(cluster)
        self._networks = NetworkFaults(network, cluster, self._targets, clients)
        self._machines = MachineFaults(network, cluster, self._targets, operator)
        self._disks = DiskFaults(
            world, network, cluster, self._targets, operator, self._machines.kill
        )
        self._operations = OperatorFaults(cluster, self._targets, operator)
        self._triggered = TriggeredFaults(
            world, self._log, self._machines, self._networks, self._inject_triggered
        )
        cluster.on_event = self._triggered.happened

    @property
    def fault_records(self) -> tuple[FaultRecord, ...]:
        """Each fault that was tried, with whether it took effect."""
        return tuple(self._log.records)

    @property
    def took_effect(self) -> Counter[str]:
        """The number of faults that took effect, by kind."""
        return Counter(record.name for record in self.fault_records if record.took_effect)

    def begin(self, schedule: Schedule) -> None:
        for fault in schedule:
            self._world.after(fault.at_s, self._inject, fault)

    def heal(self, conditions: NetworkConditions) -> None:
        """Revert every fault and start every node; later faults of the schedule are skipped."""
        self._healed = True
        self._triggered.stop()
        for record in self.fault_records:
            self._log.end(record)
        self._network.heal(conditions)
        for host in self._cluster.machines:
            host.disk.slow_s = 0.0
            host.disk.full = False
            host.set_clock_rate(1.0)
            host.resume()
            host.boot()

    def _inject(self, fault: Fault, on_outer_effect: OnEffect = no_action) -> None:
        """`on_outer_effect` is called as well if the fault takes effect: it is the effect of the
        `TriggeredFault` that this fault is a part of.
        """
        if self._healed:
            return
        name, target = type(fault).__name__, self._targets.names(fault)
        record = self._log.begin(name, target, detail_of(fault))

        def on_effect() -> None:
            record.took_effect = True
            on_outer_effect()

        has_target = self._targets.has_target(fault)
        undo = self._apply(fault, on_effect)
        if undo is None:
            self._log.end(record)
            return
        if has_target:
            on_effect()

        def revert() -> None:
            if not self._healed:
                self._log.end(record)
                undo()

        self._world.after(fault.for_s, revert)

    def _inject_triggered(self, host: Host, fault: Triggerable, on_effect: OnEffect) -> None:
        self._targets.triggering = host
        self._inject(fault, on_effect)

    def _apply(self, fault: Fault, on_effect: OnEffect) -> Undo | None:
        """Begin the fault and return its undo; None if it has no target.

        `on_effect` is for faults that take effect later, if at all.
        """
        match fault:
            case TriggeredFault() | RollingFault():
                return self._triggered.begin(fault, on_effect)
            case (
                Transfer() | MemberChange() | DirectRemoval() | AddressChange() | LearnerRemoval()
                | Compaction()
            ):  # fmt: skip
                return self._operations.begin(fault, on_effect)
            case EmptyDisk() | OlderCopy() | ForeignCopy() | Clone():
                return self._disks.begin(fault, on_effect)
            case Stranger():
                host = self._targets.host(fault.node)
                called = host is not None and call_as_stranger(host, fault.says)
                return no_action if called else None
            case Isolate() | Split() | SlowLink() | PoorNetwork() | BrokenLink():
                return self._networks.begin(fault)
            case (
                Kill() | Pause() | Stop() | SlowDisk() | FullDisk() | BitFlip() | ClockJump()
                | ClockRate() | WallClockJump()
            ):  # fmt: skip
                return self._machines.begin(fault, on_effect)
        raise NotImplementedError(f"{type(fault).__name__} is a fault of real runs only")

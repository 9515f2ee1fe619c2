"""Faults of simulated machines (process, disk, clock), each with its undo."""

from __future__ import annotations

from typing import TypeAlias

from jepsen_lite.faults.kinds import (
    MEMORY,
    SNAPSHOT,
    STATE,
    BitFlip,
    ClockJump,
    ClockRate,
    FullDisk,
    Kill,
    Pause,
    SlowDisk,
    Stop,
    WallClockJump,
)
from jepsen_lite.faults.record import OnEffect, Undo, no_action
from jepsen_lite.sim.injection.network_faults import link_down
from jepsen_lite.sim.injection.targets import Targets
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host
from jepsen_lite.sim.operator import Operator

MachineFault: TypeAlias = (
    Kill | Pause | Stop | SlowDisk | FullDisk | BitFlip | ClockJump | ClockRate | WallClockJump
)


class MachineFaults:
    """The operator is only asked whether a change is under way."""

    def __init__(
        self, network: SimulatedNetwork, cluster: Cluster, targets: Targets, operator: Operator
    ) -> None:
        self._network = network
        self._cluster = cluster
        self._targets = targets
        self._operator = operator

    def begin(self, fault: MachineFault, on_effect: OnEffect = no_action) -> Undo | None:
        """Begin the fault; None if it has no target. `on_effect`: of faults with a later effect."""
        match fault:
            case Kill():
                return self._kill(fault)
            case Pause():
                return self._pause(fault)
            case Stop():
                return self._stop(fault)
            case SlowDisk():
                return self._slow_disk(fault)
            case FullDisk():
                return self._full_disk(fault)
            case BitFlip():
                return (
                    self._damage_snapshot(on_effect)
                    if fault.part == SNAPSHOT
                    else self._flip_bit(fault)
                )
            case ClockJump():
                return self._jump_clock(fault)
            case ClockRate():
                return self._set_clock_rate(fault)
            case WallClockJump():
                return self._set_wall_clock(fault)

    def kill(self, host: Host, *, power: bool) -> None:
        """Its process dies, and with `power` what was not synced may be lost."""
        host.crash(power=power)
        # The other ends see the connections break, if they can be reached.
        for other in self._cluster.machines:
            if other is not host:
                self._network.datagram(
                    host.name,
                    other.name,
                    64,
                    lambda other=other: link_down(other, host.node_id),  # type: ignore[misc]
                )

    def _kill(self, fault: Kill) -> Undo | None:
        hosts = [self._targets.host(name) for name in fault.nodes]
        victims = [host for host in hosts if host is not None and host.up]
        for host in victims:
            self.kill(host, power=fault.power)

        def undo() -> None:
            for host in victims:
                host.boot()

        return undo if victims else None

    def _pause(self, fault: Pause) -> Undo | None:
        host = self._targets.host(fault.node)
        if host is None or host.process is None:
            return None
        host.pause()
        return host.resume

    def _stop(self, fault: Stop) -> Undo | None:
        host = self._targets.host(fault.node)
        if host is None or not host.up:
            return None
        host.stop()
        return host.boot

    def _slow_disk(self, fault: SlowDisk) -> Undo | None:
        hosts = [self._targets.host(name) for name in fault.nodes]
        disks = [host.disk for host in hosts if host is not None]
        for disk in disks:
            disk.slow_s = fault.delay_s

        def undo() -> None:
            for disk in disks:
                disk.slow_s = 0.0

        return undo if disks else None

    def _full_disk(self, fault: FullDisk) -> Undo | None:
        host = self._targets.host(fault.node)
        if host is None:
            return None
        host.disk.full = True

        def undo() -> None:
            host.disk.full = False
            host.boot()

        return undo

    def _flip_bit(self, fault: BitFlip) -> Undo | None:
        host, leader = self._targets.host(fault.node), self._cluster.leader()
        if leader is None or leader.node is None or self._operator.busy:
            return None
        if host is None or not host.up:
            return None
        membership = leader.node.membership
        settled = leader.node.core.membership_committed and not membership.joint
        if not settled or len(membership.voters) < 3 or host.node_id not in membership.voters:
            return None
        if self._cluster.damaged:
            return None
        if fault.part == MEMORY:
            host.disk.state.flip_in_memory()
            return no_action if host.disk.flipped else None
        host.disk.flip_bit(fault.part)
        if fault.part == STATE:
            return no_action if host.disk.flipped else None
        self.kill(host, power=True)
        return host.boot

    def _damage_snapshot(self, on_effect: OnEffect) -> Undo:
        self._cluster.damage_next_snapshot(on_effect)
        return no_action

    def _jump_clock(self, fault: ClockJump) -> Undo | None:
        host = self._targets.host(fault.node)
        if host is None or host.process is None:
            return None
        host.process.jump(fault.by_s)
        return no_action

    def _set_clock_rate(self, fault: ClockRate) -> Undo | None:
        host = self._targets.host(fault.node)
        if host is None:
            return None
        host.set_clock_rate(fault.rate)
        return lambda: host.set_clock_rate(1.0)

    def _set_wall_clock(self, fault: WallClockJump) -> Undo | None:
        host = self._targets.host(fault.node)
        if host is None or host.process is None:
            return None
        host.process.set_wall_clock(fault.by_s)
        return no_action

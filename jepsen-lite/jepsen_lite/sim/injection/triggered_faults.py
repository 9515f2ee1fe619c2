"""Faults that begin when a node reaches a state: triggered faults and rolling faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jepsen_lite.faults.kinds import RollingFault, Trigger, Triggerable, TriggeredFault
from jepsen_lite.faults.record import FaultLog, OnEffect, Undo, no_action
from jepsen_lite.sim.injection.machine_faults import MachineFaults
from jepsen_lite.sim.injection.network_faults import NetworkFaults
from jepsen_lite.sim.nodes.host import Host
from jepsen_lite.sim.world import World

Inject: TypeAlias = Callable[[Host, Triggerable, OnEffect], None]
"""Injects the fault of a `TriggeredFault`; the host is the one to which the trigger happened."""


class TriggeredFaults:
    """Keeps the faults that wait for a trigger; `happened` must be called for every trigger."""

    def __init__(
        self,
        world: World,
        log: FaultLog,
        machines: MachineFaults,
        networks: NetworkFaults,
        inject: Inject,
    ) -> None:
        self._world = world
        self._log = log
        self._machines = machines
        self._networks = networks
        self._inject = inject
        self._stopped = False
        self._waiting: list[tuple[Trigger, Callable[[Host], None]]] = []

    def begin(self, fault: TriggeredFault | RollingFault, on_effect: OnEffect) -> Undo:
        """Wait for the trigger; `on_effect` is called each time that a node was hit."""
        match fault:
            case TriggeredFault():
                return self._wait_for_trigger(fault, on_effect)
            case RollingFault():
                return self._roll(fault, on_effect)

    def stop(self) -> None:
        """From now on no rolling fault isolates a node."""
        self._stopped = True

    def happened(self, host: Host, trigger: Trigger) -> None:
        """Begin the faults that wait for this trigger."""
        for waiting in [each for each in self._waiting if each[0] is trigger]:
            self._waiting.remove(waiting)
            waiting[1](host)

    def _when(self, trigger: Trigger, act: Callable[[Host], None]) -> Undo:
        """Call `act` once, with the next host to which this happens; returns how to cancel it."""
        waiting = (trigger, act)
        self._waiting.append(waiting)

        def cancel() -> None:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

        return cancel

    def _wait_for_trigger(self, fault: TriggeredFault, on_effect: OnEffect) -> Undo:
        left = fault.times
        cancel = no_action

        def triggered(host: Host) -> None:
            nonlocal left, cancel
            self._world.after(fault.fault.at_s, self._inject, host, fault.fault, on_effect)
            left -= 1
            if left:
                cancel = self._when(fault.trigger, triggered)

        cancel = self._when(fault.trigger, triggered)
        return lambda: cancel()

    def _roll(self, fault: RollingFault, on_effect: OnEffect) -> Undo:
        steps = iter(fault.steps)
        heal_previous = cancel = no_action
        over = False

        def wait() -> None:
            nonlocal cancel
            step = next(steps, None)
            if step is not None:
                trigger, delay_s = step
                cancel = self._when(trigger, lambda host: self._world.after(delay_s, isolate, host))

        def isolate(host: Host) -> None:
            nonlocal heal_previous
            if self._stopped or over:
                return
            if host.up:
                on_effect()
            previous, heal_previous = heal_previous, self._isolate(host, crash=fault.crash)
            previous()
            wait()

        def end() -> None:
            nonlocal over
            over = True
            cancel()
            heal_previous()

        wait()
        return end

    def _isolate(self, host: Host, *, crash: bool) -> Undo:
        name = "RollingKill" if crash else "RollingIsolation"
        record = self._log.begin(name, host.name, "a step of the rolling fault")
        record.took_effect = host.up
        if crash:
            self._machines.kill(host, power=False)
            undo = host.boot
        else:
            undo = self._networks.isolate(host, clients_too=False)

        def heal() -> None:
            self._log.end(record)
            undo()

        return heal

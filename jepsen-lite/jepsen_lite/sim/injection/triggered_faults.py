"""Faults that wait for their moment: something that happens to a node. Knows when and to whom, and
leaves what is done then to others.
"""

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
"""Does what an ambush holds ready, to the host that has walked into it."""


class TriggeredFaults:
    """Has to be told of all that happens to hosts."""

    def __init__(
        self,
        world: World,
        blows: FaultLog,
        machines: MachineFaults,
        networks: NetworkFaults,
        spring: Inject,
    ) -> None:
        self._world = world
        self._blows = blows
        self._machines = machines
        self._networks = networks
        self._spring = spring
        self._given_up = False
        self._waiting: list[tuple[Trigger, Callable[[Host], None]]] = []

    def begin(self, fault: TriggeredFault | RollingFault, landed: OnEffect) -> Undo:
        """Lie in wait; `landed` is called whenever somebody has been met."""
        match fault:
            case TriggeredFault():
                return self._lie_in_wait(fault, landed)
            case RollingFault():
                return self._relay(fault, landed)

    def give_up(self) -> None:
        """No relay takes anybody out any more."""
        self._given_up = True

    def happened(self, host: Host, trigger: Trigger) -> None:
        """Strike, if anybody waits for that."""
        for waiting in [each for each in self._waiting if each[0] is trigger]:
            self._waiting.remove(waiting)
            waiting[1](host)

    def _when(self, trigger: Trigger, act: Callable[[Host], None]) -> Undo:
        """Do this once, to the next host to which that happens; what is returned calls it off."""
        waiting = (trigger, act)
        self._waiting.append(waiting)

        def call_off() -> None:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

        return call_off

    def _lie_in_wait(self, fault: TriggeredFault, landed: OnEffect) -> Undo:
        left = fault.times
        call_off = no_action

        def caught(host: Host) -> None:
            nonlocal left, call_off
            self._world.after(fault.fault.at_s, self._spring, host, fault.fault, landed)
            left -= 1
            if left:
                call_off = self._when(fault.trigger, caught)

        call_off = self._when(fault.trigger, caught)
        return lambda: call_off()

    def _relay(self, fault: RollingFault, landed: OnEffect) -> Undo:
        steps = iter(fault.steps)
        give_back = call_off = no_action

        def wait() -> None:
            nonlocal call_off
            step = next(steps, None)
            if step is not None:
                trigger, soon_s = step
                call_off = self._when(trigger, lambda host: self._world.after(soon_s, take, host))

        def take(host: Host) -> None:
            nonlocal give_back
            if self._given_up or over:
                return
            if host.up:
                landed()
            before, give_back = give_back, self._take_out(host, crash=fault.crash)
            before()
            wait()

        over: list[bool] = []

        def end() -> None:
            over.append(True)
            call_off()
            give_back()

        wait()
        return end

    def _take_out(self, host: Host, *, crash: bool) -> Undo:
        name = "RelayedCrash" if crash else "RelayedCut"
        blow = self._blows.begin(name, host.name, "a step of the relay")
        blow.took_effect = host.up
        if crash:
            self._machines.crash(host, power=False)
            undo = host.boot
        else:
            undo = self._networks.cut_off(host, clients_too=False)

        def give_back() -> None:
            self._blows.end(blow)
            undo()

        return give_back

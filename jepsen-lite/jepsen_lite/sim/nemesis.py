"""Carries out a schedule of faults on a simulated cluster, and takes it all back at the end."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable

from jepsen_lite.sim.cluster import Cluster
from jepsen_lite.sim.faults import (
    CAUGHT,
    LEADER,
    Ambush,
    BadWeather,
    BrokenLink,
    Crash,
    Fault,
    FullDisk,
    Isolate,
    Pause,
    Reconfigure,
    Schedule,
    SlowDisk,
    SlowLink,
    Split,
    Stop,
    Transfer,
)
from jepsen_lite.sim.host import Host
from jepsen_lite.sim.network import Network, Weather
from jepsen_lite.sim.operator import Operator
from jepsen_lite.sim.world import World
from raftkv.errors import RaftkvError
from raftkv.raft.ready import Role


class Nemesis:
    """`took_effect` counts the faults that met something they could break, by kind."""

    def __init__(
        self,
        world: World,
        network: Network,
        cluster: Cluster,
        operator: Operator,
        clients: Iterable[str],
    ) -> None:
        self.took_effect: Counter[str] = Counter()
        self._world = world
        self._network = network
        self._cluster = cluster
        self._operator = operator
        self._clients = list(clients)
        self._fair = network.weather
        self._healed = False
        self._caught: Host | None = None
        self._ambushes: list[list[Ambush]] = []  # each as often as it may still strike
        cluster.on_role = self._role_taken

    def begin(self, schedule: Schedule) -> None:
        for fault in schedule:
            self._world.after(fault.at_s, lambda fault=fault: self._strike(fault))  # type: ignore[misc]

    def heal(self, weather: Weather) -> None:
        """Undo everything, start what is down; what is still scheduled has no effect any more."""
        self._healed = True
        self._network.heal(weather)
        for host in self._cluster.hosts.values():
            host.disk.slow_s = 0.0
            host.disk.full = False
            host.resume()
            host.boot()

    def _strike(self, fault: Fault) -> None:
        if self._healed:
            return
        undo = self._apply(fault)
        if undo is None:
            return
        self.took_effect[type(fault).__name__] += 1
        self._world.after(fault.for_s, lambda: None if self._healed else undo())

    def _apply(self, fault: Fault) -> Callable[[], None] | None:
        """Do it; the way to take it back, None if there was nothing to do it to."""
        match fault:
            case Crash():
                return self._crash(fault)
            case Pause():
                return self._pause(fault)
            case Isolate():
                return self._isolate(fault)
            case Split():
                return self._split(fault)
            case SlowLink():
                return self._slow_link(fault)
            case BadWeather():
                return self._bad_weather(fault)
            case SlowDisk():
                return self._slow_disk(fault)
            case FullDisk():
                return self._full_disk(fault)
            case BrokenLink():
                return self._break_link(fault)
            case Transfer():
                return self._transfer(fault)
            case Stop():
                return self._stop(fault)
            case Reconfigure():
                return self._reconfigure(fault)
            case Ambush():
                return self._lie_in_wait(fault)

    def _host(self, name: str) -> Host | None:
        if name == CAUGHT:
            return self._caught
        return self._cluster.leader() if name == LEADER else self._cluster.hosts[name]

    def _lie_in_wait(self, fault: Ambush) -> Callable[[], None]:
        left = [fault] * fault.times
        self._ambushes.append(left)
        return left.clear

    def _role_taken(self, host: Host, role: Role) -> None:
        for left in self._ambushes:
            if left and left[0].role is role:
                trap = left.pop().fault
                self._world.after(trap.at_s, lambda trap=trap: self._spring(host, trap))  # type: ignore[misc]

    def _spring(self, host: Host, trap: Fault) -> None:
        self._caught = host
        self._strike(trap)

    def _crash(self, fault: Crash) -> Callable[[], None] | None:
        hosts = [self._host(name) for name in fault.nodes]
        victims = [host for host in hosts if host is not None and host.up]
        for host in victims:
            self._crash_host(host, power=fault.power)

        def undo() -> None:
            for host in victims:
                host.boot()

        return undo if victims else None

    def _crash_host(self, host: Host, *, power: bool) -> None:
        host.crash(power=power)
        # The others see the connections break, if they can be told.
        for other in self._cluster.hosts.values():
            if other is not host:
                self._network.datagram(
                    host.name,
                    other.name,
                    64,
                    lambda other=other: _link_down(other, host.node_id),  # type: ignore[misc]
                )

    def _pause(self, fault: Pause) -> Callable[[], None] | None:
        host = self._host(fault.node)
        if host is None or host.process is None:
            return None
        host.pause()
        return host.resume

    def _isolate(self, fault: Isolate) -> Callable[[], None] | None:
        host = self._host(fault.node)
        if host is None:
            return None
        others = [name for name in self._cluster.hosts if name != host.name]
        others += self._clients if fault.clients_too else []
        pairs: list[tuple[str, str]] = []
        if fault.mute:
            pairs += [(host.name, other) for other in others]
        if fault.deaf:
            pairs += [(other, host.name) for other in others]
        return self._cut(pairs)

    def _split(self, fault: Split) -> Callable[[], None] | None:
        group = [name for name in fault.group if name != fault.bridge]
        rest = [
            name for name in self._cluster.hosts if name not in fault.group and name != fault.bridge
        ]
        pairs = list(itertools.product(group, rest))
        if not fault.one_way:
            pairs += [(target, source) for source, target in pairs]
        return self._cut(pairs) if pairs else None

    def _cut(self, pairs: list[tuple[str, str]]) -> Callable[[], None]:
        self._network.cut(pairs)
        return lambda: self._network.mend(pairs)

    def _slow_link(self, fault: SlowLink) -> Callable[[], None]:
        pair = (fault.source, fault.target)
        self._network.slow([pair], fault.delay_s)
        return lambda: self._network.slow([pair], 0.0)

    def _bad_weather(self, fault: BadWeather) -> Callable[[], None]:
        self._network.weather = fault.weather

        def undo() -> None:
            self._network.weather = self._fair

        return undo

    def _slow_disk(self, fault: SlowDisk) -> Callable[[], None] | None:
        hosts = [self._host(name) for name in fault.nodes]
        disks = [host.disk for host in hosts if host is not None]
        for disk in disks:
            disk.slow_s = fault.delay_s

        def undo() -> None:
            for disk in disks:
                disk.slow_s = 0.0

        return undo if disks else None

    def _full_disk(self, fault: FullDisk) -> Callable[[], None] | None:
        host = self._host(fault.node)
        if host is None:
            return None
        host.disk.full = True

        def undo() -> None:
            host.disk.full = False
            host.boot()

        return undo

    def _stop(self, fault: Stop) -> Callable[[], None] | None:
        host = self._host(fault.node)
        if host is None or not host.up:
            return None
        host.stop()
        return host.boot

    def _reconfigure(self, fault: Reconfigure) -> Callable[[], None] | None:
        host = self._host(fault.remove) if fault.remove else None
        self._operator.reconfigure(
            host.node_id if host is not None else 0, add=fault.add, add_first=fault.add_first
        )
        return _nothing

    def _break_link(self, fault: BrokenLink) -> Callable[[], None] | None:
        source, target = self._cluster.hosts[fault.source], self._cluster.hosts[fault.target]
        if source.port is None:
            return None
        _link_down(source, target.node_id)
        return _nothing

    def _transfer(self, fault: Transfer) -> Callable[[], None] | None:
        leader, target = self._cluster.leader(), self._cluster.hosts[fault.to]
        if leader is None or leader.node is None or leader.process is None or leader is target:
            return None
        node, process = leader.node, leader.process

        async def transfer() -> None:
            try:
                await node.transfer_leader(target.node_id, process.time() + 1.0)
            except RaftkvError:
                return  # an operator would look at why; here it is part of the mess

        process.enter(lambda: process.create_task(transfer()))
        return _nothing


def _link_down(host: Host, peer: int) -> None:
    if host.port is not None and host.process is not None:
        host.process.enter(host.port.handler.link_down, peer)


def _nothing() -> None:
    """It is over when it has begun."""

"""Carries out a schedule of faults on a simulated cluster, and takes it all back at the end."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import TypeAlias

from jepsen_lite.sim.blows import Blow, aimed_at, detail_of
from jepsen_lite.sim.cluster import Cluster
from jepsen_lite.sim.faults import (
    CAUGHT,
    LEADER,
    Ambush,
    Ask,
    BadWeather,
    BrokenLink,
    ClockJump,
    ClockRate,
    Compact,
    Crash,
    Fault,
    FullDisk,
    Isolate,
    Pause,
    Reconfigure,
    Relay,
    Rot,
    Schedule,
    SlowDisk,
    SlowLink,
    Split,
    Stop,
    Transfer,
    Trap,
    Trigger,
    WallClock,
)
from jepsen_lite.sim.host import Host
from jepsen_lite.sim.network import Network, Weather
from jepsen_lite.sim.operator import Operator
from jepsen_lite.sim.world import World
from raftkv.errors import RaftkvError
from raftkv.node.node import Node
from raftkv.rpc import kv_pb2

Landed: TypeAlias = Callable[[], None]
"""To be called when a fault has met something; more than once is as good as once."""


def _nothing() -> None:
    """It is over when it has begun, or nobody waits for it."""


class Nemesis:
    """`blows` has each fault that was tried, and whether it met something it could break."""

    def __init__(
        self,
        world: World,
        network: Network,
        cluster: Cluster,
        operator: Operator,
        clients: Iterable[str],
    ) -> None:
        self.blows: list[Blow] = []
        self._world = world
        self._network = network
        self._cluster = cluster
        self._operator = operator
        self._clients = list(clients)
        self._fair = network.weather
        self._healed = False
        self._caught: Host | None = None
        self._waiting: list[tuple[Trigger, Callable[[Host], None]]] = []
        cluster.on_event = self._happened

    @property
    def took_effect(self) -> Counter[str]:
        """How many faults did, by kind."""
        return Counter(blow.name for blow in self.blows if blow.took_effect)

    def begin(self, schedule: Schedule) -> None:
        for fault in schedule:
            self._world.after(fault.at_s, self._strike, fault)

    def heal(self, weather: Weather) -> None:
        """Undo everything, start what is down; what is still scheduled has no effect any more."""
        self._healed = True
        for blow in self.blows:
            self._end(blow)
        self._network.heal(weather)
        for host in self._cluster.hosts.values():
            host.disk.slow_s = 0.0
            host.disk.full = False
            host.set_clock_rate(1.0)
            host.resume()
            host.boot()

    def _strike(self, fault: Fault, sprang: Landed = _nothing) -> None:
        """`sprang` is told as well if it takes effect: of the ambush that it was a part of."""
        if self._healed:
            return
        blow = self._begin_blow(type(fault).__name__, self._targets(fault), detail_of(fault))

        def landed() -> None:
            blow.took_effect = True
            sprang()

        meets = self._meets(fault)
        undo = self._apply(fault, landed)
        if undo is None:
            self._end(blow)
            return
        if meets:
            landed()

        def take_back() -> None:
            if not self._healed:
                self._end(blow)
                undo()

        self._world.after(fault.for_s, take_back)

    def _begin_blow(self, name: str, target: str, detail: str) -> Blow:
        blow = Blow(name, target, detail, self._world.now_s)
        self.blows.append(blow)
        return blow

    def _end(self, blow: Blow) -> None:
        if blow.ended_s is None:
            blow.ended_s = self._world.now_s

    def _targets(self, fault: Fault) -> str:
        """Who is meant at this moment, by name."""
        hosts = [(name, self._host(name)) for name in aimed_at(fault)]
        return ", ".join(host.name if host is not None else name for name, host in hosts)

    def _meets(self, fault: Fault) -> bool:
        """Whether it has an effect by being done at all. What lasts is done to a machine that is
        down, too, for it may come up; but nobody counts on that.
        """
        match fault:
            case Ambush() | Relay() | Reconfigure() | Transfer() | Ask() | Compact():
                return False  # they have to wait for somebody, or may be refused
            case Split():
                rest = self._cluster.hosts.keys() - {*fault.group, fault.bridge}
                return self._any_up(fault.group) and self._any_up(rest)
            case SlowLink() | BrokenLink():
                return self._any_up([fault.source]) and self._any_up([fault.target])
            case BadWeather():
                return True
        return self._any_up(aimed_at(fault))

    def _any_up(self, names: Iterable[str]) -> bool:
        hosts = map(self._host, names)
        return any(host is not None and host.up for host in hosts)

    def _apply(self, fault: Fault, landed: Landed) -> Callable[[], None] | None:
        """Do it; the way to take it back, None if there was nothing to do it to. `landed` is for
        those that take effect later, if at all.
        """
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
                return self._transfer(fault, landed)
            case Stop():
                return self._stop(fault)
            case Reconfigure():
                return self._reconfigure(fault, landed)
            case Rot():
                return self._rot(fault)
            case ClockJump():
                return self._jump_clock(fault)
            case ClockRate():
                return self._set_clock_rate(fault)
            case WallClock():
                return self._set_wall_clock(fault)
            case Ask():
                return self._ask(fault, landed)
            case Compact():
                return self._compact(landed)
            case Ambush():
                return self._lie_in_wait(fault, landed)
            case Relay():
                return self._relay(fault, landed)

    def _host(self, name: str) -> Host | None:
        if name == CAUGHT:
            return self._caught
        return self._cluster.leader() if name == LEADER else self._cluster.hosts[name]

    # ---- faults that wait for their moment -------------------------------------------

    def _when(self, trigger: Trigger, act: Callable[[Host], None]) -> Callable[[], None]:
        """Do this once, to the next host to which that happens; what is returned calls it off."""
        waiting = (trigger, act)
        self._waiting.append(waiting)

        def call_off() -> None:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

        return call_off

    def _happened(self, host: Host, trigger: Trigger) -> None:
        for waiting in [each for each in self._waiting if each[0] is trigger]:
            self._waiting.remove(waiting)
            waiting[1](host)

    def _lie_in_wait(self, fault: Ambush, landed: Landed) -> Callable[[], None]:
        left = fault.times
        call_off = _nothing

        def caught(host: Host) -> None:
            nonlocal left, call_off
            self._world.after(fault.fault.at_s, self._spring, host, fault.fault, landed)
            left -= 1
            if left:
                call_off = self._when(fault.trigger, caught)

        call_off = self._when(fault.trigger, caught)
        return lambda: call_off()

    def _spring(self, host: Host, trap: Trap, landed: Landed) -> None:
        self._caught = host
        self._strike(trap, landed)

    def _relay(self, fault: Relay, landed: Landed) -> Callable[[], None]:
        steps = iter(fault.steps)
        give_back = call_off = _nothing

        def wait() -> None:
            nonlocal call_off
            step = next(steps, None)
            if step is not None:
                trigger, soon_s = step
                call_off = self._when(trigger, lambda host: self._world.after(soon_s, take, host))

        def take(host: Host) -> None:
            nonlocal give_back
            if self._healed or over:
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

    def _take_out(self, host: Host, *, crash: bool) -> Callable[[], None]:
        name = "RelayedCrash" if crash else "RelayedCut"
        blow = self._begin_blow(name, host.name, "a step of the relay")
        blow.took_effect = host.up
        if crash:
            self._crash_host(host, power=False)
            undo = host.boot
        else:
            others = [name for name in self._cluster.hosts if name != host.name]
            undo = self._cut(
                [*itertools.product([host.name], others), *((each, host.name) for each in others)]
            )

        def give_back() -> None:
            self._end(blow)
            undo()

        return give_back

    # ---- faults, each with the way to take it back -----------------------------------

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

    def _bad_weather(self, fault: BadWeather) -> Callable[[], None] | None:
        if fault.weather == self._network.weather:
            return None
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

    def _reconfigure(self, fault: Reconfigure, landed: Landed) -> Callable[[], None] | None:
        host = self._host(fault.remove) if fault.remove else None
        self._operator.reconfigure(
            host.node_id if host is not None else 0,
            add=fault.add,
            add_first=fault.add_first,
            on_change=landed,
        )
        return _nothing

    def _break_link(self, fault: BrokenLink) -> Callable[[], None] | None:
        source, target = self._cluster.hosts[fault.source], self._cluster.hosts[fault.target]
        if source.port is None:
            return None
        _link_down(source, target.node_id)
        return _nothing

    def _transfer(self, fault: Transfer, landed: Landed) -> Callable[[], None] | None:
        leader, target = self._cluster.leader(), self._cluster.hosts[fault.to]
        if leader is None or leader is target:
            return None

        async def hand_over(node: Node, deadline: float) -> bool:
            return await node.transfer_leader(target.node_id, deadline) == target.node_id

        return self._request(leader, hand_over, landed)

    def _rot(self, fault: Rot) -> Callable[[], None] | None:
        host, leader = self._cluster.hosts[fault.node], self._cluster.leader()
        if leader is None or leader.node is None or not host.up or self._operator.busy:
            return None
        membership = leader.node.membership
        settled = leader.node.driver.raft.membership_committed and not membership.joint
        if not settled or len(membership.voters) < 3 or host.node_id not in membership.voters:
            return None
        if any(each.disk.log.rotten for each in self._cluster.hosts.values()):
            return None
        host.disk.rot()
        self._crash_host(host, power=True)
        return host.boot

    def _jump_clock(self, fault: ClockJump) -> Callable[[], None] | None:
        host = self._host(fault.node)
        if host is None or host.process is None:
            return None
        host.process.jump(fault.by_s)
        return _nothing

    def _set_clock_rate(self, fault: ClockRate) -> Callable[[], None] | None:
        host = self._host(fault.node)
        if host is None:
            return None
        host.set_clock_rate(fault.rate)
        return lambda: host.set_clock_rate(1.0)

    def _set_wall_clock(self, fault: WallClock) -> Callable[[], None] | None:
        host = self._host(fault.node)
        if host is None or host.process is None:
            return None
        host.process.set_wall_clock(fault.by_s)
        return _nothing

    def _ask(self, fault: Ask, landed: Landed) -> Callable[[], None] | None:
        host, victim = self._host(fault.node), self._cluster.hosts[fault.remove]
        if host is None or len(host.voters - self._cluster.damaged) <= self._operator.VOTERS_MIN:
            return None
        if not self._operator.known_left(host.voters - {victim.node_id}):
            return None

        async def remove(node: Node, deadline: float) -> bool:
            there = victim.node_id in node.membership.members
            after = await node.member_remove(victim.node_id, deadline)
            return there and victim.node_id not in after.members

        return self._request(host, remove, landed)

    def _compact(self, landed: Landed) -> Callable[[], None] | None:
        leader = self._cluster.leader()

        async def compact(node: Node, deadline: float) -> bool:
            batch = kv_pb2.CommandBatch()
            batch.commands.add().compact.revision = node.machine.revision
            answer = kv_pb2.BatchResult()
            answer.ParseFromString(await node.submit(batch.SerializeToString(), deadline))
            return not any(each.HasField("failure") for each in (answer, *answer.results))

        return self._request(leader, compact, landed) if leader is not None else None

    def _request(
        self,
        host: Host,
        make: Callable[[Node, float], Coroutine[None, None, bool]],
        landed: Landed,
    ) -> Callable[[], None] | None:
        """Ask a node for something that it may refuse: an operator would look at why, here it is
        part of the mess. `make` says whether it was done.
        """
        node, process = host.node, host.process
        if node is None or process is None:
            return None

        async def request() -> None:
            with contextlib.suppress(RaftkvError):
                if await make(node, process.time() + 1.0):
                    landed()

        process.enter(lambda: process.create_task(request()))
        return _nothing


def _link_down(host: Host, peer: int) -> None:
    if host.port is not None and host.process is not None:
        host.process.enter(host.port.handler.link_down, peer)

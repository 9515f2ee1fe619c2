"""Faults of the simulated network, each with its undo."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TypeAlias

from jepsen_lite.faults.kinds import BrokenLink, Isolate, PoorNetwork, SlowLink, Split
from jepsen_lite.faults.record import Undo, no_action
from jepsen_lite.sim.injection.targets import Targets
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host

NetworkFault: TypeAlias = Isolate | Split | SlowLink | PoorNetwork | BrokenLink


class NetworkFaults:
    """The conditions that it finds is the one that comes back after a bad one."""

    def __init__(
        self, network: SimulatedNetwork, cluster: Cluster, targets: Targets, clients: Iterable[str]
    ) -> None:
        self._network = network
        self._cluster = cluster
        self._targets = targets
        self._clients = list(clients)
        self._fair = network.conditions

    def begin(self, fault: NetworkFault) -> Undo | None:
        """Begin the fault; None if it has no target."""
        match fault:
            case Isolate():
                return self._isolate_node(fault)
            case Split():
                return self._split(fault)
            case SlowLink():
                return self._slow_link(fault)
            case PoorNetwork():
                return self._bad_weather(fault)
            case BrokenLink():
                return self._break_link(fault)

    def isolate(
        self, host: Host, *, clients_too: bool, mute: bool = True, deaf: bool = True
    ) -> Undo:
        """Let nothing pass from the host to the others (`mute`), and from them to it (`deaf`)."""
        others = [name for name in self._cluster.hosts if name != host.name]
        others += self._clients if clients_too else []
        pairs: list[tuple[str, str]] = []
        if mute:
            pairs += [(host.name, other) for other in others]
        if deaf:
            pairs += [(other, host.name) for other in others]
        return self._cut(pairs)

    def _isolate_node(self, fault: Isolate) -> Undo | None:
        host = self._targets.host(fault.node)
        if host is None:
            return None
        return self.isolate(host, clients_too=fault.clients_too, mute=fault.mute, deaf=fault.deaf)

    def _split(self, fault: Split) -> Undo | None:
        group = [name for name in fault.group if name != fault.bridge]
        rest = [
            name for name in self._cluster.hosts if name not in fault.group and name != fault.bridge
        ]
        pairs = list(itertools.product(group, rest))
        if not fault.one_way:
            pairs += [(target, source) for source, target in pairs]
        return self._cut(pairs) if pairs else None

    def _cut(self, pairs: list[tuple[str, str]]) -> Undo:
        self._network.cut(pairs)
        return lambda: self._network.mend(pairs)

    def _slow_link(self, fault: SlowLink) -> Undo:
        pair = (fault.source, fault.target)
        self._network.slow([pair], fault.delay_s)
        return lambda: self._network.slow([pair], 0.0)

    def _bad_weather(self, fault: PoorNetwork) -> Undo | None:
        if fault.conditions == self._network.conditions:
            return None
        self._network.conditions = fault.conditions

        def undo() -> None:
            self._network.conditions = self._fair

        return undo

    def _break_link(self, fault: BrokenLink) -> Undo | None:
        source, target = self._cluster.hosts[fault.source], self._cluster.hosts[fault.target]
        if source.port is None:
            return None
        link_down(source, target.node_id)
        return no_action


def link_down(host: Host, peer: int) -> None:
    """Report to the node, if it runs, that its link to the peer broke."""
    if host.node is not None and host.process is not None:
        host.process.enter(host.node.peer_handler.link_down, peer)

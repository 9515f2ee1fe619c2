"""Faults that empty a disk, replace it by a copy, or run a second node from a copy of it.

A fault begins only where the required outcome (`disk_losses.py`) is defined, and a run has at most
one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jepsen_lite.faults.kinds import Clone, DiskFault, EmptyDisk, ForeignCopy, OlderCopy, PowerCuts
from jepsen_lite.faults.record import OnEffect, Undo
from jepsen_lite.sim.checks.disk_losses import Loss
from jepsen_lite.sim.injection.targets import Targets
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.disk import Disk
from jepsen_lite.sim.nodes.host import Host
from jepsen_lite.sim.operator import Operator
from jepsen_lite.sim.world import World

NOTED_S = 2.0
"""After this time a node's acknowledgements, and its start, are noted on its peers' disks."""
RESTART_S = 0.2
"""Down time of a node that is restarted right after its disk was copied."""
MET_S = 2.0
"""After this time nodes that start together have connected and elected a leader."""
VOTERS_MIN = 3
"""A smaller cluster cannot go on without one of its voters."""


class CutPower(Protocol):
    """Crashes a host; its peers see their connections break."""

    def __call__(self, host: Host, *, power: bool) -> None: ...


@dataclass(slots=True)
class Copy:
    """The contents of a host's disk at some moment, and how the cluster stood then.

    `last_index` is how far the log was committed and on this disk; `leader` is (host, term).
    `noted`: since then the peers have noted something that the copy lacks.
    """

    host: Host
    disk: Disk
    last_index: int
    leader: tuple[str, int]
    noted: bool = False


class DiskFaults:
    """Injects these faults into a simulated cluster."""

    def __init__(
        self,
        world: World,
        network: SimulatedNetwork,
        cluster: Cluster,
        targets: Targets,
        operator: Operator,
        cut_power: CutPower,
    ) -> None:
        self._world = world
        self._network = network
        self._cluster = cluster
        self._targets = targets
        self._operator = operator
        self._cut_power = cut_power

    def begin(self, fault: DiskFault, on_effect: OnEffect) -> Undo | None:
        """Begin the fault; None if its outcome would not be defined now.

        `on_effect` is called when a disk was lost or doubled. The `Undo` puts a copy to use.
        """
        match fault:
            case EmptyDisk():
                return self._empty(fault, on_effect)
            case ForeignCopy():
                return self._put_foreign(fault, on_effect)
            case OlderCopy():
                return self._put_older(fault, on_effect)
            case Clone():
                return self._clone(fault, on_effect)

    def _empty(self, fault: EmptyDisk, on_effect: OnEffect) -> Undo | None:
        hosts = self._targets.members(fault)
        if not self._settled(hosts):
            return None
        self._restart(fault.power_cuts)
        self._lose(hosts, Loss.EMPTIED, None)
        on_effect()

        def boot() -> None:
            for host in hosts:
                host.boot()

        return boot

    def _put_foreign(self, fault: ForeignCopy, on_effect: OnEffect) -> Undo | None:
        hosts = self._targets.members(fault)
        if not self._settled(hosts):
            return None
        host, source = hosts
        copy = source.disk.copy()
        self._restart(fault.power_cuts)
        self._lose([host], Loss.FOREIGN, copy)
        on_effect()
        return host.boot

    # ---- copies of a node's own disk -------------------------------------------------

    def _put_older(self, fault: OlderCopy, on_effect: OnEffect) -> Undo | None:
        copy = self._copy(fault)
        if copy is None:
            return None
        if fault.restarted:
            self._restart(((copy.host.name, RESTART_S),))
            self._world.after(RESTART_S + NOTED_S, self._note_start, copy)
        else:
            self._world.after(fault.for_s - NOTED_S, self._note_index, copy)

        def put() -> None:
            if copy.noted and self._settled([copy.host]) and (fault.restarted or self._calm(copy)):
                self._restart(fault.power_cuts, but=copy.host)
                self._lose([copy.host], Loss.OLDER, copy.disk)
                self._world.after(fault.down_s, copy.host.boot)
                on_effect()

        return put

    def _clone(self, fault: Clone, on_effect: OnEffect) -> Undo | None:
        old = fault.for_s > 0
        copy = self._copy(fault)
        if copy is None:
            return None
        if old:
            self._world.after(fault.for_s - NOTED_S, self._note_index, copy)

        def start() -> None:
            known = copy.noted and self._calm(copy) if old else self._all_connected()
            if known and self._settled([copy.host]):
                loss = Loss.OLDER if old else Loss.TWIN
                clone = self._cluster.add_clone(copy.host, copy.disk, loss)
                self._restart(fault.power_cuts)
                later_s = MET_S if old and fault.power_cuts else 0.0
                self._world.after(later_s, clone.boot)
                on_effect()

        return start

    def _copy(self, fault: OlderCopy | Clone) -> Copy | None:
        hosts = self._targets.members(fault)
        if not self._settled(hosts) or not hosts[0].up:
            return None
        (host,) = hosts
        index = self._cluster.invariants.acknowledged_index(host.replica)
        return Copy(host, host.disk.copy(), index, self._leader())

    def _note_index(self, copy: Copy) -> None:
        """The leader will have noted what the host has acknowledged up to now."""
        index = self._cluster.invariants.acknowledged_index(copy.host.replica)
        copy.noted = index > copy.last_index and self._calm(copy)

    def _note_start(self, copy: Copy) -> None:
        """The host has started again, and all peers will have noted that."""
        ready = copy.host.node is not None and copy.host.node.ready
        copy.noted = ready and self._settled([copy.host]) and self._all_connected()

    def _calm(self, copy: Copy) -> bool:
        """Whether another node has led since the copy was taken, and all voters are connected."""
        leads = self._leader() == copy.leader and copy.leader[0] not in ("", copy.host.name)
        return leads and self._all_connected()

    # ---- the state of the cluster ----------------------------------------------------

    def _settled(self, hosts: Sequence[Host]) -> bool:
        """Whether the hosts are members but not all voters, no disk was lost before, and no change
        of the membership is under way.
        """
        cluster = self._cluster
        membership, committed = cluster.invariants.last_membership()
        ids = {host.node_id for host in hosts}
        return (
            0 < len(hosts) == len(ids)
            and ids <= membership.members
            and bool(membership.voters - ids)
            and committed
            and not membership.joint
            and len(membership.voters) >= VOTERS_MIN
            and not (cluster.damaged or cluster.clones or self._operator.busy)
        )

    def _all_connected(self) -> bool:
        """Whether all voters run, and the network between them is fair."""
        membership, _ = self._cluster.invariants.last_membership()
        hosts = [host for host in self._cluster.hosts.values() if host.node_id in membership.voters]
        return self._network.fair and all(host.node is not None for host in hosts)

    def _leader(self) -> tuple[str, int]:
        """The leader's host and term; ("", 0) without a leader."""
        host = self._cluster.leader()
        if host is None or host.node is None:
            return "", 0
        return host.name, host.node.term

    def _restart(self, power_cuts: PowerCuts, but: Host | None = None) -> None:
        for name, down_s in power_cuts:
            host = self._targets.host(name)
            if host is not None and host is not but and host.up:
                self._cut_power(host, power=True)
                self._world.after(down_s, host.boot)

    def _lose(self, hosts: Sequence[Host], loss: Loss, copy: Disk | None) -> None:
        for host in hosts:
            self._cut_power(host, power=True)
            host.lose_disk(loss, copy)

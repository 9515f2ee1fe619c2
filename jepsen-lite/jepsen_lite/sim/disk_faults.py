"""Faults that take a disk away or double it: emptied, put back from a copy, another node's, cloned.

Each is done only where it is known what must become of it, and at most one in a run. What must
become of it is stated in `disk_losses.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from jepsen_lite.sim.blows import Landed, Undo
from jepsen_lite.sim.cluster import Cluster
from jepsen_lite.sim.disk import Disk
from jepsen_lite.sim.disk_losses import Loss
from jepsen_lite.sim.faults import Clone, EmptyDisk, ForeignCopy, OlderCopy, Restarts
from jepsen_lite.sim.host import Host
from jepsen_lite.sim.network import Network
from jepsen_lite.sim.operator import Operator
from jepsen_lite.sim.targets import Targets
from jepsen_lite.sim.world import World

NOTED_S = 2.0
"""What a node has acknowledged, and that it has started, is on its peers' disks by then."""
RESTART_S = 0.2
"""How long a node is down that starts again right after it was copied."""
VOTERS_MIN = 3
"""Fewer don't go on without one of them."""

DiskFault: TypeAlias = EmptyDisk | OlderCopy | ForeignCopy | Clone


class CutPower(Protocol):
    """Takes a machine's power away, and has its peers see their connections break."""

    def __call__(self, host: Host, *, power: bool) -> None: ...


@dataclass(slots=True)
class Copy:
    """What was on a node's disk at some moment. `noted`: its peers know of something since that is
    not in it.
    """

    host: Host
    disk: Disk
    last_index: int
    leader: tuple[str, int]
    noted: bool = False


class DiskFaults:
    """Of the operator it is only asked whether he is in the middle of something."""

    def __init__(
        self,
        world: World,
        network: Network,
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

    def begin(self, fault: DiskFault, landed: Landed) -> Undo | None:
        """Do it; None if it is not known what must become of it. `landed` is called once a disk is
        lost or doubled: of a copy that is when `Undo` puts it to use.
        """
        match fault:
            case EmptyDisk():
                return self._empty(fault, landed)
            case ForeignCopy():
                return self._put_foreign(fault, landed)
            case OlderCopy():
                return self._put_older(fault, landed)
            case Clone():
                return self._clone(fault, landed)

    def _empty(self, fault: EmptyDisk, landed: Landed) -> Undo | None:
        hosts = self._members(*fault.nodes)
        if not self._settled(hosts):
            return None
        self._restart(fault.restarts)
        self._lose(hosts, Loss.EMPTIED, None)
        landed()

        def boot() -> None:
            for host in hosts:
                host.boot()

        return boot

    def _put_foreign(self, fault: ForeignCopy, landed: Landed) -> Undo | None:
        hosts = self._members(fault.node, fault.source)
        if not self._settled(hosts):
            return None
        host, source = hosts
        copy = source.disk.copy()
        self._restart(fault.restarts)
        self._lose([host], Loss.FOREIGN, copy)
        landed()
        return host.boot

    # ---- copies of a node's own disk -------------------------------------------------

    def _put_older(self, fault: OlderCopy, landed: Landed) -> Undo | None:
        copy = self._copy(fault.node, follows=not fault.restarted)
        if copy is None:
            return None
        if fault.restarted:
            self._restart(((copy.host.name, RESTART_S),))
            self._world.after(RESTART_S + NOTED_S, self._note_start, copy)
        else:
            self._world.after(fault.for_s - NOTED_S, self._note_index, copy)

        def put() -> None:
            if copy.noted and self._settled([copy.host]) and (fault.restarted or self._calm(copy)):
                self._restart(fault.restarts)
                self._lose([copy.host], Loss.OLDER, copy.disk)
                self._world.after(fault.down_s, copy.host.boot)
                landed()

        return put

    def _clone(self, fault: Clone, landed: Landed) -> Undo | None:
        old = fault.for_s > 0
        copy = self._copy(fault.node, follows=old)
        if copy is None:
            return None
        if old:
            self._world.after(fault.for_s - NOTED_S, self._note_index, copy)

        def start() -> None:
            known = copy.noted and self._calm(copy) if old else self._all_connected()
            if known and self._settled([copy.host]):
                loss = Loss.OLDER if old else Loss.TWIN
                self._cluster.add_clone(copy.host, copy.disk, loss).boot()
                self._restart(fault.restarts)
                landed()

        return start

    def _copy(self, node: str, *, follows: bool) -> Copy | None:
        hosts = self._members(node, follow=follows)
        if not self._settled(hosts) or not hosts[0].up:
            return None
        (host,) = hosts
        index = self._cluster.invariants.acknowledged_index(host.replica)
        return Copy(host, host.disk.copy(), index, self._leader())

    def _note_index(self, copy: Copy) -> None:
        """What it has acknowledged up to now its leader will have noted."""
        index = self._cluster.invariants.acknowledged_index(copy.host.replica)
        copy.noted = index > copy.last_index and self._calm(copy)

    def _note_start(self, copy: Copy) -> None:
        """It has met all others since it has started."""
        ready = copy.host.node is not None and copy.host.node.ready
        copy.noted = ready and self._settled([copy.host]) and self._all_connected()

    def _calm(self, copy: Copy) -> bool:
        """Somebody else leads all the time, whom everybody reaches."""
        leads = self._leader() == copy.leader and copy.leader[0] not in ("", copy.host.name)
        return leads and self._all_connected()

    # ---- what is known of the cluster ------------------------------------------------

    def _members(self, *names: str, follow: bool = False) -> Sequence[Host]:
        """Those of these names, if they are members (and, with `follow`, do not lead); others that
        are in their place. Nobody, if there are not enough.
        """
        membership, _ = self._cluster.invariants.last_membership()
        leader = self._cluster.leader() if follow else None
        fit = [
            host
            for host in self._cluster.hosts.values()
            if host.node_id in membership.members and host is not leader
        ]
        named = [self._targets.host(name) for name in names]
        others = [host for host in fit if host not in named]
        if None in named or len(named) > len(fit):
            return []
        return [host if host in fit else others.pop(0) for host in named]

    def _settled(self, hosts: Sequence[Host]) -> bool:
        """Whether nobody has lost a disk before, the membership does not change, and a voter is
        left beside these.
        """
        cluster = self._cluster
        membership, committed = cluster.invariants.last_membership()
        ids = {host.node_id for host in hosts}
        return (
            bool(hosts)
            and bool(membership.voters - ids)
            and committed
            and not membership.joint
            and len(membership.voters) >= VOTERS_MIN
            and not (cluster.damaged or cluster.clones or self._operator.busy)
        )

    def _all_connected(self) -> bool:
        """Whether all voters run and reach each other."""
        membership, _ = self._cluster.invariants.last_membership()
        hosts = [host for host in self._cluster.hosts.values() if host.node_id in membership.voters]
        return self._network.fair and all(host.node is not None for host in hosts)

    def _leader(self) -> tuple[str, int]:
        """Who leads, and in which term; ("", 0): nobody."""
        host = self._cluster.leader()
        if host is None or host.node is None:
            return "", 0
        return host.name, host.node.term

    def _restart(self, restarts: Restarts) -> None:
        for name, down_s in restarts:
            host = self._targets.host(name)
            if host is not None and host.up:
                self._cut_power(host, power=True)
                self._world.after(down_s, host.boot)

    def _lose(self, hosts: Sequence[Host], loss: Loss, copy: Disk | None) -> None:
        for host in hosts:
            self._cut_power(host, power=True)
            host.lose_disk(loss, copy)

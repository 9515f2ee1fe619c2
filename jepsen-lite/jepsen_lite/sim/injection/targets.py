"""The targets of a fault: the hosts behind its node names at the moment when it begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jepsen_lite.faults.kinds import (
    LEADER,
    NEWEST,
    SNAPSHOT,
    TRIGGERING_NODE,
    AddressChange,
    BitFlip,
    BrokenLink,
    ClockJump,
    ClockRate,
    Clone,
    Compaction,
    DirectRemoval,
    DiskFault,
    EmptyDisk,
    Fault,
    ForeignCopy,
    FullDisk,
    Isolate,
    Kill,
    LearnerRemoval,
    MemberChange,
    OlderCopy,
    Pause,
    PoorNetwork,
    RollingFault,
    SlowDisk,
    SlowLink,
    Split,
    Stop,
    Stranger,
    Transfer,
    TriggeredFault,
    WallClockJump,
)
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host


def aimed_at(fault: Fault) -> tuple[str, ...]:
    """The nodes that a fault is aimed at, as the schedule names them. None: all nodes, or the node
    that a trigger chooses.
    """
    match fault:
        case Kill() | SlowDisk() | EmptyDisk():
            return fault.nodes
        case Split():
            return fault.group
        case SlowLink() | BrokenLink():
            return (fault.source, fault.target)
        case Transfer():
            return (fault.to,)
        case MemberChange():
            return (fault.remove,) if fault.remove else ()
        case (
            Pause() | Isolate() | FullDisk() | Stop() | BitFlip() | ClockJump() | ClockRate()
            | WallClockJump() | DirectRemoval() | OlderCopy() | ForeignCopy() | Clone() | Stranger()
            | AddressChange()
        ):  # fmt: skip
            return (fault.node,)
    return ()


def _disks_of(fault: DiskFault) -> tuple[tuple[str, ...], bool]:
    """The nodes whose disks a fault needs, and whether they must be followers: the acknowledgements
    of a leader are not recorded by its peers.
    """
    match fault:
        case EmptyDisk():
            return fault.nodes, False
        case ForeignCopy():
            return (fault.node, fault.source), False
        case OlderCopy():
            return (fault.node,), not fault.restarted
        case Clone():
            return (fault.node,), fault.for_s > 0


class Targets:
    """Resolves the node names of a schedule. `triggering`: the node of the latest trigger."""

    def __init__(self, cluster: Cluster) -> None:
        self.triggering: Host | None = None
        self._cluster = cluster

    def host(self, name: str) -> Host | None:
        if name == TRIGGERING_NODE:
            return self.triggering
        if name == NEWEST:
            return self._cluster.newest
        return self._cluster.leader() if name == LEADER else self._cluster.hosts[name]

    def members(self, fault: DiskFault) -> Sequence[Host]:
        """The hosts that a fault of a disk meets: those that it names, or another member in the
        place of one that is no member, or that leads where a follower is needed. None, if there
        are too few.
        """
        named, followers = _disks_of(fault)
        membership, _ = self._cluster.invariants.last_membership()
        leader = self._cluster.leader() if followers else None
        fit = [
            host
            for host in self._cluster.hosts.values()
            if host.node_id in membership.members and host is not leader
        ]
        hosts = [self.host(name) for name in named]
        if None in hosts or len(hosts) > len(fit):
            return []
        others = iter([host for host in fit if host not in hosts])
        return [host if host in fit else next(others) for host in hosts]

    def names(self, fault: Fault) -> str:
        """The names of the targets at this moment."""
        if isinstance(fault, DiskFault):
            return ", ".join(host.name for host in self.members(fault))
        hosts = [(name, self.host(name)) for name in aimed_at(fault)]
        return ", ".join(host.name if host is not None else name for name, host in hosts)

    def has_target(self, fault: Fault) -> bool:
        """Whether the fault takes effect just by being injected: a target runs. A lasting fault is
        also injected into a machine that is down, for it may start; that does not count.
        """
        match fault:
            case (
                TriggeredFault()
                | RollingFault()
                | MemberChange()
                | Transfer()
                | DirectRemoval()
                | AddressChange()
                | LearnerRemoval()
                | Compaction()
            ):
                return False  # they wait for a trigger, or may be refused
            case BitFlip() if fault.part == SNAPSHOT:
                return False
            case EmptyDisk() | OlderCopy() | ForeignCopy() | Clone():
                return False  # they begin only where their outcome is defined
            case Split():
                rest = self._cluster.hosts.keys() - {*fault.group, fault.bridge}
                return self._any_up(fault.group) and self._any_up(rest)
            case SlowLink() | BrokenLink():
                return self._any_up([fault.source]) and self._any_up([fault.target])
            case PoorNetwork():
                return True
        return self._any_up(aimed_at(fault))

    def _any_up(self, names: Iterable[str]) -> bool:
        hosts = map(self.host, names)
        return any(host is not None and host.up for host in hosts)

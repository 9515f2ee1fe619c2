"""Bounds on leadership while faults last: how long a node may lead without a majority, and how
long a healthy majority may be without a leader.

Both are judged from outside the nodes, by a look every `LOOK_S` of virtual time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from jepsen_lite.faults.kinds import NetworkConditions
from jepsen_lite.sim.checks.durable_log import is_majority, voter_sets
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import Host
from raftkv.errors import ShuttingDown
from raftkv.node.clocks import CLOCK_DRIFT_MAX
from raftkv.raft.raft import Raft
from raftkv.raft.ready import RaftConfig
from raftkv.raft.view import RaftView

LOOK_S = 0.1

CHECK_QUORUM_PERIODS = 2
"""A leader looks once per period for messages of a majority. What arrived just after one look
counts at the next one, so silence is noticed by the end of the period after that.
"""
SLACK_TICKS = 6
"""For the time between two looks, and for a pause that began or ended between them."""

ELECTIONS_MAX = 5
"""Rounds that a healthy majority may need: votes may be split, and with a leader lease the first
round may be refused. Four lost rounds in a row have a probability below one in a million.
"""


@dataclass(slots=True)
class Leadership:
    """One node in one term that it leads. Times are those of the node's own clock, without its
    pauses: the clock by which the node checks its quorum.
    """

    term: int
    voters: Sequence[frozenset[int]]
    """Of the membership in force."""
    voters_since_s: float = 0.0
    """Their silence before they were the voters is no part of the leader's time alone."""
    clock_s: float = 0.0
    contact_s: dict[int, float] = field(default_factory=dict)
    """By peer, when its last message of this term arrived, or when it became a peer."""


class LeadershipBounds:
    """Fails the simulation for a bound that is exceeded. `begin` starts the looks."""

    def __init__(self, context: SimulationContext, cluster: Cluster, tick_s: float) -> None:
        config = RaftConfig()
        self._world = context.world
        self._network = context.network
        self._cluster = cluster
        self._on_failure = context.on_failure
        self.leads_alone_s_max = tick_s * (
            CHECK_QUORUM_PERIODS * config.election_ticks_min + SLACK_TICKS
        )
        self.leaderless_s_max = (
            ELECTIONS_MAX * tick_s * config.election_ticks_max / (1 - CLOCK_DRIFT_MAX)
        )
        self._leaderships: dict[str, Leadership] = {}  # by host
        self._led_s = 0.0  # when a node led last
        self._healthy_since_s: dict[tuple[str, ...], float] = {}  # by node, and by pair of nodes

    def begin(self) -> None:
        """Look from now on."""
        self._led_s = self._world.now_s
        self._world.after(LOOK_S, self._look)

    def healthy(self, *names: str) -> float:
        """For how long these nodes have been healthy and connected with each other."""
        ways = [(name,) for name in names] + list(itertools.combinations(sorted(names), 2))
        now_s = self._world.now_s
        return now_s - max(self._healthy_since_s.get(way, now_s) for way in ways)

    def _look(self) -> None:
        leading = [host for host in self._cluster.machines if _raft_of(host) and _leads(host)]
        for host in leading:
            self._look_at_leader(host)
        for name in self._leaderships.keys() - {host.name for host in leading}:
            del self._leaderships[name]
        self._note_health()
        if any(not host.paused for host in leading):
            self._led_s = self._world.now_s
        elif self._world.now_s - self._led_s > self.leaderless_s_max:
            self._look_for_majority()
        self._world.after(LOOK_S, self._look)

    # ---- leaders without a majority --------------------------------------------------

    def _look_at_leader(self, host: Host) -> None:
        raft = _raft_of(host)
        assert raft is not None
        known = self._leaderships.get(host.name)
        if known is None or known.term != raft.current_term:
            known = Leadership(raft.current_term, voter_sets(raft.membership))
            self._leaderships[host.name] = known
            host.contacts.clear()
        if host.paused:
            return
        known.clock_s += LOOK_S * host.clock_rate
        for peer in raft.membership.members:
            if peer in host.contacts or peer not in known.contact_s:
                known.contact_s[peer] = known.clock_s
        host.contacts.clear()
        if voter_sets(raft.membership) != known.voters:
            known.voters, known.voters_since_s = voter_sets(raft.membership), known.clock_s
        oldest_s = known.clock_s - self.leads_alone_s_max
        if known.voters_since_s > oldest_s:
            return
        in_contact = {
            peer
            for peer, contact_s in known.contact_s.items()
            if peer == raft.node_id or contact_s >= oldest_s
        }
        if not is_majority(in_contact, raft.membership):
            self._on_failure(
                f"{host.name} leads term {raft.current_term}, but for"
                f" {self.leads_alone_s_max:g} s of its own clock no message from a majority of"
                f" {sorted(raft.membership.voters)} has arrived: check quorum has failed"
            )

    # ---- majorities without a leader -------------------------------------------------

    def _note_health(self) -> None:
        """Note since when each node has been healthy, and each pair has been connected."""
        since_s, now_s, network = self._healthy_since_s, self._world.now_s, self._network
        fair = network.conditions == NetworkConditions()
        for host in self._cluster.hosts.values():
            if fair and _is_healthy(host):
                since_s.setdefault((host.name,), now_s)
            else:
                since_s.pop((host.name,), None)
        for one, other in itertools.combinations(sorted(self._cluster.hosts), 2):
            if network.is_swift(one, other) and network.is_swift(other, one):
                since_s.setdefault((one, other), now_s)
            else:
                since_s.pop((one, other), None)

    def _look_for_majority(self) -> None:
        """No node has led for too long: was there a healthy majority all the time?"""
        membership, committed = self._cluster.invariants.last_membership()
        if not committed or membership.joint:
            return
        names = [
            host.name for host in self._cluster.hosts.values() if host.node_id in membership.voters
        ]
        for group in itertools.combinations(names, len(names) // 2 + 1):
            if self.healthy(*group) > self.leaderless_s_max:
                self._on_failure(
                    f"{', '.join(group)} are a majority, healthy and connected, and no node has"
                    f" led for {self.leaderless_s_max:.1f} s"
                )
                return


def _raft_of(host: Host) -> RaftView | None:
    node = host.node
    return node.core if node is not None and not node.stopped.done() else None


def _leads(host: Host) -> bool:
    raft = _raft_of(host)
    return raft is not None and raft.leads


def _is_healthy(host: Host) -> bool:
    """Whether the node runs, undisturbed, on a disk that it has always had."""
    node, disk = host.node, host.disk
    if node is None or host.paused or host.stopping or host.clock_disturbed:
        return False
    if disk.slow_s or disk.full or disk.flipped or host.replica.loss or host.twin is not None:
        return False
    if node.stopped.done() or cast("Raft", node.core).passive:
        return False
    try:
        node.require_running()
    except ShuttingDown:
        return False
    return True

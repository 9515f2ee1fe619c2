"""What a node counts about itself, for its metrics. Nothing is decided by it."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftkv.metrics.histogram import Distribution, Histogram
from raftkv.node.status import PeerState
from raftkv.raft.entry import Membership


@dataclass(slots=True)
class NodeCounters:
    """Counts since the start of this process."""

    leader_changes: int = 0
    snapshots_sent: int = 0
    snapshots_installed: int = 0
    apply: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class ProposalOutcomes:
    """How many proposals of this node's clients have ended, and how."""

    applied: int = 0
    not_applied: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """A node at one moment, as it sees itself. `leader_id` 0: none known.

    `sees_majority`: at the leader, whether a majority of voters has answered lately; at another
    node, whether the leader has.
    """

    term: int
    leads: bool
    leader_id: int
    sees_majority: bool
    ready: bool
    stopping: bool
    leader_changes: int
    membership: Membership
    commit_index: int
    applied_index: int
    last_log_index: int
    log_bytes: int
    proposals_pending: int
    proposals: dict[str, int]
    snapshots_sent: int
    snapshots_installed: int
    apply: Distribution
    revision: int
    compacted_revision: int
    leases: int
    sessions: int
    peers: tuple[PeerState, ...]

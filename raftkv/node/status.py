"""The status of a node and of its peers at one moment."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raftkv.raft.entry import Membership
from raftkv.raft.ready import RaftRole


class PeerReachability(enum.IntEnum):
    """How a peer looks from here. The numbers are those of the wire."""

    REACHABLE = 0
    SUSPECT = 1
    UNREACHABLE = 2


@dataclass(frozen=True, slots=True)
class PeerState:
    """A peer, as this node sees it.

    `last_contact_ms` counts from its last message; -1: none has arrived. Only a leader has
    `match_index` and `replication` (probe, replicate or snapshot), else they are 0 and "".
    """

    node_id: int
    reachability: PeerReachability
    last_contact_ms: int
    match_index: int = 0
    replication: str = ""


@dataclass(frozen=True, slots=True)
class NodeState:
    """The node that answers; needs no majority. `leader_id` 0: none known.

    `not_serving` is the reason why it serves nothing, with the fix; `notice` is a warning of a node
    that serves. Both are empty at a healthy node.
    """

    node_id: int
    cluster_id: int
    term: int
    role: RaftRole
    leader_id: int
    learner: bool
    commit_index: int
    applied_index: int
    first_log_index: int
    last_log_index: int
    revision: int
    compacted_revision: int
    cluster_time_ms: int
    disk_bytes: int
    membership: Membership
    peers: tuple[PeerState, ...] = ()
    incarnation: int = 0
    cluster_version: int = 0
    not_serving: str = ""
    notice: str = ""

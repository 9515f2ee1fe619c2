"""The status of nodes and the membership of the cluster as immutable values."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raftkv.rpc.v1 import api_pb2


class Role(enum.Enum):
    """A node's role in its term."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Reachability(enum.Enum):
    """Whether a node can reach a peer, by the time since the peer's last message."""

    REACHABLE = "reachable"
    SUSPECT = "suspect"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster. A learner receives the log and has no vote.

    `started` is False if the member was added, and no node has joined under its id yet.
    """

    node_id: int
    peer_address: str
    client_address: str
    learner: bool
    started: bool = True


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A setting of a node: as the node runs with it, and as its sources have it now."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ConfigReload:
    """What a node has changed when it read its settings again, and what needs a restart of it."""

    changed: tuple[SettingChange, ...]
    needs_restart: tuple[SettingChange, ...]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """The state of a peer, as the answering node knows it."""

    node_id: int
    reachability: Reachability
    last_contact_ms: int | None  # since its last message; None: there was none
    match_index: int  # known to a leader only
    replication: str  # "probe", "replicate" or "snapshot"; known to a leader only


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The status of a node. Needs no majority."""

    endpoint: str  # the address that was asked
    cluster_id: int
    node_id: int
    term: int
    revision: int
    version: str
    role: Role
    leader_id: int  # 0: none known
    commit_index: int
    applied_index: int
    last_log_index: int
    first_log_index: int
    compacted_revision: int
    cluster_time_ms: int
    disk_bytes: int
    disk_free_bytes: int
    memory_bytes: int
    uptime_ms: int
    learner: bool
    members: tuple[Member, ...]
    peers: tuple[PeerStatus, ...]
    incarnation: int = 0  # drawn when the cluster was founded; 0: it is not founded yet
    cluster_version: int = 0
    not_serving: str = ""  # why it refuses requests, and what to do; empty if it serves
    notice: str = ""  # a warning to its operator, although it serves


_ROLES = {
    api_pb2.ROLE_FOLLOWER: Role.FOLLOWER,
    api_pb2.ROLE_PRE_CANDIDATE: Role.PRE_CANDIDATE,
    api_pb2.ROLE_CANDIDATE: Role.CANDIDATE,
    api_pb2.ROLE_LEADER: Role.LEADER,
}
_REACHABILITIES = {
    api_pb2.REACHABILITY_REACHABLE: Reachability.REACHABLE,
    api_pb2.REACHABILITY_SUSPECT: Reachability.SUSPECT,
    api_pb2.REACHABILITY_UNREACHABLE: Reachability.UNREACHABLE,
}


def member_of(member: api_pb2.Member) -> Member:
    """A Member from the wire."""
    return Member(
        member.node_id,
        member.peer_address,
        member.client_address,
        member.learner,
        member.started,
    )


def members_of(reply: api_pb2.MemberListReply) -> tuple[Member, ...]:
    """The members from the wire."""
    return tuple(map(member_of, reply.members))


def status_of(endpoint: str, reply: api_pb2.StatusReply) -> NodeStatus:
    """A NodeStatus from the wire."""
    return NodeStatus(
        endpoint=endpoint,
        cluster_id=reply.header.cluster_id,
        node_id=reply.header.node_id,
        term=reply.header.term,
        revision=reply.header.revision,
        version=reply.version,
        role=_ROLES[reply.role],
        leader_id=reply.leader_id,
        commit_index=reply.commit_index,
        applied_index=reply.applied_index,
        last_log_index=reply.last_log_index,
        first_log_index=reply.first_log_index,
        compacted_revision=reply.compacted_revision,
        cluster_time_ms=reply.cluster_time_ms,
        disk_bytes=reply.disk_bytes,
        disk_free_bytes=reply.disk_free_bytes,
        memory_bytes=reply.memory_bytes,
        uptime_ms=reply.uptime_ms,
        learner=reply.learner,
        members=tuple(map(member_of, reply.members)),
        peers=tuple(map(_peer_of, reply.peers)),
        incarnation=reply.header.incarnation,
        cluster_version=reply.cluster_version,
        not_serving=reply.not_serving,
        notice=reply.notice,
    )


def _peer_of(peer: api_pb2.PeerStatus) -> PeerStatus:
    return PeerStatus(
        node_id=peer.node_id,
        reachability=_REACHABILITIES[peer.reachability],
        last_contact_ms=None if peer.last_contact_ms < 0 else peer.last_contact_ms,
        match_index=peer.match_index,
        replication=peer.replication,
    )

"""A mark: a state or a transition that a simulation should reach, and the families of marks that
are products of two lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from raftkv.raft.messages import Message, RequestVote, RequestVoteReply
from raftkv.raft.progress import Replication
from raftkv.raft.ready import RaftRole

Reach: TypeAlias = Callable[[str], None]
"""Counts the mark of that name. A name that is not in the table raises `KeyError`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """`unexpected` is the reason for which the default run need not reach the mark; empty if it
    must.
    """

    name: str
    meaning: str
    unexpected: str = ""


ROLES = {
    RaftRole.FOLLOWER: "follower",
    RaftRole.PRE_CANDIDATE: "pre-candidate",
    RaftRole.CANDIDATE: "candidate",
    RaftRole.LEADER: "leader",
}

MESSAGES = (
    "RequestVote",
    "RequestVoteReply",
    "PreVote",
    "PreVoteReply",
    "AppendEntries",
    "AppendEntriesReply",
    "Heartbeat",
    "HeartbeatReply",
    "InstallSnapshot",
    "ReadIndex",
    "ReadIndexReply",
    "TimeoutNow",
)

COMMANDS = (
    "put",
    "delete_range",
    "transaction",
    "compare_and_swap",
    "compact",
    "lease_grant",
    "lease_renew",
    "lease_revoke",
    "lease_keep_alive",
    "acquire",
    "auth",
)

COMMAND_EVENTS = {
    "first": "runs for the first time",
    "retry": "is retried, and a session answers it from memory",
    "after expiry": "arrives in a session that has ended",
    "at a follower": "is submitted at a node that does not lead",
}

OUTSIDE_SESSIONS = frozenset({"lease_keep_alive", "auth"})
"""Commands that a node makes of its clients' calls: they are of no session, which could answer a
retry or end.
"""
OF_SESSIONS = frozenset({"retry", "after expiry"})
"""Those of `COMMAND_EVENTS` that only commands of a session can meet."""

REFUSALS_OF_COMMANDS = (
    "INVALID_REQUEST",
    "REVISION_COMPACTED",
    "REVISION_IN_FUTURE",
    "TOO_LARGE",
    "LEASE_NOT_FOUND",
    "LEASE_EXISTS",
    "KEY_NOT_FOUND",
    "FENCED_OFF",
    "IDEMPOTENCY_KEY_REUSED",
    "TOO_MANY_KEYS",
    "OVERLOADED",
    "REFUSED",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "USER_NOT_FOUND",
    "USER_EXISTS",
    "ROLE_NOT_FOUND",
    "ROLE_EXISTS",
    "TOKEN_NOT_FOUND",
)
"""The reasons with which the state machine refuses a command."""

REFUSALS_OF_NODES = (
    "SHUTTING_DOWN",
    "OVERLOADED",
    "NO_LEADER",
    "DEADLINE_EXCEEDED",
    "OUTCOME_UNKNOWN",
    "SESSION_EXPIRED",
    "TOO_STALE",
)
"""The reasons with which a node refuses a client's batch as a whole. Production clients send no
`INVALID_REQUEST`, and no simulated server is `NOT_SERVING` while its node waits to join.
"""

REFUSALS_OF_CALLERS = (
    "WRONG_VERSION",
    "REMOVED",
    "OTHER_DISK",
    "OLDER_COPY",
    "CLONE",
)
"""The reasons with which a node refuses a peer. `WRONG_INCARNATION` and `BREACH` come from the gRPC
server of the peer port, which the simulator replaces.
"""

REPLICATION_EVENTS = {
    "the peer crashes": "the peer's process ends",
    "the leader crashes": "the leader's process ends",
    "the peer installs a snapshot": "the peer installs a snapshot of any leader",
    "the leader compacts its log": "the leader drops the front of its log",
}

LEVELS = ("linearizable", "stale", "leader lease", "session", "bounded")
"""By the number of the level on the wire."""

CHANGES = ("AddLearner", "Promote", "Remove", "Replace", "UpdateAddress", "Claim")
"""Changes of membership, by the names of their classes."""


def kind_of(message: Message) -> str:
    """One of `MESSAGES`."""
    kind = type(message).__name__
    if isinstance(message, RequestVote | RequestVoteReply) and message.pre_vote:
        return kind.replace("RequestVote", "PreVote")
    return kind


def message_at(kind: str, role: RaftRole) -> str:
    """The mark of a message that a node of this role handles."""
    return f"message: {kind} at a {ROLES[role]}"


def crash_of(role: RaftRole, *, power: bool) -> str:
    """The mark of a process that ends while its node has this role."""
    return f"crash: {'power cut' if power else 'kill'} of a {ROLES[role]}"


def replication_when(state: Replication, event: str) -> str:
    """The mark of an event while a leader has the peer in this state."""
    return f"replication: {state.value} while {event}"


def replication_moves(before: Replication, after: Replication) -> str:
    """The mark of a peer that goes from one state to the other at its leader."""
    return f"replication: {before.value} to {after.value}"


def command_at(command: str, event: str) -> str:
    """The mark of one command of `COMMANDS` and one of `COMMAND_EVENTS`."""
    return f"command: {command}, {event}"


def command_refused(reason: str) -> str:
    """The mark of a command that the state machine refuses for this reason."""
    return f"command refused: {reason}"


def batch_refused(reason: str) -> str:
    """The mark of a batch that a node refuses for this reason."""
    return f"batch refused: {reason}"


def caller_refused(reason: str) -> str:
    """The mark of a peer that a node refuses for this reason."""
    return f"peer refused: {reason}"


def read_at(level: int, *, leads: bool) -> str:
    """The mark of a read of this level, answered at the leader or elsewhere."""
    return f"read: {LEVELS[level]} at a {'leader' if leads else 'follower'}"


def read_behind(level: int) -> str:
    """The mark of a read of this level, answered from a state behind the commit index."""
    return f"read: {LEVELS[level]} behind the leader"


def change_done(change: str) -> str:
    """The mark of a membership change of this class that was committed."""
    return f"membership: {change} done"

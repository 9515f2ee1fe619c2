"""The messages of the Raft protocol, as values.

Names and fields are those of the Raft paper (figures 2 and 13) and the dissertation; additions have
a comment. A `..._hash` is the running hash of the sender's log up to that index (running_hash.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from raftkv.raft.entry import Entry, SnapshotPoint


@dataclass(frozen=True, slots=True)
class RequestVote:
    """`pre_vote` asks without raising any term (dissertation 9.6). `leadership_transfer` marks an
    election that the present leader started, to which stickiness does not apply (4.2.3).
    """

    sender: int
    recipient: int
    term: int
    last_log_index: int
    last_log_term: int
    pre_vote: bool = False
    leadership_transfer: bool = False
    last_log_hash: int = 0


@dataclass(frozen=True, slots=True)
class RequestVoteReply:
    """A granted pre-vote names the term that was asked for, everything else the voter's own."""

    sender: int
    recipient: int
    term: int
    granted: bool
    pre_vote: bool = False


@dataclass(frozen=True, slots=True)
class AppendEntries:
    sender: int
    recipient: int
    term: int
    prev_log_index: int
    prev_log_term: int
    leader_commit: int
    entries: tuple[Entry, ...] = ()
    prev_log_hash: int = 0


@dataclass(frozen=True, slots=True)
class AppendEntriesReply:
    """On success `match_index` is the last index known to agree, on disk, and `match_hash` the
    running hash there. Refused, it is the prev_log_index that did not fit, and `conflict_index`,
    `conflict_term` say where to try next.
    """

    sender: int
    recipient: int
    term: int
    success: bool
    match_index: int
    conflict_index: int = 0
    conflict_term: int = 0
    match_hash: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """An AppendEntries without entries, split off so that it never queues behind data.

    `read_round` numbers the leader's ReadIndex rounds of this term (dissertation 6.4); 0 only
    carries the commit index only and asks for no reply.
    """

    sender: int
    recipient: int
    term: int
    leader_commit: int
    read_round: int


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    sender: int
    recipient: int
    term: int
    read_round: int


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """Announces a snapshot whose data travels beside it; stepped once the data has arrived."""

    sender: int
    recipient: int
    term: int
    snapshot: SnapshotPoint


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """A follower asks the leader for an index that makes its read linearizable."""

    sender: int
    recipient: int
    term: int
    context: int


@dataclass(frozen=True, slots=True)
class ReadIndexReply:
    sender: int
    recipient: int
    term: int
    context: int
    read_index: int


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks the recipient to start an election at once (dissertation 3.10)."""

    sender: int
    recipient: int
    term: int


Message: TypeAlias = (
    RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | Heartbeat
    | HeartbeatReply
    | InstallSnapshot
    | ReadIndex
    | ReadIndexReply
    | TimeoutNow
)

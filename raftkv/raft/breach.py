"""Protocol breaches: messages that contradict what this node knows to be safe."""

from __future__ import annotations

from raftkv.raft.log import Log
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
)


class ProtocolBreach(Exception):
    """`sender` and this node contradict each other: a disk was lost or copied, or the sender lies.

    The core has not acted on the message. An `InvariantViolation`, in contrast, is a fault of this
    program. How to react to a breach depends on the sender: a member, or a stranger.
    """

    def __init__(self, sender: int, what: str, **facts: object) -> None:
        details = ", ".join(f"{name} {value}" for name, value in facts.items())
        super().__init__(f"{what} ({details})" if details else what)
        self.sender = sender
        self.what = what
        self.facts = facts


def require_one_leader(message: Message, leader_id: int) -> None:
    """Raise if the sender leads a term whose leader is known to be another node (section 5.2)."""
    if leader_id not in (0, message.sender):
        raise ProtocolBreach(
            message.sender,
            f"nodes {leader_id} and {message.sender} both lead one term",
            term=message.term,
        )


def require_one_history(
    message: AppendEntries | Heartbeat | InstallSnapshot, log: Log, commit_index: int
) -> None:
    """Raise if the leader's log contradicts `log`, as far as the message shows it."""
    match message:
        case AppendEntries():
            index, term = message.prev_log_index, message.prev_log_term
            # What is committed here the leader has (leader completeness). Where it is compacted
            # away, the leader compares what is acknowledged.
            if index <= commit_index or log.matches(index, term):
                _require_agreement(message, log, index, term, message.prev_log_hash)
                _require_same_entries(message, log)
        case InstallSnapshot():
            point = message.snapshot
            index, term = point.last_included_index, point.last_included_term
            if index <= commit_index or log.matches(index, term):
                _require_agreement(message, log, index, term, point.last_included_hash)
        case Heartbeat() if message.leader_commit > log.last_index:
            # A leader sends no commit index above the match index of the receiver.
            raise ProtocolBreach(
                message.sender,
                f"node {message.sender} says that node {message.recipient} acknowledged what it"
                " does not have",
                committed=message.leader_commit,
                last_index_here=log.last_index,
            )


def require_own_question(message: Message, last_index: int, read_round: int) -> None:
    """Raise if a reply answers no message that this leader has sent in its term.

    `last_index` is that of its log, `read_round` the last one that it has begun.
    """
    sender, leader = message.sender, message.recipient
    if isinstance(message, AppendEntriesReply):
        if message.success and message.match_index > last_index:
            raise ProtocolBreach(
                sender,
                f"node {sender} has committed what its leader, node {leader}, lacks",
                committed=message.match_index,
                last_index_here=last_index,
            )
    elif isinstance(message, HeartbeatReply) and message.read_round > read_round:
        raise ProtocolBreach(
            sender,
            f"node {sender} confirms a read that node {leader} has not asked about",
            round=message.read_round,
            last_round_here=read_round,
        )


def _require_agreement(message: Message, log: Log, index: int, term: int, hash_there: int) -> None:
    if log.contradicts(index, term, hash_there):
        raise _two_histories(message, log, index, f"term {term} hash {hash_there:016x}")


def _require_same_entries(message: AppendEntries, log: Log) -> None:
    other = log.first_difference(message.entries)
    if other is not None:
        size = len(other.payload)
        there = f"term {other.term} {other.kind.name} of {size} bytes"
        raise _two_histories(message, log, other.index, there)


def _two_histories(message: Message, log: Log, index: int, there: str) -> ProtocolBreach:
    here = f"term {log.term(index)} hash {log.hash(index) or 0:016x}"
    return ProtocolBreach(
        message.sender,
        f"the logs of nodes {message.recipient} and {message.sender} are different histories",
        index=index,
        **{f"at node {message.recipient}": here, f"at node {message.sender}": there},
    )

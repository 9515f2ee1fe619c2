"""What numbers a peer's message may hold: checked once, on arrival, before the core sees them.

A number out of bounds is no state that Raft could have reached, so the link ends with a reason and
nothing has been acted on. How a term compares with the receiver's own is the receiver's to check.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.errors import InvalidRequest
from raftkv.kv.membership import decode_membership
from raftkv.rpc import log_pb2, peer_pb2

NUMBER_MAX = 2**62
"""Of terms, indexes, rounds and submissions: far beyond what can be reached one by one."""

TERM_JUMP_MAX = 2**32
"""By how much a message's term may exceed the receiver's: elections raise it one by one."""

LAMPORT_JUMP_MAX = 2**32
"""By how much a frame's Lamport time may exceed the receiver's; one that does teaches nothing."""

FORWARDS_MAX = 4096
VERSION_BYTES = 4


def check_frame(frame: peer_pb2.Frame, sender: int) -> None:
    """Raise `InvalidRequest` if no peer of ours sends such a frame."""
    if len(frame.forwards) > FORWARDS_MAX or len(frame.forwards_refused) > FORWARDS_MAX:
        raise _out_of_bounds(sender, "a count of forwards", len(frame.forwards), FORWARDS_MAX)
    if len(frame.acknowledged) > MEMBERS_MAX:
        raise _out_of_bounds(sender, "a count of members", len(frame.acknowledged), MEMBERS_MAX)
    for message in frame.messages:
        _check_message(message, sender)
    for forward in frame.forwards:
        _check_numbers(sender, "Forward", (forward.term, forward.settled))
        _check_numbers(sender, "Submission", (each.number for each in forward.submissions))
    for refused in frame.forwards_refused:
        _check_numbers(sender, "ForwardRefused", (refused.term, refused.number))


def check_snapshot(wire: peer_pb2.InstallSnapshot, sender: int, term: int) -> None:
    """The same for the announcement of a snapshot."""
    index, last_term = wire.last_included_index, wire.last_included_term
    _check_numbers(sender, "InstallSnapshot", (term, index, last_term))
    if not 0 < last_term <= term or not index:
        raise InvalidRequest(
            f"node {sender} offers a snapshot of index {index}, term {last_term}, in term {term}"
        )


def _check_message(message: peer_pb2.RaftMessage, sender: int) -> None:
    if message.term > NUMBER_MAX:
        raise _out_of_bounds(sender, "a term", message.term, NUMBER_MAX)
    kind = message.WhichOneof("message")
    if kind == "append_entries":
        _check_append(message.append_entries, message.term, sender)
    elif kind == "append_entries_reply":
        reply = message.append_entries_reply
        _check_numbers(sender, kind, (reply.match_index, reply.conflict_index, reply.conflict_term))
    elif kind == "heartbeat":
        beat = message.heartbeat
        _check_numbers(sender, kind, (beat.leader_commit, beat.read_round))
    elif kind == "heartbeat_reply":
        _check_numbers(sender, kind, (message.heartbeat_reply.read_round,))
    elif kind == "request_vote":
        vote = message.request_vote
        _check_numbers(sender, kind, (vote.last_log_index, vote.last_log_term))
    elif kind == "read_index_reply":
        _check_numbers(sender, kind, (message.read_index_reply.read_index,))


def _check_append(append: peer_pb2.AppendEntries, term: int, sender: int) -> None:
    index, last_term = append.prev_log_index, append.prev_log_term
    _check_numbers(sender, "append_entries", (index, last_term, append.leader_commit))
    for entry in append.entries:
        index += 1
        if entry.index != index or not last_term <= entry.term <= term:
            raise InvalidRequest(
                f"node {sender} sends entry {entry.index} of term {entry.term} in term {term} where"
                f" entry {index} of term {last_term} or later follows"
            )
        last_term = entry.term
        if entry.kind not in (log_pb2.ENTRY_KIND_NOOP, log_pb2.ENTRY_KIND_COMMANDS):
            _check_payload(entry, sender)


def _check_payload(entry: log_pb2.Entry, sender: int) -> None:
    if entry.kind == log_pb2.ENTRY_KIND_MEMBERSHIP:
        decode_membership(entry.payload)
    elif entry.kind == log_pb2.ENTRY_KIND_VERSION and len(entry.payload) != VERSION_BYTES:
        raise InvalidRequest(f"node {sender} sends a version of {len(entry.payload)} bytes")


def _check_numbers(sender: int, what: str, numbers: Iterable[int]) -> None:
    for number in numbers:
        if number > NUMBER_MAX:
            raise _out_of_bounds(sender, f"a number of a {what}", number, NUMBER_MAX)


def _out_of_bounds(sender: int, what: str, value: int, maximum: int) -> InvalidRequest:
    return InvalidRequest(f"node {sender} sends {what} of {value}; at most {maximum} can be")

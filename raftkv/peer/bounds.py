"""Validation of incoming peer messages: each is checked once, before the Raft core receives it.

No correct node sends a value that is out of bounds. The receiver ends the stream with the reason
and acts on nothing of the frame. The driver, not this module, compares a message's term with its
own.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from raftkv.errors import InvalidRequest
from raftkv.rpc.v1 import log_pb2, peer_pb2

NUMBER_MAX = 2**62
"""Of terms, indexes, read rounds and submission numbers: counting up by one never reaches it."""

NODE_ID_MAX = 2**63 - 1

TERM_JUMP_MAX = 2**32
"""By how much a message's term may exceed the receiver's: each election raises it by one."""

TIME_MS_MAX = 2**53
"""Of cluster time, in milliseconds: a lease's end, computed from it, must fit in 64 bits."""

LAMPORT_JUMP_MAX = 2**32
"""By how much a frame's Lamport time may exceed the receiver's; a larger one is ignored."""

FORWARDS_MAX = 4096
SUBMISSIONS_MAX = 1 << 20
"""The most submissions that a node has in flight, whatever its settings."""

MEMBERS_MAX = 1024
STATE_MARKS_MAX = 1 << 15
"""Of all frames that are merged on their way: as many as forwards, with some marks each."""
DIGEST_BYTES_MAX = 64
VERSION_BYTES = 4


def check_frame(frame: peer_pb2.Frame, sender: int) -> None:
    """Raise `InvalidRequest` if no correct node sends such a frame."""
    if len(frame.forwards) > FORWARDS_MAX:
        raise _out_of_bounds(sender, "a count of forwards", len(frame.forwards), FORWARDS_MAX)
    if len(frame.forwards_refused) > SUBMISSIONS_MAX:
        count = len(frame.forwards_refused)
        raise _out_of_bounds(sender, "a count of refusals", count, SUBMISSIONS_MAX)
    if len(frame.acknowledged) > MEMBERS_MAX:
        raise _out_of_bounds(sender, "a count of members", len(frame.acknowledged), MEMBERS_MAX)
    if len(frame.state_marks) > STATE_MARKS_MAX:
        raise _out_of_bounds(
            sender, "a count of state marks", len(frame.state_marks), STATE_MARKS_MAX
        )
    _check_numbers(sender, "state mark", (each.index for each in frame.state_marks))
    _check_numbers(sender, "Frame", (frame.history_needed,))
    for message in frame.messages:
        _check_message(message, sender)
    for forward in frame.forwards:
        _check_numbers(sender, "Forward", (forward.term, forward.settled))
        _check_numbers(sender, "Submission", (each.number for each in forward.submissions))
    for refused in frame.forwards_refused:
        _check_numbers(sender, "ForwardRefused", (refused.term, refused.number))


def check_snapshot(wire: peer_pb2.InstallSnapshot, sender: int, term: int) -> None:
    """Raise `InvalidRequest` if no correct node announces such a snapshot."""
    index, last_term = wire.last_included_index, wire.last_included_term
    _check_numbers(sender, "InstallSnapshot", (term, index))
    if not index:
        raise InvalidRequest(f"node {sender} offers a snapshot of nothing")
    _check_log_end(sender, index, last_term, term)
    check_membership(wire.membership, sender)


def check_membership(wire: log_pb2.Membership, sender: int) -> None:
    """Raise `InvalidRequest` unless each member has addresses and none was removed."""
    members = {*wire.voters, *wire.voters_outgoing, *wire.learners}
    known = {each.node_id for each in wire.addresses if each.peer_address and each.client_address}
    if not wire.voters:
        raise InvalidRequest(f"node {sender} sends a membership without a voter")
    if len(members) > MEMBERS_MAX:
        raise _out_of_bounds(sender, "a count of members", len(members), MEMBERS_MAX)
    if not all(0 < id <= NODE_ID_MAX for id in (*members, *known, *wire.removed)):
        raise InvalidRequest(f"node {sender} sends a membership with ids that no node has")
    if members - known:
        lost = ", ".join(map(str, sorted(members - known)))
        raise InvalidRequest(f"node {sender} sends a membership without the addresses of {lost}")
    if members & set(wire.removed):
        back = ", ".join(map(str, sorted(members & set(wire.removed))))
        raise InvalidRequest(f"node {sender} sends a membership in which {back} was removed and is")


def check_founding(wire: peer_pb2.Founding, sender: int) -> None:
    """Raise `InvalidRequest` if no correct founder sends this."""
    if len(wire.founders) > DIGEST_BYTES_MAX:
        raise _out_of_bounds(sender, "a digest", len(wire.founders), DIGEST_BYTES_MAX)
    try:
        membership = log_pb2.Membership.FromString(wire.membership)
    except DecodeError as error:
        raise InvalidRequest(f"founder {sender} sends what is no membership: {error}") from error
    # A started founder sends its membership only after it has read its log.
    if wire.membership or wire.stage == peer_pb2.Founding.STAGE_STORED:
        check_membership(membership, sender)


def _check_message(message: peer_pb2.RaftMessage, sender: int) -> None:
    term, kind = message.term, message.WhichOneof("message")
    if term > NUMBER_MAX:
        raise _out_of_bounds(sender, "a term", term, NUMBER_MAX)
    # Only the vote reply of a node that has seen no election yet has term 0.
    if not term and kind != "request_vote_reply":
        raise InvalidRequest(f"node {sender} sends a message of no term")
    if kind == "append_entries":
        _check_append(message.append_entries, term, sender)
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
        _check_numbers(sender, kind, (vote.last_log_index,))
        _check_log_end(sender, vote.last_log_index, vote.last_log_term, term)
    elif kind == "read_index_reply":
        _check_numbers(sender, kind, (message.read_index_reply.read_index,))


def _check_append(append: peer_pb2.AppendEntries, term: int, sender: int) -> None:
    index, last_term = append.prev_log_index, append.prev_log_term
    _check_numbers(sender, "append_entries", (index, append.leader_commit))
    _check_log_end(sender, index, last_term, term)
    for entry in append.entries:
        index += 1
        if entry.index != index or not max(last_term, 1) <= entry.term <= term:
            raise InvalidRequest(
                f"node {sender} sends entry {entry.index} of term {entry.term} in term {term} where"
                f" entry {index} of term {last_term} or later follows"
            )
        last_term = entry.term
        if entry.kind != log_pb2.ENTRY_KIND_NOOP:
            _check_payload(entry, sender)


def _check_log_end(sender: int, index: int, last_term: int, term: int) -> None:
    """The last entry's term is at most the message's; an empty log has last term 0."""
    if not (0 < last_term <= term if index else last_term == 0):
        raise InvalidRequest(
            f"node {sender} says in term {term} that entry {index} is of term {last_term}"
        )


def _check_payload(entry: log_pb2.Entry, sender: int) -> None:
    """Check that the payload can be applied."""
    try:
        if entry.kind == log_pb2.ENTRY_KIND_COMMANDS:
            time_ms = log_pb2.StampedBatch.FromString(entry.payload).time_ms
            if not 0 <= time_ms <= TIME_MS_MAX:
                raise _out_of_bounds(sender, "a cluster time", time_ms, TIME_MS_MAX)
        elif entry.kind == log_pb2.ENTRY_KIND_MEMBERSHIP:
            check_membership(log_pb2.Membership.FromString(entry.payload), sender)
    except DecodeError as error:
        raise InvalidRequest(
            f"node {sender} sends entry {entry.index}, whose payload is none of its kind: {error}"
        ) from error
    if entry.kind == log_pb2.ENTRY_KIND_VERSION and len(entry.payload) != VERSION_BYTES:
        raise InvalidRequest(f"node {sender} sends a version of {len(entry.payload)} bytes")


def _check_numbers(sender: int, what: str, numbers: Iterable[int]) -> None:
    for number in numbers:
        if number > NUMBER_MAX:
            raise _out_of_bounds(sender, f"a number of a {what}", number, NUMBER_MAX)


def _out_of_bounds(sender: int, what: str, value: int, maximum: int) -> InvalidRequest:
    return InvalidRequest(f"node {sender} sends {what} of {value}; at most {maximum} can be")

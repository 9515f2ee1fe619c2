"""The peer protocol's codec: Raft messages, forwards and founding rounds to bytes and back.

Frames carry neither sender nor recipient: the handshake of a stream names both. A frame has only
repeated fields, so the concatenated bytes of several frames are one frame with the content of all
of them; links merge queued frames without encoding them again. Of the two that are not repeated,
protobuf keeps the last value: the newest report of the history that is needed, and the Lamport
time, which is encoded as a frame of its own and appended last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from raftkv.clocks import LamportTime
from raftkv.errors import InvalidRequest
from raftkv.kv.state_hash import MARKS_MAX, StateMark
from raftkv.peer import bounds
from raftkv.peer.ports import (
    Acknowledged,
    Author,
    Forward,
    ForwardRefused,
    FounderStage,
    Founding,
    Frame,
    Submission,
)
from raftkv.raft.entry import Entry, EntryKind, SnapshotPoint
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raftkv.rpc.v1 import log_pb2, peer_pb2
from raftkv.versions import VersionRange
from raftkv.wire.failures import error_of, fill_failure
from raftkv.wire.membership import fill_membership, read_membership

# A tuple, because looking up an enum by calling it costs more than building the entry.
_KINDS = tuple(EntryKind(number) for number in range(len(EntryKind)))


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a `raftkv.rpc.v1.Frame`."""
    wire = peer_pb2.Frame()
    for message in frame.messages:
        _encode_message(message, wire.messages.add())
    wire.history_needed = frame.history_needed
    _encode_forwards(frame, wire)
    return wire.SerializeToString()


def encode_by_queue(frame: Frame) -> tuple[bytes, bytes]:
    """The frame as two frames, for the control queue and for the bulk queue; empty bytes for none.

    Every AppendEntries is bulk, also an empty one: if it overtook another, the peer would reject
    it.
    """
    control, bulk = peer_pb2.Frame(), peer_pb2.Frame()
    for message in frame.messages:
        queue = bulk if type(message) is AppendEntries else control
        _encode_message(message, queue.messages.add())
    control.history_needed = frame.history_needed
    _encode_forwards(frame, bulk)
    return control.SerializeToString(), bulk.SerializeToString()


def encode_stamp(time: LamportTime) -> bytes:
    """The bytes to append to a frame so that it carries its writer's Lamport time."""
    return peer_pb2.Frame(lamport=time.value).SerializeToString()


def decode_frame(data: bytes, sender: int, recipient: int) -> Frame:
    """Decode and validate a frame of a stream from `sender` to `recipient`.

    Raises `InvalidRequest` for bytes and numbers that no correct node sends.
    """
    wire = parse_frame(data, sender)
    bounds.check_frame(wire, sender)
    return Frame(
        messages=tuple([_decode_message(message, sender, recipient) for message in wire.messages]),
        forwards=tuple([_decode_forward(forward) for forward in wire.forwards]),
        forwards_refused=tuple(map(_decode_refused, wire.forwards_refused)),
        acknowledged={
            each.node_id: Acknowledged(each.index, each.start_id) for each in wire.acknowledged
        },
        # Two frames that were merged on their way: the later marks are those that count.
        state_marks=tuple(
            [StateMark(each.index, each.hash) for each in wire.state_marks[-MARKS_MAX:]]
        ),
        history_needed=wire.history_needed,
        lamport=wire.lamport,
    )


def parse_frame(data: bytes, sender: int) -> peer_pb2.Frame:
    """Parse `data` without validating it. Raises `InvalidRequest` if it is no Frame."""
    try:
        return peer_pb2.Frame.FromString(data)
    except DecodeError as error:
        raise InvalidRequest(f"a frame from node {sender} is not a Frame: {error}") from error


def encode_founding(founding: Founding) -> peer_pb2.Founding:
    return peer_pb2.Founding(
        stage=founding.stage.value,  # type: ignore[arg-type]  # its numbers are the wire's
        incarnation=founding.incarnation,
        membership=founding.membership,
        all_stored=founding.all_stored,
        disk_id=founding.disk_id,
        founders=founding.founders,
        refusal=founding.refusal,
        version_min=founding.versions.minimum,
        version_max=founding.versions.maximum,
    )


def decode_founding(wire: peer_pb2.Founding, sender: int) -> Founding:
    """Decode and validate what founder `sender` reports. Raises `InvalidRequest`."""
    try:
        stage = FounderStage(wire.stage)
    except ValueError:
        raise InvalidRequest(f"founder {sender} is at the unknown stage {wire.stage}") from None
    if not (wire.disk_id and bool(wire.incarnation) is (stage is not FounderStage.EMPTY)):
        raise InvalidRequest(
            f"founder {sender} is at stage {stage.name} without a disk id or an incarnation"
        )
    bounds.check_founding(wire, sender)
    return Founding(
        stage,
        wire.incarnation,
        wire.membership,
        wire.all_stored,
        wire.disk_id,
        wire.founders,
        wire.refusal,
        VersionRange(wire.version_min, wire.version_max),
    )


def fill_install_snapshot(message: InstallSnapshot, wire: peer_pb2.InstallSnapshot) -> None:
    """Write the fields of the announcement, except the term, into `wire`."""
    point = message.snapshot
    wire.last_included_index = point.last_included_index
    wire.last_included_term = point.last_included_term
    fill_membership(point.membership, wire.membership)
    wire.last_included_hash = point.last_included_hash
    wire.incarnation = point.incarnation


def read_install_snapshot(
    wire: peer_pb2.InstallSnapshot, sender: int, recipient: int, term: int
) -> InstallSnapshot:
    """Decode and validate the announcement. Raises `InvalidRequest`."""
    bounds.check_snapshot(wire, sender, term)
    point = SnapshotPoint(
        wire.last_included_index,
        wire.last_included_term,
        read_membership(wire.membership),
        wire.last_included_hash,
        wire.incarnation,
    )
    return InstallSnapshot(sender, recipient, term, point)


def _encode_message(message: Message, wire: peer_pb2.RaftMessage) -> None:
    wire.term = message.term
    _FILL[type(message)](message, wire)


def _decode_message(wire: peer_pb2.RaftMessage, sender: int, recipient: int) -> Message:
    kind = wire.WhichOneof("message")
    if kind is None:
        raise InvalidRequest(f"node {sender} sent a message of an unknown kind")
    return _READ[kind](getattr(wire, kind), sender, recipient, wire.term)


def _fill_request_vote(message: RequestVote, wire: peer_pb2.RaftMessage) -> None:
    body = wire.request_vote
    body.SetInParent()
    body.last_log_index = message.last_log_index
    body.last_log_term = message.last_log_term
    body.pre_vote = message.pre_vote
    body.leadership_transfer = message.leadership_transfer
    body.last_log_hash = message.last_log_hash


def _fill_request_vote_reply(message: RequestVoteReply, wire: peer_pb2.RaftMessage) -> None:
    body = wire.request_vote_reply
    body.SetInParent()
    body.granted = message.granted
    body.pre_vote = message.pre_vote


def _fill_append_entries(message: AppendEntries, wire: peer_pb2.RaftMessage) -> None:
    body = wire.append_entries
    body.SetInParent()
    body.prev_log_index = message.prev_log_index
    body.prev_log_term = message.prev_log_term
    body.leader_commit = message.leader_commit
    body.prev_log_hash = message.prev_log_hash
    add = body.entries.add
    for entry in message.entries:
        add(term=entry.term, index=entry.index, kind=entry.kind, payload=entry.payload)


def _fill_append_entries_reply(message: AppendEntriesReply, wire: peer_pb2.RaftMessage) -> None:
    body = wire.append_entries_reply
    body.SetInParent()
    body.success = message.success
    body.match_index = message.match_index
    body.conflict_index = message.conflict_index
    body.conflict_term = message.conflict_term
    body.match_hash = message.match_hash


def _fill_heartbeat(message: Heartbeat, wire: peer_pb2.RaftMessage) -> None:
    body = wire.heartbeat
    body.SetInParent()
    body.leader_commit = message.leader_commit
    body.read_round = message.read_round


def _fill_heartbeat_reply(message: HeartbeatReply, wire: peer_pb2.RaftMessage) -> None:
    body = wire.heartbeat_reply
    body.SetInParent()
    body.read_round = message.read_round


def _fill_snapshot(message: InstallSnapshot, wire: peer_pb2.RaftMessage) -> None:
    wire.install_snapshot.SetInParent()
    fill_install_snapshot(message, wire.install_snapshot)


def _fill_read_index(message: ReadIndex, wire: peer_pb2.RaftMessage) -> None:
    body = wire.read_index
    body.SetInParent()
    body.context = message.context


def _fill_read_index_reply(message: ReadIndexReply, wire: peer_pb2.RaftMessage) -> None:
    body = wire.read_index_reply
    body.SetInParent()
    body.context = message.context
    body.read_index = message.read_index


def _fill_timeout_now(message: TimeoutNow, wire: peer_pb2.RaftMessage) -> None:
    wire.timeout_now.SetInParent()


_FILL: dict[type[Message], Callable[[Any, peer_pb2.RaftMessage], None]] = {
    RequestVote: _fill_request_vote,
    RequestVoteReply: _fill_request_vote_reply,
    AppendEntries: _fill_append_entries,
    AppendEntriesReply: _fill_append_entries_reply,
    Heartbeat: _fill_heartbeat,
    HeartbeatReply: _fill_heartbeat_reply,
    InstallSnapshot: _fill_snapshot,
    ReadIndex: _fill_read_index,
    ReadIndexReply: _fill_read_index_reply,
    TimeoutNow: _fill_timeout_now,
}


def _read_append_entries(
    body: peer_pb2.AppendEntries, sender: int, recipient: int, term: int
) -> AppendEntries:
    return AppendEntries(
        sender,
        recipient,
        term,
        body.prev_log_index,
        body.prev_log_term,
        body.leader_commit,
        tuple([_read_entry(entry) for entry in body.entries]),
        body.prev_log_hash,
    )


def _read_entry(wire: log_pb2.Entry) -> Entry:
    kind = wire.kind
    if not 0 <= kind < len(_KINDS):
        raise InvalidRequest(f"entry {wire.index} is of the unknown kind {kind}")
    return Entry(wire.term, wire.index, _KINDS[kind], wire.payload)


# In the order of the dataclass's fields after sender, recipient, term.
_READ: dict[str, Callable[[Any, int, int, int], Message]] = {
    "request_vote": lambda body, sender, recipient, term: RequestVote(
        sender,
        recipient,
        term,
        body.last_log_index,
        body.last_log_term,
        body.pre_vote,
        body.leadership_transfer,
        body.last_log_hash,
    ),
    "request_vote_reply": lambda body, sender, recipient, term: RequestVoteReply(
        sender, recipient, term, body.granted, body.pre_vote
    ),
    "append_entries": _read_append_entries,
    "append_entries_reply": lambda body, sender, recipient, term: AppendEntriesReply(
        sender,
        recipient,
        term,
        body.success,
        body.match_index,
        body.conflict_index,
        body.conflict_term,
        body.match_hash,
    ),
    "heartbeat": lambda body, sender, recipient, term: Heartbeat(
        sender, recipient, term, body.leader_commit, body.read_round
    ),
    "heartbeat_reply": lambda body, sender, recipient, term: HeartbeatReply(
        sender, recipient, term, body.read_round
    ),
    "install_snapshot": read_install_snapshot,
    "read_index": lambda body, sender, recipient, term: ReadIndex(
        sender, recipient, term, body.context
    ),
    "read_index_reply": lambda body, sender, recipient, term: ReadIndexReply(
        sender, recipient, term, body.context, body.read_index
    ),
    "timeout_now": lambda body, sender, recipient, term: TimeoutNow(sender, recipient, term),
}


def _encode_forwards(frame: Frame, wire: peer_pb2.Frame) -> None:
    for forward in frame.forwards:
        out = wire.forwards.add(term=forward.term, settled=forward.settled)
        for submission in forward.submissions:
            out.submissions.add(
                origin=submission.origin,
                number=submission.number,
                commands=submission.commands,
                client=submission.client,
                user=submission.author.user,
                auth_revision=submission.author.auth_revision,
            )
    for refused in frame.forwards_refused:
        out_refused = wire.forwards_refused.add(term=refused.term, number=refused.number)
        fill_failure(out_refused.failure, refused.error)
    for node_id, acknowledged in frame.acknowledged.items():
        wire.acknowledged.add(
            node_id=node_id, index=acknowledged.index, start_id=acknowledged.start_id
        )
    for mark in frame.state_marks:
        wire.state_marks.add(index=mark.index, hash=mark.state_hash)


def _decode_forward(wire: peer_pb2.Forward) -> Forward:
    submissions = [
        Submission(
            s.origin,
            s.number,
            s.commands,
            s.client,
            author=Author(s.user, s.auth_revision),
        )
        for s in wire.submissions
    ]
    return Forward(wire.term, wire.settled, tuple(submissions))


def _decode_refused(wire: peer_pb2.ForwardRefused) -> ForwardRefused:
    try:
        error = error_of(wire.failure)
    except (ValueError, TypeError) as wrong:
        raise InvalidRequest(f"a refusal is none that a node sends: {wrong}") from wrong
    return ForwardRefused(wire.term, wire.number, error)

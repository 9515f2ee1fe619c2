"""No frame that passes validation has values that Raft could not have reached."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from raftkv.errors import InvalidRequest
from raftkv.kv.state_hash import MARKS_MAX, StateMark
from raftkv.peer.bounds import (
    DIGEST_BYTES_MAX,
    FORWARDS_MAX,
    MEMBERS_MAX,
    NUMBER_MAX,
    STATE_MARKS_MAX,
    SUBMISSIONS_MAX,
    TIME_MS_MAX,
    check_membership,
)
from raftkv.peer.codec import decode_founding, decode_frame, encode_frame
from raftkv.peer.outbox import BULK_FRAMES_MAX
from raftkv.peer.ports import Frame
from raftkv.raft.messages import AppendEntries, InstallSnapshot, RequestVote
from raftkv.rpc.v1 import kv_pb2, log_pb2, peer_pb2

SENDER, RECIPIENT = 3, 5
RM, AE = peer_pb2.RaftMessage, peer_pb2.AppendEntries

EDGES = [0, 1, 2, NUMBER_MAX, NUMBER_MAX + 1, 2**63, 2**64 - 1]
words = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1)
small = st.integers(0, 4)
numbers = small | words
int64 = st.sampled_from([-1, 0, TIME_MS_MAX, TIME_MS_MAX + 1, 2**63 - 1]) | st.integers(
    -(2**63), 2**63 - 1
)
int32 = st.integers(-(2**31), 2**31 - 1)
id_lists = st.lists(numbers, max_size=3)
addresses = st.builds(
    log_pb2.MemberAddress,
    node_id=numbers,
    peer_address=st.sampled_from(["", "a:1"]),
    client_address=st.sampled_from(["", "a:2"]),
    disk_id=words,
)
memberships = st.builds(
    log_pb2.Membership,
    voters=id_lists,
    voters_outgoing=id_lists,
    learners=id_lists,
    addresses=st.lists(addresses, max_size=4),
    removed=id_lists,
)
payloads = (
    st.binary(max_size=8)
    | memberships.map(lambda wire: wire.SerializeToString())
    | st.builds(log_pb2.StampedBatch, time_ms=int64).map(lambda wire: wire.SerializeToString())
)
entries = st.builds(
    log_pb2.Entry, term=numbers, index=numbers, kind=small | int32, payload=payloads
)
failures = st.builds(
    kv_pb2.Failure,
    reason=st.sampled_from(["", "OVERLOADED", "TOO_LARGE", "NO_SUCH_REASON"]),
    message=st.text(max_size=5),
    outcome=small | int32,
    retry_after_ms=int64,
    facts=st.dictionaries(
        st.sampled_from(["field", "message", "self", "retry_after_s", ""]), st.text(max_size=3)
    ),
)
bodies: dict[str, st.SearchStrategy[object]] = {
    "request_vote": st.builds(
        peer_pb2.RequestVote, last_log_index=numbers, last_log_term=numbers, last_log_hash=words
    ),
    "request_vote_reply": st.builds(peer_pb2.RequestVoteReply, granted=st.booleans()),
    "append_entries": st.builds(
        AE,
        prev_log_index=numbers,
        prev_log_term=numbers,
        leader_commit=numbers,
        entries=st.lists(entries, max_size=3),
        prev_log_hash=words,
    ),
    "append_entries_reply": st.builds(
        peer_pb2.AppendEntriesReply,
        success=st.booleans(),
        match_index=numbers,
        conflict_index=numbers,
        conflict_term=numbers,
        match_hash=words,
    ),
    "heartbeat": st.builds(peer_pb2.Heartbeat, leader_commit=numbers, read_round=numbers),
    "heartbeat_reply": st.builds(peer_pb2.HeartbeatReply, read_round=numbers),
    "install_snapshot": st.builds(
        peer_pb2.InstallSnapshot,
        last_included_index=numbers,
        last_included_term=numbers,
        membership=memberships,
        last_included_hash=words,
    ),
    "read_index": st.builds(peer_pb2.ReadIndex, context=words),
    "read_index_reply": st.builds(peer_pb2.ReadIndexReply, context=words, read_index=numbers),
    "timeout_now": st.builds(peer_pb2.TimeoutNow),
}
messages = st.one_of(
    [
        st.builds(lambda term, body, kind=kind: RM(term=term, **{kind: body}), numbers, body)
        for kind, body in bodies.items()
    ]
)
submissions = st.builds(
    log_pb2.Submission, origin=words, number=numbers, commands=st.binary(max_size=4)
)
wire_frames = st.builds(
    peer_pb2.Frame,
    messages=st.lists(messages, max_size=3),
    forwards=st.lists(
        st.builds(
            peer_pb2.Forward,
            term=numbers,
            settled=numbers,
            submissions=st.lists(submissions, max_size=2),
        ),
        max_size=2,
    ),
    lamport=words,
    forwards_refused=st.lists(
        st.builds(peer_pb2.ForwardRefused, term=numbers, number=numbers, failure=failures),
        max_size=2,
    ),
)


def check_decoded(frame: Frame) -> None:
    """By other means than the checks themselves."""
    for message in frame.messages:
        for name in type(message).__dataclass_fields__:
            value = getattr(message, name)
            if isinstance(value, int) and name.endswith(("term", "index", "round", "commit")):
                assert 0 <= value <= NUMBER_MAX, name
        if isinstance(message, AppendEntries):
            before = message.prev_log_index, message.prev_log_term
            for entry in message.entries:
                assert entry.index == before[0] + 1
                assert max(before[1], 1) <= entry.term <= message.term
                before = entry.index, entry.term
        elif isinstance(message, RequestVote):
            assert message.last_log_term <= message.term
        elif isinstance(message, InstallSnapshot):
            membership = message.snapshot.membership
            assert membership.voters
            assert membership.members <= membership.addresses.keys()
            assert 0 < message.snapshot.last_included_term <= message.term
    for forward in frame.forwards:
        assert max(forward.term, forward.settled) <= NUMBER_MAX
        assert all(each.number <= NUMBER_MAX for each in forward.submissions)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(wire_frames)
@example(peer_pb2.Frame(messages=[RM(term=1, append_entries=AE(entries=[log_pb2.Entry()]))]))
def test_a_frame_is_within_bounds_or_refused(wire: peer_pb2.Frame) -> None:
    try:
        frame = decode_frame(wire.SerializeToString(), SENDER, RECIPIENT)
    except InvalidRequest:
        return
    check_decoded(frame)


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    st.builds(
        peer_pb2.Founding,
        stage=small,
        incarnation=numbers,
        membership=payloads,
        disk_id=numbers,
        founders=st.binary(max_size=3),
        version_min=st.integers(0, 2**32 - 1),
        version_max=st.integers(0, 2**32 - 1),
    )
)
def test_a_founders_report_is_within_bounds_or_refused(wire: peer_pb2.Founding) -> None:
    wire = peer_pb2.Founding.FromString(wire.SerializeToString())
    try:
        said = decode_founding(wire, SENDER)
    except InvalidRequest:
        return
    assert bool(said.incarnation) is (said.stage.name != "EMPTY")


# ---- what is refused, and what is just within -----------------------------------------


def member(node_id: int) -> log_pb2.MemberAddress:
    return log_pb2.MemberAddress(node_id=node_id, peer_address="a:1", client_address="a:2")


def entry(index: int, term: int, **fields: object) -> log_pb2.Entry:
    return log_pb2.Entry(index=index, term=term, **fields)


def append(term: int, prev: tuple[int, int], *entries: log_pb2.Entry, commit: int = 0) -> RM:
    index, last_term = prev
    return RM(
        term=term,
        append_entries=AE(
            prev_log_index=index, prev_log_term=last_term, leader_commit=commit, entries=entries
        ),
    )


def stamped(time_ms: int) -> bytes:
    return log_pb2.StampedBatch(time_ms=time_ms).SerializeToString()


ONE = log_pb2.Membership(voters=[1], addresses=[member(1)])
COMMANDS, MEMBERSHIP, VERSION = 1, 2, 3

REFUSED = {
    "a term": RM(term=NUMBER_MAX + 1, heartbeat=peer_pb2.Heartbeat()),
    "a heartbeat of no term": RM(heartbeat=peer_pb2.Heartbeat()),
    "a vote of no term": RM(request_vote=peer_pb2.RequestVote()),
    "a commit index": RM(term=1, heartbeat=peer_pb2.Heartbeat(leader_commit=NUMBER_MAX + 1)),
    "a round": RM(term=1, heartbeat=peer_pb2.Heartbeat(read_round=2**63)),
    "a round answered": RM(term=1, heartbeat_reply=peer_pb2.HeartbeatReply(read_round=2**63)),
    "a match index": RM(
        term=1, append_entries_reply=peer_pb2.AppendEntriesReply(match_index=2**63)
    ),
    "a conflict index": RM(
        term=1, append_entries_reply=peer_pb2.AppendEntriesReply(conflict_index=2**63)
    ),
    "a conflict term": RM(
        term=1, append_entries_reply=peer_pb2.AppendEntriesReply(conflict_term=2**63)
    ),
    "a read index": RM(term=1, read_index_reply=peer_pb2.ReadIndexReply(read_index=2**63)),
    "a log's end": RM(
        term=5, request_vote=peer_pb2.RequestVote(last_log_index=2**63, last_log_term=1)
    ),
    "a log that ends in a later term": RM(
        term=5, request_vote=peer_pb2.RequestVote(last_log_index=1, last_log_term=6)
    ),
    "an empty log with a term": RM(
        term=5, request_vote=peer_pb2.RequestVote(last_log_index=0, last_log_term=1)
    ),
    "a previous index": append(5, (2**63, 1)),
    "a previous entry of a later term": append(5, (3, 6)),
    "a previous entry of no term": append(5, (3, 0)),
    "a commit index with entries": append(5, (0, 0), commit=2**63),
    "a gap": append(5, (3, 1), entry(5, 1)),
    "an entry again": append(5, (3, 1), entry(3, 1)),
    "terms that fall": append(5, (3, 2), entry(4, 1)),
    "an entry of a later term": append(5, (3, 2), entry(4, 6)),
    "an entry of no term": append(5, (0, 0), entry(1, 0)),
    "a batch that is none": append(5, (3, 1), entry(4, 1, kind=COMMANDS, payload=b"\xff")),
    "a time": append(5, (3, 1), entry(4, 1, kind=COMMANDS, payload=stamped(TIME_MS_MAX + 1))),
    "a time before all": append(5, (3, 1), entry(4, 1, kind=COMMANDS, payload=stamped(-1))),
    "a membership that is none": append(5, (3, 1), entry(4, 1, kind=MEMBERSHIP, payload=b"\xff")),
    "a membership of nobody": append(5, (3, 1), entry(4, 1, kind=MEMBERSHIP)),
    "a version of no length": append(5, (3, 1), entry(4, 1, kind=VERSION)),
    "a version that is longer": append(5, (3, 1), entry(4, 1, kind=VERSION, payload=bytes(5))),
    "a kind": append(5, (3, 1), entry(4, 1, kind=4)),
    "a kind below all": append(5, (3, 1), entry(4, 1, kind=-1)),
    "a snapshot of nothing": RM(term=5, install_snapshot=peer_pb2.InstallSnapshot(membership=ONE)),
    "a snapshot of nobody": RM(
        term=5,
        install_snapshot=peer_pb2.InstallSnapshot(last_included_index=4, last_included_term=2),
    ),
    "a snapshot of a later term": RM(
        term=5,
        install_snapshot=peer_pb2.InstallSnapshot(
            last_included_index=4, last_included_term=6, membership=ONE
        ),
    ),
    "a snapshot's index": RM(
        term=5,
        install_snapshot=peer_pb2.InstallSnapshot(
            last_included_index=2**63, last_included_term=1, membership=ONE
        ),
    ),
}

TAKEN = {
    "the last term": RM(term=NUMBER_MAX, heartbeat=peer_pb2.Heartbeat(leader_commit=NUMBER_MAX)),
    "a vote that a new node refuses": RM(request_vote_reply=peer_pb2.RequestVoteReply()),
    "entries from the first on": append(5, (0, 0), entry(1, 1), entry(2, 5)),
    "the last time": append(5, (3, 1), entry(4, 1, kind=COMMANDS, payload=stamped(TIME_MS_MAX))),
    "a membership": append(
        5, (3, 1), entry(4, 1, kind=MEMBERSHIP, payload=ONE.SerializeToString())
    ),
    "a version": append(5, (3, 1), entry(4, 1, kind=VERSION, payload=bytes(4))),
    "a snapshot": RM(
        term=5,
        install_snapshot=peer_pb2.InstallSnapshot(
            last_included_index=4, last_included_term=5, membership=ONE
        ),
    ),
}


def frame_of(message: RM) -> bytes:
    return peer_pb2.Frame(messages=[message]).SerializeToString()


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED.keys())
def test_a_message_that_no_correct_node_sends_is_refused(message: RM) -> None:
    with pytest.raises(InvalidRequest):
        decode_frame(frame_of(message), SENDER, RECIPIENT)


@pytest.mark.parametrize("message", TAKEN.values(), ids=TAKEN.keys())
def test_a_message_just_within_bounds_is_accepted(message: RM) -> None:
    assert len(decode_frame(frame_of(message), SENDER, RECIPIENT).messages) == 1


FORWARD, REFUSAL = peer_pb2.Forward(term=1), peer_pb2.ForwardRefused(term=1)


@pytest.mark.parametrize(
    "wire",
    [
        peer_pb2.Frame(forwards=[peer_pb2.Forward(term=2**63)]),
        peer_pb2.Frame(forwards=[peer_pb2.Forward(settled=2**63)]),
        peer_pb2.Frame(forwards=[peer_pb2.Forward(submissions=[log_pb2.Submission(number=2**63)])]),
        peer_pb2.Frame(forwards_refused=[peer_pb2.ForwardRefused(term=2**63)]),
        peer_pb2.Frame(forwards_refused=[peer_pb2.ForwardRefused(number=2**63)]),
        peer_pb2.Frame(
            forwards_refused=[peer_pb2.ForwardRefused(failure=kv_pb2.Failure(outcome=9))]
        ),
        peer_pb2.Frame(
            forwards_refused=[
                peer_pb2.ForwardRefused(failure=kv_pb2.Failure(facts={"message": "again"}))
            ]
        ),
        peer_pb2.Frame(forwards=[FORWARD] * (FORWARDS_MAX + 1)),
        peer_pb2.Frame(forwards_refused=[REFUSAL] * (SUBMISSIONS_MAX + 1)),
    ],
)
def test_forwards_that_no_correct_node_sends_are_refused(wire: peer_pb2.Frame) -> None:
    with pytest.raises(InvalidRequest):
        decode_frame(wire.SerializeToString(), SENDER, RECIPIENT)


def test_as_many_forwards_as_a_link_merges_into_one_frame_are_accepted() -> None:
    merged = peer_pb2.Frame(forwards=[FORWARD]).SerializeToString() * BULK_FRAMES_MAX
    assert len(decode_frame(merged, SENDER, RECIPIENT).forwards) == BULK_FRAMES_MAX


MARK = peer_pb2.StateMark(index=1_024, hash=1)


@pytest.mark.parametrize(
    "marks",
    [[MARK] * (STATE_MARKS_MAX + 1), [peer_pb2.StateMark(index=2**63)]],
    ids=["too many", "an index that no log reaches"],
)
def test_state_marks_that_no_correct_node_sends_are_refused(
    marks: list[peer_pb2.StateMark],
) -> None:
    with pytest.raises(InvalidRequest, match="state mark"):
        decode_frame(peer_pb2.Frame(state_marks=marks).SerializeToString(), SENDER, RECIPIENT)


def test_of_merged_frames_the_last_state_marks_count() -> None:
    marks = [StateMark(1_024 * number, number) for number in range(1, MARKS_MAX + 2)]
    merged = encode_frame(Frame(state_marks=marks[:-1])) + encode_frame(
        Frame(state_marks=marks[1:])
    )
    assert list(decode_frame(merged, SENDER, RECIPIENT).state_marks) == marks[1:]
    most = encode_frame(Frame(state_marks=marks[1:])) * BULK_FRAMES_MAX
    assert list(decode_frame(most, SENDER, RECIPIENT).state_marks) == marks[1:]


Change = Callable[[log_pb2.Membership], object]

NO_MEMBERSHIP: dict[str, Change] = {
    "nobody": lambda wire: wire.ClearField("voters"),
    "a voter without an address": lambda wire: wire.voters.append(4),
    "a leaving voter without an address": lambda wire: wire.voters_outgoing.append(4),
    "a learner without an address": lambda wire: wire.learners.append(4),
    "an empty address": lambda wire: setattr(wire.addresses[0], "peer_address", ""),
    "an empty client address": lambda wire: setattr(wire.addresses[0], "client_address", ""),
    "node 0": lambda wire: (wire.voters.append(0), wire.addresses.append(member(0))),
    "an id over all": lambda wire: (
        wire.voters.append(2**63),
        wire.addresses.append(member(2**63)),
    ),
    "a removed voter": lambda wire: wire.removed.append(2),
    "an id of nobody that was removed": lambda wire: wire.removed.append(0),
    "more than there can be": lambda wire: (
        wire.learners.extend(range(9, 9 + MEMBERS_MAX)),
        wire.addresses.extend(map(member, range(9, 9 + MEMBERS_MAX))),
    ),
}


def three() -> log_pb2.Membership:
    return log_pb2.Membership(voters=[1, 2, 3], addresses=[member(id) for id in (1, 2, 3)])


@pytest.mark.parametrize("change", NO_MEMBERSHIP.values(), ids=NO_MEMBERSHIP.keys())
def test_a_membership_that_no_cluster_can_have_is_refused(change: Change) -> None:
    wire = three()
    check_membership(wire, SENDER)
    change(wire)
    with pytest.raises(InvalidRequest, match=f"node {SENDER} sends a"):
        check_membership(wire, SENDER)


@pytest.mark.parametrize(
    "changed",
    [
        {"stage": 3},
        {"disk_id": 0},
        {"stage": 0},
        {"incarnation": 0},
        {"membership": b""},
        {"membership": b"\xff"},
        {"founders": bytes(DIGEST_BYTES_MAX + 1)},
    ],
)
def test_a_report_that_no_correct_founder_sends_is_refused(changed: dict[str, object]) -> None:
    stored = {"stage": 1, "incarnation": 5, "membership": ONE.SerializeToString(), "disk_id": 6}
    decode_founding(peer_pb2.Founding(**stored), SENDER)
    with pytest.raises(InvalidRequest):
        decode_founding(peer_pb2.Founding(**(stored | changed)), SENDER)

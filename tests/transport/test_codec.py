"""What is decoded is what was encoded, for every message; damaged bytes are a typed error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftkv.clocks import LamportTime
from raftkv.errors import InvalidRequest
from raftkv.kv.membership import decode_membership, encode_membership
from raftkv.raft.entry import Address, Entry, EntryKind, Membership, SnapshotPoint
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
from raftkv.rpc import peer_pb2
from raftkv.transport.codec import (
    decode_frame,
    encode_frame,
    encode_lanes,
    encode_stamp,
)
from raftkv.transport.ports import Forward, Frame, Submission

SENDER, RECIPIENT = 3, 5

# How long an example takes says nothing here, only how busy the machine is.
any_speed = settings(suppress_health_check=[HealthCheck.too_slow])

numbers = st.integers(0, 2**64 - 1)
ends = {"sender": st.just(SENDER), "recipient": st.just(RECIPIENT)}
entries = st.builds(Entry, numbers, numbers, st.sampled_from(EntryKind), st.binary(max_size=50))
node_sets = st.frozensets(numbers, max_size=4)
memberships = st.builds(
    Membership,
    node_sets,
    node_sets,
    node_sets,
    st.dictionaries(numbers, st.builds(Address, st.text(), st.text()), max_size=4),
    node_sets,
)


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    fields: dict[str, st.SearchStrategy[object]] = {
        name: st.booleans() if kind.__annotations__[name] == "bool" else numbers
        for name in kind.__dataclass_fields__
        if name not in ends
    }
    if kind is AppendEntries:
        fields["entries"] = st.lists(entries, max_size=4).map(tuple)
    if kind is InstallSnapshot:
        fields["snapshot"] = st.builds(SnapshotPoint, numbers, numbers, memberships)
    return st.builds(kind, **ends, **fields)


KINDS: tuple[type[Message], ...] = (
    RequestVote,
    RequestVoteReply,
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    ReadIndex,
    ReadIndexReply,
    TimeoutNow,
)
messages = st.one_of([messages_of(kind) for kind in KINDS])
submissions = st.builds(Submission, numbers, numbers, st.binary(max_size=50))
forwards = st.builds(Forward, numbers, numbers, st.lists(submissions, max_size=3).map(tuple))
frames = st.builds(
    Frame,
    st.lists(messages, max_size=4).map(tuple),
    st.lists(forwards, max_size=2).map(tuple),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_survives_the_wire_with_default_fields(kind: type[Message]) -> None:
    empty = {name: 0 for name in kind.__dataclass_fields__ if name not in ends}
    if kind is InstallSnapshot:
        empty["snapshot"] = SnapshotPoint()
    if kind is AppendEntries:
        empty["entries"] = ()
    message = kind(SENDER, RECIPIENT, **empty)
    assert decode_frame(encode_frame(Frame((message,))), SENDER, RECIPIENT) == Frame((message,))


@any_speed
@given(frames)
def test_a_decoded_frame_is_the_frame_that_was_encoded(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame), SENDER, RECIPIENT) == frame


@any_speed
@given(st.lists(frames, max_size=4))
def test_the_bytes_of_frames_joined_are_one_frame_with_all_of_them(many: list[Frame]) -> None:
    merged = decode_frame(b"".join(map(encode_frame, many)), SENDER, RECIPIENT)
    assert merged == Frame(
        tuple(message for frame in many for message in frame.messages),
        tuple(forward for frame in many for forward in frame.forwards),
    )


@any_speed
@given(frames, st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=3))
def test_the_stamp_joined_last_counts_and_changes_nothing_else(
    frame: Frame, times: list[int]
) -> None:
    stamps = b"".join(encode_stamp(LamportTime(time)) for time in times)
    stamped = decode_frame(encode_frame(frame) + stamps, SENDER, RECIPIENT)
    assert stamped == frame
    assert stamped.lamport == times[-1]


@any_speed
@given(frames)
def test_the_two_lanes_together_hold_the_frame_each_in_its_order(frame: Frame) -> None:
    control, bulk = (decode_frame(lane, SENDER, RECIPIENT) for lane in encode_lanes(frame))
    appends = [message for message in frame.messages if isinstance(message, AppendEntries)]
    others = [message for message in frame.messages if not isinstance(message, AppendEntries)]
    assert list(bulk.messages) == appends
    assert bulk.forwards == frame.forwards
    assert control == Frame(tuple(others))


@any_speed
@given(memberships)
def test_a_membership_survives_its_payload(membership: Membership) -> None:
    assert decode_membership(encode_membership(membership)) == membership


def test_equal_memberships_have_equal_payloads() -> None:
    addresses = {node: Address(f"h:{node}", f"c:{node}") for node in (1, 2, 9)}
    backwards = dict(reversed(addresses.items()))
    one = Membership(frozenset((1, 2, 9)), addresses=addresses)
    other = Membership(frozenset((9, 2, 1)), addresses=backwards)
    assert encode_membership(one) == encode_membership(other)


@any_speed
@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(decode_frame(data, SENDER, RECIPIENT), Frame)


def test_a_message_of_an_unknown_kind_is_refused() -> None:
    wire = peer_pb2.Frame()
    wire.messages.add(term=3)
    with pytest.raises(InvalidRequest, match="unknown kind"):
        decode_frame(wire.SerializeToString(), SENDER, RECIPIENT)


def test_an_entry_of_an_unknown_kind_is_refused() -> None:
    wire = peer_pb2.Frame()
    wire.messages.add().append_entries.entries.add(index=4, kind=77)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="entry 4 is of the unknown kind 77"):
        decode_frame(wire.SerializeToString(), SENDER, RECIPIENT)


def test_a_damaged_membership_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not a Membership"):
        decode_membership(b"\xff\xff\xff")

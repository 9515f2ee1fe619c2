"""What is decoded is what was encoded, for every message; damaged bytes are a typed error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftkv.clocks import LamportTime
from raftkv.errors import InvalidRequest, Overloaded, RaftkvError
from raftkv.peer.bounds import NUMBER_MAX, TIME_MS_MAX
from raftkv.peer.codec import (
    decode_founding,
    decode_frame,
    encode_founding,
    encode_frame,
    encode_lanes,
    encode_stamp,
)
from raftkv.peer.ports import Forward, ForwardRefused, FounderStage, Founding, Frame, Submission
from raftkv.raft.entry import (
    Address,
    Entry,
    EntryKind,
    Membership,
    SnapshotPoint,
    encode_version,
)
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
from raftkv.wire.membership import encode_membership
from tests.wire.strategies import memberships

SENDER, RECIPIENT = 3, 5

# How long an example takes says nothing here, only how busy the machine is.
any_speed = settings(suppress_health_check=[HealthCheck.too_slow])

# What is out of bounds is refused: see test_bounds.py.
words = st.integers(0, 2**64 - 1)
numbers = st.integers(0, NUMBER_MAX)
terms = st.integers(1, NUMBER_MAX)
ends = {"sender": st.just(SENDER), "recipient": st.just(RECIPIENT)}


@st.composite
def log_ends(draw: st.DrawFn, term: int) -> tuple[int, int]:
    """Index and term of a log's last entry, as a node in `term` may have it."""
    index = draw(numbers)
    return (index, draw(st.integers(1, term))) if index else (0, 0)


@st.composite
def runs(draw: st.DrawFn, after: tuple[int, int], term: int) -> tuple[Entry, ...]:
    """Entries that follow (index, term), in `term`."""
    index, last_term = after
    entries = []
    for offset in range(draw(st.integers(0, 4))):
        last_term = draw(st.integers(max(last_term, 1), term))
        kind = draw(st.sampled_from(EntryKind))
        payload = draw(PAYLOADS[kind])
        entries.append(Entry(last_term, index + 1 + offset, kind, payload))
    return tuple(entries)


def stamped(time_ms: int) -> bytes:
    return log_pb2.StampedBatch(time_ms=time_ms).SerializeToString()


PAYLOADS = {
    EntryKind.NOOP: st.just(b""),
    EntryKind.COMMANDS: st.builds(stamped, st.integers(0, TIME_MS_MAX)),
    EntryKind.MEMBERSHIP: st.builds(encode_membership, memberships()),
    EntryKind.VERSION: st.builds(encode_version, st.integers(0, 2**32 - 1)),
}


@st.composite
def messages_of(draw: st.DrawFn, kind: type[Message]) -> Message:
    """One that a peer may send."""
    term = draw(terms)
    index, last_term = draw(log_ends(term))
    fields: dict[str, object] = {
        name: draw(_values(name, kind.__annotations__[name]))
        for name in kind.__dataclass_fields__
        if name not in ends and name not in ("term", "entries", "snapshot")
    }
    fields |= {"term": term}
    if kind is AppendEntries:
        fields |= {"prev_log_index": index, "prev_log_term": last_term}
        fields |= {"entries": draw(runs((index, last_term), term))}
    if kind is RequestVote:
        fields |= {"last_log_index": index, "last_log_term": last_term}
    if kind is InstallSnapshot:
        at = max(index, 1), max(last_term, 1)
        fields |= {"snapshot": SnapshotPoint(*at, draw(memberships()), draw(words))}
    return kind(SENDER, RECIPIENT, **fields)


def _values(name: str, annotation: str) -> st.SearchStrategy[object]:
    if annotation == "bool":
        return st.booleans()
    return words if name.endswith(("_hash", "context")) else numbers


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
submissions = st.builds(Submission, words, numbers, st.binary(max_size=50))
forwards = st.builds(Forward, numbers, numbers, st.lists(submissions, max_size=3).map(tuple))
errors = st.builds(Overloaded, st.text(), retry_after_s=st.integers(0, 1000).map(float))
refusals = st.builds(ForwardRefused, numbers, numbers, errors)
frames = st.builds(
    Frame,
    st.lists(messages, max_size=4).map(tuple),
    st.lists(forwards, max_size=2).map(tuple),
    st.lists(refusals, max_size=2).map(tuple),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_survives_the_wire_with_default_fields(kind: type[Message]) -> None:
    empty = {name: 0 for name in kind.__dataclass_fields__ if name not in ends} | {"term": 1}
    if kind is InstallSnapshot:
        one = Membership(frozenset({1}), addresses={1: Address("a:1", "a:2")})
        empty["snapshot"] = SnapshotPoint(1, 1, one)
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
        tuple(refused for frame in many for refused in frame.forwards_refused),
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
    assert bulk.forwards_refused == frame.forwards_refused
    assert control == Frame(tuple(others))


@any_speed
@given(errors)
def test_the_error_of_a_refused_forward_comes_back_as_it_was(error: RaftkvError) -> None:
    frame = Frame(forwards_refused=(ForwardRefused(3, 9, error),))
    (refused,) = decode_frame(encode_frame(frame), SENDER, RECIPIENT).forwards_refused
    assert (refused.term, refused.number) == (3, 9)
    assert type(refused.error) is Overloaded
    assert (refused.error.message, refused.error.retry_after_s) == (
        error.message,
        error.retry_after_s,
    )


@any_speed
@given(
    st.builds(
        Founding,
        stage=st.just(FounderStage.STORED),
        incarnation=st.integers(1, 2**64 - 1),
        membership=PAYLOADS[EntryKind.MEMBERSHIP],
        all_stored=st.booleans(),
        disk_id=st.integers(1, 2**64 - 1),
        founders=st.binary(max_size=32),
        refusal=st.text(),
        versions=st.builds(VersionRange, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    )
    | st.builds(Founding, st.just(FounderStage.EMPTY), disk_id=st.integers(1, 2**64 - 1))
)
def test_what_a_founder_says_survives_the_wire(said: Founding) -> None:
    wire = peer_pb2.Founding.FromString(encode_founding(said).SerializeToString())
    assert decode_founding(wire, SENDER) == said


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
    append = wire.messages.add(term=3).append_entries
    append.prev_log_index, append.prev_log_term = 3, 1
    append.entries.add(term=2, index=4, kind=77)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="entry 4 is of the unknown kind 77"):
        decode_frame(wire.SerializeToString(), SENDER, RECIPIENT)

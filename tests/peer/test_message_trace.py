"""Messages with vector clocks: the traces of two nodes have one causal order."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback

from raftkv.clocks import VectorTime
from raftkv.errors import ConfigurationError, InvalidRequest
from raftkv.peer.codec import decode_frame, encode_by_queue, encode_frame
from raftkv.peer.message_trace import MessageTrace
from raftkv.peer.ports import Forward, Frame, Submission
from raftkv.raft.entry import Entry, EntryKind
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, RequestVote
from raftkv.rpc.v1 import peer_pb2

LARGE = 1 << 30
ENTRY = Entry(3, 18, EntryKind.NOOP)
APPEND = AppendEntries(1, 2, 3, 17, 3, 16, (ENTRY,))
FRAME = Frame((Heartbeat(1, 2, 3, 17, 1), APPEND), (Forward(3, 0, (Submission(1, 1, b"put"),)),))
REPLY = Frame((AppendEntriesReply(2, 1, 3, True, 18, 0, 0),))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def time(line: dict[str, Any]) -> VectorTime:
    return VectorTime(line["clock"])


async def test_a_received_message_is_later_than_its_sending_and_all_before_it(
    loopback: Loopback, tmp_path: Path
) -> None:
    traces = {each: MessageTrace(each, tmp_path / f"{each}.jsonl", LARGE) for each in (1, 2)}
    one, two = [await loopback.open(each, trace=trace) for each, trace in traces.items()]
    one.connect(two)
    two.connect(one)
    await one.until_connected(2)
    await two.until_connected(1)

    for number in range(1, 4):
        one.links.send(2, FRAME)
        await two.handler.until(lambda n=number: len(two.handler.messages) == 2 * n)
        two.links.send(1, REPLY)
        await one.handler.until(lambda n=number: len(one.handler.messages) == n)

    at = {each: lines(tmp_path / f"{each}.jsonl") for each in (1, 2)}
    sent = {
        (line["node"], line["clock"][line["node"]]): line
        for each in at.values()
        for line in each
        if line["what"] == "sent"
    }
    received = [line for each in at.values() for line in each if line["what"] == "received"]
    assert len(sent) == len(received) == 3 * 4
    for line in received:
        sending = sent[line["peer"], line["stamp"]]
        assert (sending["kind"], sending["peer"]) == (line["kind"], line["node"])
        assert time(sending).happened_before(time(line))
    for each in at.values():  # what happens at one place happens in order
        for before, after in pairwise(each):
            assert time(before).happened_before(time(after))
    kinds = [line["kind"] for line in at[1] if line["what"] == "sent"][:3]
    assert kinds == ["Heartbeat", "AppendEntries +1", "Forward +1"]


async def test_nodes_with_and_without_a_trace_interoperate(
    loopback: Loopback, tmp_path: Path
) -> None:
    path = tmp_path / "1.jsonl"
    one = await loopback.open(1, trace=MessageTrace(1, path, LARGE))
    two = await loopback.open(2)
    one.connect(two)
    two.connect(one)
    await one.until_connected(2)
    await two.until_connected(1)

    one.links.send(2, FRAME)
    two.links.send(1, REPLY)
    await two.handler.until(lambda: len(two.handler.messages) == 2)
    await one.handler.until(lambda: bool(one.handler.messages))

    assert two.handler.messages == list(FRAME.messages)
    assert one.handler.messages == list(REPLY.messages)
    arrived = next(line for line in lines(path) if line["what"] == "received")
    assert arrived["stamp"] is None
    assert set(arrived["clock"]) == {"node-1"}


async def test_a_message_without_a_link_is_in_the_trace_as_dropped(
    loopback: Loopback, tmp_path: Path
) -> None:
    path = tmp_path / "1.jsonl"
    one = await loopback.open(1, trace=MessageTrace(1, path, LARGE))

    one.links.send(2, Frame((RequestVote(1, 2, 4, 17, 3, True, False),)))

    [line] = lines(path)
    assert (line["what"], line["kind"], line["term"]) == ("dropped", "PreVote (log of t3)", 4)


def test_merged_frames_keep_the_vector_time_of_each_message(tmp_path: Path) -> None:
    sender = MessageTrace(1, tmp_path / "1.jsonl", LARGE)
    recipient = MessageTrace(2, tmp_path / "2.jsonl", LARGE)

    merged = b"".join(part for _ in range(2) for part in sender.encode(2, FRAME))
    frame = recipient.decode(merged, 1, 2)

    assert frame == decode_frame(encode_frame(FRAME) * 2, 1, 2)
    stamps = [line["stamp"] for line in lines(tmp_path / "2.jsonl")]
    assert stamps == [1, 2, 4, 5, 3, 6]  # forwards come after all messages


def test_without_a_trace_frames_carry_no_vector_time() -> None:
    for part in encode_by_queue(FRAME):
        wire = peer_pb2.Frame.FromString(part)
        assert not any(message.vector_clock for message in wire.messages)
        assert not any(forward.vector_clock for forward in wire.forwards)


def test_a_restarted_node_repeats_no_time(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    MessageTrace(1, path, LARGE).encode(2, FRAME)
    with path.open("a") as file:
        file.write('{"what":"sent","clock":{"no')  # what a kill tore

    MessageTrace(1, path, LARGE).encode(2, FRAME)

    whole = [line for line in path.read_text().splitlines() if line.endswith("}}")]
    assert [json.loads(line)["clock"]["node-1"] for line in whole] == [1, 2, 3, 4, 5, 6]


def test_a_trace_keeps_the_last_messages_within_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    trace = MessageTrace(1, path, 1 << 16)

    for _ in range(500):
        trace.encode(2, FRAME)

    older = path.with_name("1.jsonl.1")
    assert path.stat().st_size + older.stat().st_size <= (1 << 16) + 4096
    kept = [line["clock"]["node-1"] for line in lines(older) + lines(path)]
    assert kept == list(range(1501 - len(kept), 1501))


def test_an_invalid_vector_time_is_refused_as_any_bad_frame(tmp_path: Path) -> None:
    wire = peer_pb2.Frame.FromString(encode_frame(FRAME))
    wire.messages[0].vector_clock = b"\x00"

    with pytest.raises(InvalidRequest, match="vector time"):
        MessageTrace(2, tmp_path / "2.jsonl", LARGE).decode(wire.SerializeToString(), 1, 2)


def test_the_error_of_an_unwritable_file_has_a_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"trace_messages is .*Fix: "):
        MessageTrace(1, tmp_path / "nowhere" / "1.jsonl", LARGE)

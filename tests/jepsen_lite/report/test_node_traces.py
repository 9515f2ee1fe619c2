"""From the traces of nodes to the diagram: with the production codec, without a network."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from jepsen_lite.node_traces import collect, trace_of
from jepsen_lite.report.files import write
from raftkv.clocks import VectorTime
from raftkv.peer.codec import encode_frame
from raftkv.peer.message_trace import MessageTrace
from raftkv.peer.ports import Frame
from raftkv.raft.entry import Entry, EntryKind
from raftkv.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from tests.jepsen_lite.report import runs

MS = 1_000_000
BEGAN_NS = 5_000 * MS  # of the run, on the machine's clock
FIRST_NS = 36 * runs.S - 10 * MS  # shortly before the last fault
LARGE = 1 << 30


class Traced:
    """Nodes 1 to 3, whose every event takes a millisecond."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        directory.mkdir()
        self.directory = directory
        moments = itertools.count(BEGAN_NS + FIRST_NS, MS)
        monkeypatch.setattr("raftkv.peer.message_trace.time.monotonic_ns", lambda: next(moments))
        self.nodes = {number: self._start(number) for number in (1, 2, 3)}

    def send(self, sender: int, recipient: int, frame: Frame, *, arrives: bool = True) -> None:
        data = b"".join(self.nodes[sender].encode(recipient, frame))
        if arrives:
            self.nodes[recipient].decode(data, sender, recipient)

    def restart(self, number: int) -> None:
        self.nodes[number] = self._start(number)

    def messages(self) -> list[dict[str, Any]]:
        target = self.directory.parent / "messages.jsonl"
        collect(self.directory, BEGAN_NS, target)
        return [json.loads(line) for line in target.read_text().splitlines()]

    def _start(self, number: int) -> MessageTrace:
        return MessageTrace(number, trace_of(self.directory, f"node-{number}"), LARGE)


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traced:
    return Traced(tmp_path / "data", monkeypatch)


def append(sender: int, recipient: int, index: int) -> Frame:
    entry = Entry(3, index, EntryKind.COMMANDS, b"")
    return Frame((AppendEntries(sender, recipient, 3, index - 1, 3, index - 1, (entry,)),))


def reply(sender: int, recipient: int, index: int) -> Frame:
    return Frame((AppendEntriesReply(sender, recipient, 3, True, index, 0, 0),))


def test_a_sent_message_is_matched_with_its_arrival_on_the_clock_of_the_run(traced: Traced) -> None:
    traced.send(1, 2, append(1, 2, 7))
    traced.send(2, 1, reply(2, 1, 7))

    first, second = traced.messages()

    assert (first["from"], first["to"], first["kind"]) == ("node-1", "node-2", "AppendEntries +1")
    assert (first["time_ns"], first["received_ns"]) == (FIRST_NS, FIRST_NS + MS)
    assert (second["index"], second["lost"]) == (7, False)
    assert VectorTime(first["clock"]).happened_before(VectorTime(second["clock"]))


def test_a_message_that_never_arrived_is_lost_and_concurrent_with_others(traced: Traced) -> None:
    traced.send(1, 3, append(1, 3, 6))
    traced.send(1, 3, append(1, 3, 7), arrives=False)
    traced.send(3, 2, Frame((Heartbeat(3, 2, 2, 1, 0),)))

    _, lost, other = traced.messages()

    assert (lost["lost"], lost["received_ns"]) == (True, None)
    assert VectorTime(lost["clock"]).concurrent(VectorTime(other["clock"]))


def test_messages_after_a_crash_are_not_taken_for_those_before(traced: Traced) -> None:
    traced.send(1, 2, append(1, 2, 7))
    traced.restart(1)
    traced.send(1, 2, append(1, 2, 8), arrives=False)

    before, after = traced.messages()

    assert (before["lost"], after["lost"]) == (False, True)


def test_a_message_of_a_node_without_traces_has_no_clock(traced: Traced) -> None:
    trace_of(traced.directory, "node-1").unlink()
    traced.nodes[2].decode(encode_frame(append(1, 2, 7)), 1, 2)

    [message] = traced.messages()

    assert (message["from"], message["to"], message["clock"]) == ("node-1", "node-2", {})


def test_without_traces_nothing_is_written(tmp_path: Path) -> None:
    assert collect(tmp_path, 0, tmp_path / "messages.jsonl") == 0
    assert not (tmp_path / "messages.jsonl").exists()


def test_the_diagram_of_a_real_run_shows_its_messages_under_their_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = runs.write_run(tmp_path / "run", runs.load(60, 40))
    traced = Traced(directory / "data", monkeypatch)
    for index in range(7, 27):
        traced.send(1, 2, append(1, 2, index))
        traced.send(2, 1, reply(2, 1, index))
        traced.send(1, 3, append(1, 3, index), arrives=index < 10)
    traced.messages()

    page = write(directory).read_text()

    picture = re.search(r'<svg class="space-time".*?</svg>', page, re.DOTALL)
    assert picture is not None
    clocks = re.findall(r'data-clock="([^"]*)"', picture[0])
    assert len(clocks) == 60
    assert {"node-1", "node-2", "node-3"} >= set(json.loads(clocks[-1].replace("&#34;", '"')))
    assert picture[0].count('class="message lost"') == 17
    assert "AppendEntries +1 t3 i26" in picture[0]
    assert "partition node-3 | node-1, node-2 begins" in picture[0]
    [band] = re.findall(r'<rect [^>]*y="([0-9.]+)"[^>]*class="band">', picture[0])
    assert float(band) > 100  # not from the top: ten events came before


def test_a_message_that_arrives_below_the_picture_is_not_drawn_as_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = runs.write_run(tmp_path / "run", runs.load(60, 40))
    traced = Traced(directory / "data", monkeypatch)
    held = b"".join(traced.nodes[1].encode(3, append(1, 3, 7)))
    for index in range(7, 57):
        traced.send(1, 2, append(1, 2, index))
        traced.send(2, 1, reply(2, 1, index))
    traced.nodes[3].decode(held, 1, 3)
    traced.messages()

    page = write(directory).read_text()

    assert page.count('class="message late"') == 1
    assert "AppendEntries +1 t3 i7 (arrives at 36.191 s)" in page

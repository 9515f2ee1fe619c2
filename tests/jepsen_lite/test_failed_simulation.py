"""The record of a failed simulation: Raft messages with vector clocks that order cause before
effect, and a directory with everything that a reader of the report needs.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.faults.kinds import Isolate
from jepsen_lite.history import Event, History, Kind
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.report.files import write
from jepsen_lite.report.record import read
from jepsen_lite.sim.artifacts import keep
from jepsen_lite.sim.net.causality import TracedMessage, trace
from jepsen_lite.sim.net.traffic import SentFrame, Traffic, TrafficEvent, TrafficEventKind
from jepsen_lite.sim.run import Outcome, run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.world import World
from raftkv.clocks import VectorTime
from raftkv.peer.codec import encode_frame
from raftkv.peer.ports import Frame
from raftkv.raft.messages import Heartbeat, RequestVote, TimeoutNow

pytestmark = pytest.mark.usefixtures("quiet_nodes")


@pytest.fixture(scope="module")
def failed() -> Outcome:
    """A candidate with a longer log of an older term is elected, behind cut links."""
    with MUTANTS["longer-is-newer"].planted():
        outcome = run(SCENARIOS["relays"](1))
    assert outcome.problems
    return outcome


TURN_S = 0.005
"""What has reached a machine still waits for its process to turn."""
HEARTBEAT = encode_frame(Frame(messages=(Heartbeat(1, 2, 7, 40, 3),)))


class Wire:
    """Two hosts and more, and what passes between them."""

    def __init__(self, events_max: int = 100) -> None:
        self.world = World(1)
        self.traffic = Traffic(self.world, events_max)

    def send(self, sender: str, recipient: str, data: bytes = HEARTBEAT) -> SentFrame:
        self.world.now_s += 1.0
        return self.traffic.send(sender, recipient, data)

    def receive(self, sending: SentFrame) -> None:
        self.world.now_s += 1.0
        self.traffic.receive(sending)

    def messages(self) -> list[TracedMessage]:
        return trace(self.traffic.happenings)


def test_a_message_has_its_kind_term_index_and_both_times() -> None:
    wire = Wire()
    vote = RequestVote(1, 2, term=5, last_log_index=12, last_log_term=4)
    wire.receive(wire.send("a", "b", encode_frame(Frame(messages=(vote,)))))
    (message,) = wire.messages()
    assert message.to_json() == {
        "time_ns": 1_000_000_000,
        "from": "a",
        "to": "b",
        "kind": "RequestVote (log of t4)",
        "term": 5,
        "index": 12,
        "lost": False,
        "received_ns": 2_000_000_000,
        "clock": {"a": 1},
    }


def test_a_clock_names_its_members_in_one_order_whatever_a_set_is_sorted_by() -> None:
    clock = VectorTime({"c": 1, "a": 2, "b": 3})
    clock_json = TracedMessage(0, "a", "b", "Heartbeat", 1, None, clock).to_json()["clock"]
    assert list(clock_json) == ["a", "b", "c"]


def test_the_messages_of_one_frame_precede_each_other_and_the_answer() -> None:
    wire = Wire()
    both = Frame(messages=(Heartbeat(1, 2, 7, 1, 0), TimeoutNow(1, 2, 7)))
    wire.receive(wire.send("a", "b", encode_frame(both)))
    wire.send("b", "a")
    first, second, answer = wire.messages()
    assert first.clock.happened_before(second.clock)
    assert second.clock.happened_before(answer.clock)


def test_a_lost_message_is_marked_and_advances_no_clock() -> None:
    wire = Wire()
    wire.traffic.lose(wire.send("a", "b"))
    wire.send("b", "a")
    lost, answer = wire.messages()
    assert lost.lost
    assert lost.received_ns is None
    assert lost.clock.concurrent(answer.clock)


def test_the_first_arrival_of_a_duplicated_message_counts() -> None:
    wire = Wire()
    sending = wire.send("a", "b")
    wire.receive(sending)
    wire.traffic.lose(sending)
    wire.receive(sending)
    (message,) = wire.messages()
    assert (message.received_ns, message.lost) == (2_000_000_000, False)


def test_a_message_under_way_at_the_end_is_neither_received_nor_lost() -> None:
    wire = Wire()
    wire.send("a", "b")
    (message,) = wire.messages()
    assert (message.received_ns, message.lost) == (None, False)


def test_a_record_without_its_beginning_orders_the_rest() -> None:
    wire = Wire(events_max=3)
    forgotten = wire.send("a", "b")
    wire.receive(forgotten)
    request = wire.send("b", "c")
    wire.receive(request)
    wire.send("c", "a")
    first, second = wire.messages()
    assert (first.sender, second.sender) == ("b", "c")
    assert first.clock.happened_before(second.clock)


def reachable(happenings: list[TrafficEvent]) -> dict[int, set[int]]:
    """From a sending to those that it may have caused, found by following every path."""
    local: dict[str, list[TrafficEvent]] = {}
    for each in happenings:
        if each.what is not TrafficEventKind.LOST:
            sending = each.sending
            host = sending.sender if each.what is TrafficEventKind.SENT else sending.recipient
            local.setdefault(host, []).append(each)
    after: dict[int, set[int]] = {}
    for each in reversed(happenings):
        if each.what is not TrafficEventKind.SENT:
            continue
        found: set[int] = set()
        places = [
            (host, position)
            for host, events in local.items()
            for position, event in enumerate(events)
            if event.sending.number == each.sending.number
        ]
        for host, position in places:
            for event in local[host][position + 1 :]:
                if event.what is TrafficEventKind.SENT:
                    found |= {event.sending.number} | after[event.sending.number]
        after[each.sending.number] = found
    return after


def test_one_sending_precedes_another_exactly_if_its_clock_is_less(failed: Outcome) -> None:
    def alone(sending: SentFrame) -> list[TracedMessage]:
        return list(trace([TrafficEvent(0.0, TrafficEventKind.SENT, sending)]))

    # A frame may hold nothing that is traced.
    happenings = [each for each in list(failed.happenings)[-400:] if alone(each.sending)]
    messages = iter(trace(happenings))
    last: dict[int, TracedMessage] = {}
    for each in happenings:
        if each.what is TrafficEventKind.SENT:
            last[each.sending.number] = [next(messages) for _ in alone(each.sending)][-1]
    after = reachable(happenings)
    for (one, first), (other, second) in itertools.permutations(last.items(), 2):
        assert first.clock.happened_before(second.clock) == (other in after[one])
    assert len(last) > 100


def test_a_failed_run_leaves_a_directory_with_all_its_parts(
    failed: Outcome, tmp_path: Path
) -> None:
    with MUTANTS["longer-is-newer"].planted():
        directory = keep(failed, tmp_path)
    record = read(directory.path)
    assert record.gaps == ()
    assert record.history.to_lines() == failed.history.to_lines()
    assert "leader completeness" in record.findings[0].problems[0].text
    assert [each.checker for each in record.findings] == ["invariants", "statistics"]
    assert record.failed_ns == max(each.received_ns or 0 for each in record.messages)
    assert {each.name for each in record.faults} == {"RollingFault", "RollingIsolation"}
    assert {each.node for each in record.log} == {"node-1", "node-2", "node-3"}
    assert all(each.time_ns is not None for each in record.log)
    assert record.test["seed"] == 1
    assert (tmp_path / "latest").resolve() == directory.path.resolve()


def test_the_diagram_ends_with_the_failure_and_draws_repetitions_once(
    failed: Outcome, tmp_path: Path
) -> None:
    with MUTANTS["longer-is-newer"].planted():
        page = write(keep(failed, tmp_path).path).read_text()
    _, _, diagram = page.partition('id="messages"')
    diagram, _, _ = diagram.partition("</figure>")
    broke, vote = (
        float(re.findall(rf'y="([0-9.]+)"[^>]*>{text}', diagram)[-1])
        for text in ("leader completeness: node", "RequestVoteReply yes t4")
    )
    assert broke > vote
    assert "RollingIsolation node-2 begins" in diagram
    assert re.search("Heartbeat t[0-9]+ i[0-9]+ \N{MULTIPLICATION SIGN}[0-9]+<", diagram)


def test_a_cut_loses_what_crosses_it_and_nothing_else(failed: Outcome) -> None:
    cuts = [each for each in failed.fault_records if each.name == "RollingIsolation"]
    lost = 0
    for message in trace(failed.happenings):
        crossed = [
            (
                cut.began_ns / 1e9 + TURN_S,
                cut.ended_ns / 1e9 if cut.ended_ns else failed.simulated_s - TURN_S,
            )
            for cut in cuts
            if cut.target in (message.sender, message.recipient)
        ]
        sent_s, arrived_s = message.time_ns / 1e9, (message.received_ns or 0) / 1e9
        assert not any(began_s < arrived_s < ended_s for began_s, ended_s in crossed)
        if any(began_s < sent_s < ended_s - TURN_S for began_s, ended_s in crossed):
            assert message.lost
            lost += 1
        elif message.lost:
            assert crossed
    assert lost > 10


def test_a_run_that_holds_keeps_no_messages() -> None:
    outcome = run(SCENARIOS["relays"](1))
    assert not outcome.problems
    assert outcome.happenings == ()
    assert all(each.ended_ns is not None for each in outcome.fault_records)


def test_a_fault_record_names_the_leader_that_was_the_target() -> None:
    plan = SCENARIOS["relays"](1)
    isolate = Isolate(2.0, 1.0, "leader", deaf=True, mute=True, clients_too=False)
    outcome = run(replace(plan, schedule=(isolate,), seconds=4.0, workloads=("register",)))
    (record,) = outcome.fault_records
    assert record.target.startswith("node-")
    assert record.ended_ns == pytest.approx(record.began_ns + 1_000_000_000)
    assert record.to_json()["took_effect"] is True


def test_the_command_prints_where_the_report_of_a_failure_is(tmp_path: Path) -> None:
    asked = ["sim", "--seeds", "12", "--seconds", "10", "--no-reduce", "--store", str(tmp_path)]
    with MUTANTS["acknowledged-before-fsync"].planted():
        result = CliRunner().invoke(app, asked)
    assert result.exit_code == 1
    path = Path(result.output.rpartition("report: ")[2].strip())
    assert path.is_relative_to(tmp_path)
    assert "Raft messages" in path.read_text()
    test = json.loads((path.parent / "test.json").read_text())
    assert " ".join(test["command"]) == (
        "jepsen-lite sim --seeds 12 --seconds 10 --no-reduce --log"
    )


def test_a_completion_without_its_invocation_is_no_operation() -> None:
    history = History()
    history.append(Event(1, 0, Kind.OK, "set", "add", "", 1))
    history.append(Event(2, 0, Kind.INVOKE, "set", "add", "", 2))
    history.append(Event(3, 0, Kind.OK, "set", "add", "", 2))
    history.append(Event(4, 0, Kind.OK, "set", "add", "", 2))
    (operation,) = history.operations("set")
    assert (operation.invoked_at, operation.completed_at) == (1, 2)

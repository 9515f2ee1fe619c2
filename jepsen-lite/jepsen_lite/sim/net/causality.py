"""Derives Raft messages with vector clocks from recorded sends and arrivals, for the report.

Each node has a clock that ticks for each message that it sends and each frame that it receives.
Where the record begins late, so do the clocks: they order what is in it as if it were whole, for
whatever lies between two of its events is in it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jepsen_lite.sim.net.traffic import SentFrame, TrafficEvent, TrafficEventKind
from raftkv.clocks import VectorClock, VectorTime
from raftkv.peer.codec import decode_frame
from raftkv.peer.message_trace import summaries

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TracedMessage:
    """One message. `clock` is its sender's when it left; `received_ns` None: it never arrived."""

    time_ns: int
    sender: str
    recipient: str
    kind: str
    term: int
    index: int | None
    clock: VectorTime
    received_ns: int | None = None
    lost: bool = False

    def to_json(self) -> Mapping[str, Any]:
        """A line of messages.jsonl."""
        return {
            "time_ns": self.time_ns,
            "from": self.sender,
            "to": self.recipient,
            "kind": self.kind,
            "term": self.term,
            "index": self.index,
            "lost": self.lost,
            "received_ns": self.received_ns,
            "clock": dict(sorted(self.clock.counts.items())),
        }


def trace(happenings: Iterable[TrafficEvent]) -> list[TracedMessage]:
    """All messages whose sending is in the record, in the order of their sending."""
    clocks: dict[str, VectorClock] = {}
    sent: dict[int, list[TracedMessage]] = {}
    for time_s, what, sending in happenings:
        time_ns = round(time_s * NS_PER_S)
        if what is TrafficEventKind.SENT:
            clock = clocks.setdefault(sending.sender, VectorClock(sending.sender))
            sent[sending.number] = list(_sent(time_ns, sending, clock))
            continue
        messages = sent.get(sending.number)
        if not messages:
            continue
        if what is TrafficEventKind.LOST:
            sent[sending.number] = [_lost(each) for each in messages]
            continue
        clock = clocks.setdefault(sending.recipient, VectorClock(sending.recipient))
        clock.receive(messages[-1].clock)
        sent[sending.number] = [_received(each, time_ns) for each in messages]
    return [message for messages in sent.values() for message in messages]


def _sent(time_ns: int, sending: SentFrame, clock: VectorClock) -> Iterator[TracedMessage]:
    frame = decode_frame(sending.data, 0, 0)  # the hosts' names identify them
    for summary in summaries(frame):
        yield TracedMessage(
            time_ns,
            sending.sender,
            sending.recipient,
            summary.kind,
            summary.term,
            summary.index,
            clock.tick(),
        )


def _lost(message: TracedMessage) -> TracedMessage:
    """Unless its twin has arrived."""
    return replace(message, lost=message.received_ns is None)


def _received(message: TracedMessage, time_ns: int) -> TracedMessage:
    """The first of twins counts."""
    first_ns = message.received_ns if message.received_ns is not None else time_ns
    return replace(message, received_ns=first_ns, lost=False)

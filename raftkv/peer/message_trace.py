"""A trace of every Raft message with a vector clock, as JSON lines, for causality across nodes.

With the setting `trace_messages` the trace wraps the codec of the links and of the peer port;
without it no code here runs. Nodes with and without a trace interoperate: a message without a
vector time advances only the receiver's own count. Snapshots have a stream of their own and are not
traced.

A line has: `what` (sent, received, or dropped because the link was down), `node`, `peer`, the
message's `kind`, `term` and `index`, this node's `clock`, for a received message `stamp` (the
sender's own count when it sent the message; null if the sender has no trace), and the time on this
machine's monotonic clock and on its wall clock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import structlog

from raftkv.clocks import LamportClock, VectorClock, VectorTime, wall_clock_ms
from raftkv.errors import ConfigurationError, RaftkvError
from raftkv.peer.codec import decode_frame, encode_by_queue
from raftkv.peer.handshake import Credentials
from raftkv.peer.link import Encode
from raftkv.peer.links import GrpcPeerLinks
from raftkv.peer.ports import Frame
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    InstallSnapshot,
    Message,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)
from raftkv.rpc.v1 import peer_pb2

TAIL_BYTES = 64 << 10

_log = structlog.get_logger()


def name_of(node_id: int) -> str:
    """The node's name in vector times."""
    return f"node-{node_id}"


class TraceFile:
    """The newest lines, in `path` and `path.1`. `write` returns after the write system call."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        """Raises `ConfigurationError` if it can't be written."""
        self._path = path
        self._older = path.with_name(f"{path.name}.1")
        self._half_bytes_max = bytes_max // 2
        self._file: int | None
        try:
            self._file = self._open()
        except OSError as error:
            raise ConfigurationError(
                f"trace_messages is {path}, which can't be written: {error.strerror}. Fix: name a"
                " file in a directory that is there, or leave it out.",
                key="trace_messages",
            ) from error

    def last(self, field: str) -> object:
        """The field of the last complete line; None without one."""
        for path in (self._path, self._older):
            for line in reversed(_tail(path)):
                try:
                    return json.loads(line)[field]
                except (ValueError, KeyError, TypeError):
                    continue
        return None

    def write(self, lines: Iterable[str]) -> None:
        """Append the lines. A failing disk ends the trace, not the node."""
        if self._file is None:
            return
        data = "".join(lines).encode()
        try:
            self._bytes += os.write(self._file, data)
            if self._bytes > self._half_bytes_max:
                os.close(self._file)
                os.replace(self._path, self._older)
                self._file = self._open()
        except OSError as error:
            self._file = None
            _log.warning("message_trace_ended", path=str(self._path), error=error.strerror)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._bytes = os.fstat(file).st_size
        if self._bytes and not _tail(self._path)[-1].endswith(b"\n"):
            self._bytes += os.write(file, b"\n")  # a killed process may leave a partial line
        return file


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return []


class MessageTrace:
    """The codec of one node, with a vector time on each message sent and a line for each message.

    The clock continues from the last line of the file, so a restart after a kill repeats no time.
    If a power failure loses the end of the file, messages from peers advance the clock again.
    """

    def __init__(self, node_id: int, path: Path, bytes_max: int) -> None:
        """Raises `ConfigurationError` if the file can't be written."""
        self._node_id = node_id
        self._file = TraceFile(path, bytes_max)
        self._clock = VectorClock(name_of(node_id), _vector_time(self._file.last("clock")))

    def encode(self, to: int, frame: Frame) -> tuple[bytes, bytes]:
        """As `encode_by_queue`, for a frame to node `to`."""
        control, bulk = encode_by_queue(frame)
        return self._stamped(to, control), self._stamped(to, bulk)

    def dropped(self, to: int, frame: Frame) -> None:
        """Record that the frame was not sent because the link is down."""
        self._file.write(
            [self._line("dropped", to, summary, self._clock.tick()) for summary in summaries(frame)]
        )

    def decode(self, data: bytes, sender: int, recipient: int) -> Frame:
        """As `decode_frame`."""
        frame = decode_frame(data, sender, recipient)
        wire = peer_pb2.Frame.FromString(data)
        lines = []
        for carrier, summary in zip(_carriers(wire), summaries(frame), strict=True):
            stamp = VectorTime.decode(carrier.vector_clock) if carrier.vector_clock else None
            now = self._clock.tick() if stamp is None else self._clock.receive(stamp)
            number = None if stamp is None else stamp.count(name_of(sender))
            lines.append(self._line("received", sender, summary, now, number))
        self._file.write(lines)
        return frame

    def close(self) -> None:
        self._file.close()

    def _stamped(self, to: int, data: bytes) -> bytes:
        if not data:
            return data
        wire = peer_pb2.Frame.FromString(data)
        frame = decode_frame(data, self._node_id, to)
        lines = []
        for carrier, summary in zip(_carriers(wire), summaries(frame), strict=True):
            now = self._clock.tick()
            carrier.vector_clock = now.encode()
            lines.append(self._line("sent", to, summary, now))
        # Written before the frame is sent: a peer must not learn a time that a restart could
        # repeat.
        self._file.write(lines)
        return wire.SerializeToString()

    def _line(
        self,
        what: str,
        peer: int,
        summary: MessageSummary,
        now: VectorTime,
        stamp: int | None = None,
    ) -> str:
        facts = {
            "what": what,
            "node": self._clock.member,
            "peer": name_of(peer),
            "kind": summary.kind,
            "term": summary.term,
            "index": summary.index,
            "monotonic_ns": time.monotonic_ns(),
            "wall_ms": wall_clock_ms(),
            "clock": dict(now.counts),
        }
        if what == "received":
            facts["stamp"] = stamp
        return json.dumps(facts, separators=(",", ":")) + "\n"


class TracedPeerLinks(GrpcPeerLinks):
    """`GrpcPeerLinks` that record their messages in a trace."""

    def __init__(
        self,
        credentials: Credentials,
        random: Random,
        disk: Executor,
        clock: LamportClock,
        hints: Mapping[int, str] | None = None,
        *,
        trace: MessageTrace,
    ) -> None:
        super().__init__(credentials, random, disk, clock, hints)
        self._trace = trace

    def send(self, to: int, frame: Frame) -> None:
        """See `PeerLinks.send`."""
        if to in self.connected:
            super().send(to, frame)
        else:
            self._trace.dropped(to, frame)

    def _encoder(self, peer: int) -> Encode:
        return partial(self._trace.encode, peer)


def _vector_time(counts: object) -> VectorTime | None:
    if not isinstance(counts, dict):
        return None
    try:
        return VectorTime(counts)
    except (RaftkvError, TypeError, AttributeError):
        return None


def _carriers(wire: peer_pb2.Frame) -> Iterator[peer_pb2.RaftMessage | peer_pb2.Forward]:
    """The parts of a frame that have a vector time."""
    yield from wire.messages
    yield from wire.forwards


@dataclass(frozen=True, slots=True)
class MessageSummary:
    """One message of a frame; `index` is None if the message concerns no index."""

    kind: str
    term: int
    index: int | None


def summaries(frame: Frame) -> Iterator[MessageSummary]:
    """Summaries of the frame's messages, then of its forwards."""
    for message in frame.messages:
        yield MessageSummary(_kind(message), message.term, _index(message))
    for forward in frame.forwards:
        yield MessageSummary(f"Forward +{len(forward.submissions)}", forward.term, None)


def _kind(message: Message) -> str:
    """The message's name and its most important field."""
    match message:
        case RequestVote():
            name = "PreVote" if message.pre_vote else "RequestVote"
            return f"{name} (log of t{message.last_log_term})"
        case RequestVoteReply():
            name = "PreVoteReply" if message.pre_vote else "RequestVoteReply"
            return f"{name} {'yes' if message.granted else 'no'}"
        case AppendEntries() if message.entries:
            return f"AppendEntries +{len(message.entries)}"
        case AppendEntriesReply() if not message.success:
            return "AppendEntriesReply no"
    return type(message).__name__


def _index(message: Message) -> int | None:
    """The last log index that the message concerns, if any."""
    match message:
        case RequestVote():
            return message.last_log_index
        case AppendEntries():
            return message.prev_log_index + len(message.entries)
        case AppendEntriesReply():
            return message.match_index
        case Heartbeat():
            return message.leader_commit
        case InstallSnapshot():
            return message.snapshot.last_included_index
        case ReadIndexReply():
            return message.read_index
    return None

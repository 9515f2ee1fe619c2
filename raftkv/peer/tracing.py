"""Every Raft message with a vector clock, as JSON lines: what led to what, on real nodes.

In place of the codec of links and peer port where the setting `trace_messages` is on, and absent
from them where it is off. Nodes that trace and nodes that don't understand each other: a message
without a stamp is an arrival that teaches the clock nothing. Snapshots travel on a stream of their
own and are not traced; what is sent after one is.

A line: `what` (sent, received, or dropped: the link was down), `node`, `peer`, the message's
`kind`, `term` and `index`, this node's `clock` then, of an arrival also `stamp`, the number that
the sender's clock gave the sending (null: it does not trace), and the moment on this machine's
monotonic clock and on its wall clock.
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
from raftkv.peer.codec import decode_frame, encode_lanes
from raftkv.peer.handshake import PeerIdentity
from raftkv.peer.link import Encode
from raftkv.peer.links import GrpcPeerLinks
from raftkv.peer.ports import Frame
from raftkv.peer.secret import ClusterSecret
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
    """The node as a member of vector times."""
    return f"node-{node_id}"


class TraceFile:
    """The last lines, in `path` and `path.1`. Each is with the kernel before `write` returns."""

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
        """The field of the last whole line; None without one."""
        for path in (self._path, self._older):
            for line in reversed(_tail(path)):
                try:
                    return json.loads(line)[field]
                except (ValueError, KeyError, TypeError):
                    continue
        return None

    def write(self, lines: Iterable[str]) -> None:
        """A disk that takes no more ends the trace, not the node."""
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
            self._bytes += os.write(file, b"\n")  # a kill tore the last line
        return file


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return []


class MessageTrace:
    """The codec of one node, with a stamp on what leaves and a line for what leaves and arrives.

    Its clock goes on where the file ends, so a killed process repeats no time. What a power cut
    takes from the file's end the clock learns again from what others have heard of it.
    """

    def __init__(self, node_id: int, path: Path, bytes_max: int) -> None:
        """Raises `ConfigurationError` if the file can't be written."""
        self._node_id = node_id
        self._file = TraceFile(path, bytes_max)
        self._clock = VectorClock(name_of(node_id), _vector_time(self._file.last("clock")))

    def encode(self, to: int, frame: Frame) -> tuple[bytes, bytes]:
        """As `encode_lanes`, of a frame for node `to`."""
        control, bulk = encode_lanes(frame)
        return self._stamped(to, control), self._stamped(to, bulk)

    def dropped(self, to: int, frame: Frame) -> None:
        """The frame was not sent, for want of a link."""
        self._file.write(
            [self._line("dropped", to, told, self._clock.tick()) for told in headlines(frame)]
        )

    def decode(self, data: bytes, sender: int, recipient: int) -> Frame:
        """As `decode_frame`."""
        frame = decode_frame(data, sender, recipient)
        wire = peer_pb2.Frame.FromString(data)
        lines = []
        for carrier, told in zip(_carriers(wire), headlines(frame), strict=True):
            stamp = VectorTime.decode(carrier.vector_clock) if carrier.vector_clock else None
            now = self._clock.tick() if stamp is None else self._clock.receive(stamp)
            number = None if stamp is None else stamp.count(name_of(sender))
            lines.append(self._line("received", sender, told, now, number))
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
        for carrier, told in zip(_carriers(wire), headlines(frame), strict=True):
            now = self._clock.tick()
            carrier.vector_clock = now.encode()
            lines.append(self._line("sent", to, told, now))
        # Before it leaves: nobody may know of a time that a restart could give out again.
        self._file.write(lines)
        return wire.SerializeToString()

    def _line(
        self,
        what: str,
        peer: int,
        told: Headline,
        now: VectorTime,
        stamp: int | None = None,
    ) -> str:
        facts = {
            "what": what,
            "node": self._clock.member,
            "peer": name_of(peer),
            "kind": told.kind,
            "term": told.term,
            "index": told.index,
            "monotonic_ns": time.monotonic_ns(),
            "wall_ms": wall_clock_ms(),
            "clock": dict(now.counts),
        }
        if what == "received":
            facts["stamp"] = stamp
        return json.dumps(facts, separators=(",", ":")) + "\n"


class TracedPeerLinks(GrpcPeerLinks):
    """`GrpcPeerLinks` whose messages are in the trace."""

    def __init__(
        self,
        identity: PeerIdentity,
        secret: ClusterSecret,
        random: Random,
        disk: Executor,
        clock: LamportClock,
        hints: Mapping[int, str] | None = None,
        *,
        trace: MessageTrace,
    ) -> None:
        super().__init__(identity, secret, random, disk, clock, hints)
        self._trace = trace

    def send(self, to: int, frame: Frame) -> None:
        """As of any links."""
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
    """All that has a stamp."""
    yield from wire.messages
    yield from wire.forwards


@dataclass(frozen=True, slots=True)
class Headline:
    """Of one message; `index` is None if it is about none."""

    kind: str
    term: int
    index: int | None


def headlines(frame: Frame) -> Iterator[Headline]:
    """Of all that the frame holds: the messages, then the forwards."""
    for message in frame.messages:
        yield Headline(_kind(message), message.term, _index(message))
    for forward in frame.forwards:
        yield Headline(f"Forward +{len(forward.submissions)}", forward.term, None)


def _kind(message: Message) -> str:
    """The message's name, and what matters most of the rest."""
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
    """The last index that it is about, if it is about one."""
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

"""Bytes in gRPC's memory: replies that clients have not read, and partially received requests.

Unread replies are counted here. gRPC does not report partial requests, so they are estimated: the
bytes that the kernel has received on a connection, minus the messages that arrived completely.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import grpc

UNFETCHED_BYTES_MAX = 64 << 20
"""Unread replies of all calls and streams; above it, requests with further replies are refused."""

STALL_S_MAX = 10.0
"""A client that reads nothing of a reply for so long loses its connection."""

STALL_UNDER_PRESSURE_S_MAX = 1.0
"""The same, while the total of unread replies exceeds its bound."""

HALF_SENT_BYTES_MAX = 64 << 20
"""Partial requests of all connections; above it, the largest connections are closed."""

IN_FLIGHT_BYTES_MAX = 6 << 20
"""What a connection in use may have in transit: a message, and what gRPC reads ahead."""

IN_USE_SAMPLES_MAX = 10
"""A connection is in use if a message arrived on it within so many samples."""

SAMPLE_INTERVAL_S = 0.5

# What a connection receives besides messages: frames' and calls' headers, pings, window updates.
FRAMING_SHARE_MAX = 0.01

FRAMING_BYTES_PER_SAMPLE = 4 << 10

OWN_DESCRIPTORS = Path("/proc/self/fd")

MAPPED_IPV4 = "::ffff:"

# In `struct tcp_info` of linux/tcp.h; kernels before 4.1 have a shorter one.
_BYTES_RECEIVED = struct.Struct("=128xQ")


def cut(peers: Collection[str]) -> None:
    """Shut down the TCP connections with these peers, named as in gRPC (`ipv4:host:port`).

    gRPC then ends all their calls. gRPC itself ends a call only between two writes: a call whose
    reply waits for a client that reads nothing can't be ended, and its reply stays in memory.
    Without /proc this finds no connection.
    """
    for peer, connection in _connections():
        if peer in peers:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def received_bytes() -> dict[str, int]:
    """The bytes that each connection has received since it was opened, by peer."""
    received: dict[str, int] = {}
    for peer, connection in _connections():
        with suppress(OSError, struct.error):
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
            (received[peer],) = _BYTES_RECEIVED.unpack(info)
    return received


def _connections() -> Iterator[tuple[str, socket.socket]]:
    try:
        names = os.listdir(OWN_DESCRIPTORS)
    except OSError:
        return
    for name in names:
        connection = _socket_of(int(name))
        if connection is not None:
            with connection:
                peer = _peer_of(connection)
                if peer:
                    yield peer, connection


def _socket_of(descriptor: int) -> socket.socket | None:
    """A duplicate of the socket open as `descriptor`; None if that is no socket."""
    try:
        copy = os.dup(descriptor)
    except OSError:  # closed by now
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None


def _peer_of(connection: socket.socket) -> str:
    """The peer's name as in gRPC; empty if there is none."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # a listening socket
        return ""
    if ":" not in host or host.startswith(MAPPED_IPV4):
        return f"ipv4:{host.removeprefix(MAPPED_IPV4)}:{port}"
    return f"ipv6:%5B{host}%5D:{port}"


class CallTraffic:
    """The unread bytes of one call, as reported by the code that writes its messages."""

    __slots__ = ("_all", "bytes", "connection", "writing_since")

    def __init__(self, all_of_them: ClientTraffic, connection: ClientConnection) -> None:
        self._all = all_of_them
        self.connection = connection
        self.bytes = 0  # of replies that the client has not read
        self.writing_since: float | None = None

    @property
    def peer(self) -> str:
        """The client's address, as gRPC names it."""
        return self.connection.peer

    @property
    def room_in_all(self) -> bool:
        """Whether the unread replies of all calls are within their bound."""
        return self._all.has_room

    def add(self, size_bytes: int) -> None:
        """A reply of this size is queued."""
        self.bytes += size_bytes
        self._all.bytes += size_bytes

    def written(self, size_bytes: int) -> None:
        """The client has read a reply of this size."""
        self.writing_since = None
        self.bytes -= size_bytes
        self._all.bytes -= size_bytes

    async def write(self, context: grpc.aio.ServicerContext[bytes, bytes], message: bytes) -> None:
        """Send one message and wait until the client has read it."""
        self.add(len(message))
        self.writing_since = self._all.now()
        await context.write(message)
        self.written(len(message))

    def cut(self) -> None:
        """Close the client's connection."""
        self._all.cut((self.peer,))

    def close(self) -> None:
        """The call is over, and its queued replies are dropped."""
        self._all.close(self)


class ClientConnection:
    """One client's connection: its open calls, and the bytes of its messages."""

    __slots__ = ("accounted", "calls", "half_sent", "idle_samples", "peer", "received", "sampled")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.calls = 0
        self.received = 0  # in complete messages
        self.accounted = 0  # `received` at the last sample
        self.sampled = 0  # received according to the kernel, at the last sample
        self.half_sent = 0.0
        self.idle_samples = 0

    @property
    def in_use(self) -> bool:
        """Whether the partial bytes may be a message that is just arriving."""
        return self.half_sent <= IN_FLIGHT_BYTES_MAX and self.idle_samples < IN_USE_SAMPLES_MAX

    def sample(self, received_bytes: int) -> None:
        """The kernel has received `received_bytes` on this connection so far."""
        messages, self.accounted = self.received - self.accounted, self.received
        beyond = received_bytes - self.sampled - messages * (1 + FRAMING_SHARE_MAX)
        if beyond > 0:  # else partial messages have become complete ones
            beyond = max(0.0, beyond - FRAMING_BYTES_PER_SAMPLE)
        self.sampled = received_bytes
        self.idle_samples = 0 if messages else self.idle_samples + 1
        self.half_sent = max(0.0, self.half_sent + beyond) if self.calls else 0.0


class ClientTraffic:
    """The traffic of all calls on one port. `cut` closes the connections of peers; `received`
    returns the bytes that each connection of the process has received.
    """

    def __init__(
        self,
        cut: Callable[[Collection[str]], None] = cut,
        received: Callable[[], Mapping[str, int]] = received_bytes,
    ) -> None:
        self.cut = cut
        self._received = received
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._calls: dict[CallTraffic, None] = {}
        self._connections: dict[str, ClientConnection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        return self.bytes <= UNFETCHED_BYTES_MAX

    def open(self, peer: str) -> CallTraffic:
        """The traffic of a new call with `peer`, until its `close`."""
        connection = self._connections.get(peer)
        if connection is None:
            connection = self._connections[peer] = ClientConnection(peer)
        connection.calls += 1
        call = CallTraffic(self, connection)
        self._calls[call] = None
        if self._timer is None:
            self._timer = self._loop.call_later(SAMPLE_INTERVAL_S, self._sample)
        return call

    def close(self, call: CallTraffic) -> None:
        """See `CallTraffic.close`."""
        if self._calls.pop(call, True) is None:
            call.connection.calls -= 1
            self.bytes -= call.bytes
            call.bytes = 0

    def _sample(self) -> None:
        self._timer = None
        excessive = self._stalled() | self._half_senders()
        if excessive:
            self.cut(excessive)
        if self._connections:
            self._timer = self._loop.call_later(SAMPLE_INTERVAL_S, self._sample)

    def _stalled(self) -> dict[str, None]:
        """The peers that read nothing of their replies."""
        stall_s_max = STALL_S_MAX if self.has_room else STALL_UNDER_PRESSURE_S_MAX
        before = self._loop.time() - stall_s_max
        return {
            each.peer: None
            for each in self._calls
            if each.writing_since is not None and each.writing_since < before
        }

    def _half_senders(self) -> dict[str, None]:
        """The peers with the most partial requests, while the total exceeds its bound."""
        received = self._received()
        for peer, connection in list(self._connections.items()):
            if peer in received:
                connection.sample(received[peer])
            elif not connection.calls:
                del self._connections[peer]
        half_sent = sum(each.half_sent for each in self._connections.values())
        found: dict[str, None] = {}
        for each in sorted(self._connections.values(), key=lambda each: -each.half_sent):
            if half_sent <= HALF_SENT_BYTES_MAX:
                break
            if not each.in_use:
                half_sent -= each.half_sent
                found[each.peer] = None
        return found


def untracked() -> CallTraffic:
    """The traffic of a call without a connection: unread replies have no consequence."""
    return CallTraffic(ClientTraffic(lambda _: None, dict), ClientConnection(""))

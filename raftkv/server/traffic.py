"""Bytes between this node and its clients: replies not fetched yet, and requests sent by half.

Both are in gRPC's memory. What is not fetched we count ourselves. Of a request that has not arrived
whole gRPC says nothing, so it is what the connection has received beyond the messages that we got.
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

UNFETCHED_BYTES_MAX = 96 << 20
"""Of all calls and streams; above it no new work is begun whose replies would come on top."""


STALL_S_MAX = 10.0
"""A client that takes nothing of a reply for so long loses its connection."""


STALL_UNDER_PRESSURE_S_MAX = 1.0
"""The same, while the bytes in all are over their bound."""


HALF_SENT_BYTES_MAX = 64 << 20
"""Of all connections. Above it those that have sent the most of it are cut."""


IN_FLIGHT_BYTES_MAX = 6 << 20
"""What a connection in use may be sending at any moment: a message, and what is read ahead."""


IN_USE_LOOKS_MAX = 10
"""A connection is in use if a message of it came within so many looks."""


LOOK_INTERVAL_S = 0.5


# What a connection receives besides messages: frames' and calls' headers, pings, window updates.
FRAMING_SHARE_MAX = 0.01


FRAMING_BYTES_PER_LOOK = 4 << 10


def untracked() -> CallTraffic:
    """For a call without a connection: nothing is done about what its client does not fetch."""
    return CallTraffic(ClientTraffic(lambda _: None, dict), ClientConnection(""))


OWN_DESCRIPTORS = Path("/proc/self/fd")


MAPPED_IPV4 = "::ffff:"


# In `struct tcp_info` of linux/tcp.h; kernels before 4.1 have a shorter one.
_BYTES_RECEIVED = struct.Struct("=128xQ")


def cut(peers: Collection[str]) -> None:
    """Shut the connections with these peers down, named as gRPC names them (`ipv4:host:port`).

    gRPC then ends all their calls.
    """
    for peer, connection in _connections():
        if peer in peers:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def received_bytes() -> dict[str, int]:
    """What each connection has received since it was made, by its peer."""
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
    """A second handle of what is open as `descriptor`; None if that is no socket."""
    try:
        copy = os.dup(descriptor)
    except OSError:  # closed meanwhile
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None


def _peer_of(connection: socket.socket) -> str:
    """The other end, in gRPC's words; empty if there is none."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # it listens
        return ""
    if ":" not in host or host.startswith(MAPPED_IPV4):
        return f"ipv4:{host.removeprefix(MAPPED_IPV4)}:{port}"
    return f"ipv6:%5B{host}%5D:{port}"


class CallTraffic:
    """The bytes of one call. Who reads and writes its messages says so."""

    __slots__ = ("_all", "bytes", "connection", "writing_since")

    def __init__(self, all_of_them: ClientTraffic, connection: ClientConnection) -> None:
        self._all = all_of_them
        self.connection = connection
        self.bytes = 0  # of replies that the client has not fetched
        self.writing_since: float | None = None

    @property
    def peer(self) -> str:
        """The client's end of the connection."""
        return self.connection.peer

    @property
    def room_in_all(self) -> bool:
        """Whether the replies of all calls together leave room for more."""
        return self._all.has_room

    def add(self, size_bytes: int) -> None:
        """A reply waits from now on."""
        self.bytes += size_bytes
        self._all.bytes += size_bytes

    def written(self, size_bytes: int) -> None:
        """The client has fetched so much."""
        self.writing_since = None
        self.bytes -= size_bytes
        self._all.bytes -= size_bytes

    async def write(self, context: grpc.aio.ServicerContext[bytes, bytes], message: bytes) -> None:
        """Send one message and wait until the client takes it."""
        self.add(len(message))
        self.writing_since = self._all.now()
        await context.write(message)
        self.written(len(message))

    def cut(self) -> None:
        """End the client's connection."""
        self._all.cut((self.peer,))

    def close(self) -> None:
        """The call is over, and what waited for it is gone."""
        self._all.close(self)


class ClientConnection:
    """One client's connection: its open calls, and what its messages had in bytes."""

    __slots__ = ("accounted", "calls", "half_sent", "idle_looks", "peer", "received", "seen")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.calls = 0
        self.received = 0  # in messages that we got whole
        self.accounted = 0  # of `received`, at the last look
        self.seen = 0  # by the operating system, at the last look
        self.half_sent = 0.0
        self.idle_looks = 0

    @property
    def at_work(self) -> bool:
        """Whether what is half-sent may be a message of a moment ago."""
        return self.half_sent <= IN_FLIGHT_BYTES_MAX and self.idle_looks < IN_USE_LOOKS_MAX

    def look(self, seen: int) -> None:
        """The operating system has received `seen` bytes so far."""
        messages, self.accounted = self.received - self.accounted, self.received
        beyond = seen - self.seen - messages * (1 + FRAMING_SHARE_MAX)
        if beyond > 0:  # else halves that were counted before have become messages
            beyond = max(0.0, beyond - FRAMING_BYTES_PER_LOOK)
        self.seen = seen
        self.idle_looks = 0 if messages else self.idle_looks + 1
        self.half_sent = max(0.0, self.half_sent + beyond) if self.calls else 0.0


class ClientTraffic:
    """Of all calls of one port. `cut` ends the connections of peers; `received` says what each
    connection of the process has received.
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
        self._looking: asyncio.TimerHandle | None = None
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        return self.bytes <= UNFETCHED_BYTES_MAX

    def open(self, peer: str) -> CallTraffic:
        """For one call with `peer`, until it is closed."""
        connection = self._connections.get(peer)
        if connection is None:
            connection = self._connections[peer] = ClientConnection(peer)
        connection.calls += 1
        call = CallTraffic(self, connection)
        self._calls[call] = None
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_INTERVAL_S, self._look)
        return call

    def close(self, call: CallTraffic) -> None:
        """See `CallTraffic.close`."""
        if self._calls.pop(call, True) is None:
            call.connection.calls -= 1
            self.bytes -= call.bytes
            call.bytes = 0

    def _look(self) -> None:
        self._looking = None
        wanted = self._stalled() | self._half_senders()
        if wanted:
            self.cut(wanted)
        if self._connections:
            self._looking = self._loop.call_later(LOOK_INTERVAL_S, self._look)

    def _stalled(self) -> dict[str, None]:
        """The peers that fetch nothing."""
        stall_s_max = STALL_S_MAX if self.has_room else STALL_UNDER_PRESSURE_S_MAX
        before = self._loop.time() - stall_s_max
        return {
            each.peer: None
            for each in self._calls
            if each.writing_since is not None and each.writing_since < before
        }

    def _half_senders(self) -> dict[str, None]:
        """The peers with the most bytes of half-sent requests, while there are too many in all."""
        received = self._received()
        for peer, connection in list(self._connections.items()):
            if peer in received:
                connection.look(received[peer])
            elif not connection.calls:
                del self._connections[peer]
        half_sent = sum(each.half_sent for each in self._connections.values())
        found: dict[str, None] = {}
        for each in sorted(self._connections.values(), key=lambda each: -each.half_sent):
            if half_sent <= HALF_SENT_BYTES_MAX:
                break
            if not each.at_work:
                half_sent -= each.half_sent
                found[each.peer] = None
        return found

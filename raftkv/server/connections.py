"""The TCP connections of this process, as the operating system knows them.

gRPC ends a call only between two writes. One whose reply waits for a client that fetches nothing
can't be ended, and keeps the reply in memory; its connection can be. Where there is no /proc, this
finds none.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

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

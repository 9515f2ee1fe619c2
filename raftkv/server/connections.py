"""The TCP connections of this process, as the operating system knows them: how one is cut.

gRPC ends a call only between two writes. One whose reply waits for a client that fetches nothing
can't be ended, and keeps the reply in memory; its connection can be.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from pathlib import Path

OWN_DESCRIPTORS = Path("/proc/self/fd")
MAPPED_IPV4 = "::ffff:"


def cut(peers: Collection[str]) -> None:
    """Shut the connections with these peers down, named as gRPC names them (`ipv4:host:port`).

    gRPC then ends all their calls. Where there is no /proc it does nothing.
    """
    wanted = {address for each in peers if (address := _address_of(each))}
    try:
        names = os.listdir(OWN_DESCRIPTORS)
    except OSError:
        return
    for name in names:
        try:
            connection = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # no socket, or closed meanwhile
            continue
        with connection:
            try:
                host, port = connection.getpeername()[:2]
                if (host.removeprefix(MAPPED_IPV4), port) in wanted:
                    connection.shutdown(socket.SHUT_RDWR)
            except (OSError, ValueError):  # a listener, or one of another family
                continue


def _address_of(peer: str) -> tuple[str, int] | None:
    family, _, address = peer.partition(":")
    host, _, port = address.rpartition(":")
    if family not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    bare = host.replace("%5B", "").replace("%5D", "").strip("[]")
    return bare.removeprefix(MAPPED_IPV4), int(port)

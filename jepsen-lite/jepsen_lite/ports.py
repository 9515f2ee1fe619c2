"""Loopback ports that stay reserved, for servers that are killed and restarted."""

from __future__ import annotations

import atexit
import socket
from pathlib import Path
from random import SystemRandom

PORTS_FROM = 12_000
PORTS_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")

_reserved: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Loopback ports without a listener, reserved for as long as this process lives.

    None that the kernel gives to outgoing connections: one of those may take the port of a node
    that is down, or has not been started yet, and the node could not come back.
    """
    first_given = int(PORTS_GIVEN.read_text().split()[0]) if PORTS_GIVEN.exists() else 32_768
    chance, chosen = SystemRandom(), list[int]()
    while len(chosen) < count:
        port = chance.randrange(min(PORTS_FROM, first_given - 1), first_given)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0 and _reserve(port):
                chosen.append(port)
    return chosen


def _reserve(port: int) -> bool:
    """Whether no other process has reserved it: a reservation binds the same port of UDP."""
    reservation = socket.socket(type=socket.SOCK_DGRAM)
    try:
        reservation.bind(("127.0.0.1", port))
    except OSError:
        reservation.close()
        return False
    _reserved.append(reservation)
    return True


@atexit.register
def _release() -> None:
    """Close the reservations at the end of the process: an open socket is a ResourceWarning."""
    while _reserved:
        _reserved.pop().close()

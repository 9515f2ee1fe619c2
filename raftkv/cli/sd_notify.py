"""sd_notify: tells systemd that a node has started, what it does, and that its event loop turns.

One datagram of NAME=VALUE lines per message, to the socket that systemd names in NOTIFY_SOCKET:
sd_notify(3). Whoever else sets that variable, such as a container engine, gets the same.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

STATUS_INTERVAL_S: Final = 2.0
"""How late a changed status is reported."""

WATCHDOG_SHARE: Final = 1 / 3
"""Of the time after which systemd ends a silent process: two messages may come late."""


class Notifier:
    """The messages of one process. Without NOTIFY_SOCKET all of it does nothing.

    A message that the socket can't take is sent again by `run`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_s = _watchdog_s(environ)
        self._unsent: dict[str, str] = {}
        self._status = ""

    def ready(self) -> None:
        """The node has started; from now on systemd expects signs of life, if it has a watchdog."""
        self._send({"READY": "1"})

    def stopping(self) -> None:
        """The node has begun to stop."""
        self._send({"STOPPING": "1"})

    async def run(self, describe: Callable[[], str]) -> None:
        """Report what `describe` says whenever it changes, and that the event loop turns, until
        cancelled.
        """
        if not self._address:
            return
        interval_s = min(STATUS_INTERVAL_S, self._watchdog_s * WATCHDOG_SHARE or STATUS_INTERVAL_S)
        while True:
            beat = {"WATCHDOG": "1"} if self._watchdog_s else {}
            if (status := describe().replace("\n", " ")) != self._status:
                self._status = beat["STATUS"] = status
            self._send(beat)
            await asyncio.sleep(interval_s)

    def _send(self, message: dict[str, str]) -> None:
        self._unsent |= message
        if not self._address or not self._unsent:
            return
        lines = "\n".join(f"{name}={value}" for name, value in self._unsent.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(lines.encode(), self._address)
        except OSError:
            return  # the queue of the socket is full, or the socket is not there for a moment
        self._unsent.clear()


def _address(name: str) -> str:
    """The address of a unix socket: a path, or with @ the name of an abstract one."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """After how much silence systemd ends this process; 0: never."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environ.get("WATCHDOG_PID", "") not in (
        "",
        str(os.getpid()),
    ):
        return 0.0
    return int(microseconds) / 1e6

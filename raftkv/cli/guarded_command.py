"""A program that runs only while a lock is held. Knows processes and signals, no cluster.

It gets a process group of its own, and on a terminal the foreground, as from a shell: so a signal
reaches it once, whether it was typed or sent to us, and a loss ends it with all its children.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from raftkv.errors import InvalidRequest


class GuardedCommand:
    """The program, started at once. Raises `InvalidRequest` if it can't be."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, process_group=0
            )
        except OSError as error:
            raise InvalidRequest(f"can't run {command[0]!r}: {error.strerror}") from None
        self._passed_on: signal.Signals | None = None
        self._ending: asyncio.Task[None] | None = None

    def pass_on(self, number: signal.Signals) -> None:
        """Send it a signal that was sent to us."""
        self._passed_on = number
        self._send(number)

    def end(self, grace_s: float) -> None:
        """Send it SIGTERM, and SIGKILL after the grace; at once if that is 0."""
        self._ending = asyncio.get_running_loop().create_task(self._end(grace_s))

    async def wait(self) -> int:
        """Its exit code; 128 + the signal that ended it, as in a shell."""
        with _in_the_foreground(self._process.pid, self._send):
            code = await asyncio.to_thread(self._process.wait)
        if self._ending is not None:
            self._ending.cancel()
        return code if code >= 0 else 128 - code

    @property
    def obeyed(self) -> bool:
        """Whether it was ended by a signal that was passed on."""
        return self._passed_on is not None and self._process.returncode == -self._passed_on

    async def _end(self, grace_s: float) -> None:
        if grace_s:
            self._send(signal.SIGTERM)
            await asyncio.sleep(grace_s)
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def _in_the_foreground(group: int, send: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Lend the process group our terminal, if we have one and are in its foreground."""
    if not sys.stdin.isatty() or os.tcgetpgrp(0) != os.getpgrp():
        yield
        return
    # Who takes the terminal back from the background would be stopped by this.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, group)
        send(signal.SIGCONT)  # it may have asked for input too soon, and be stopped
        yield
    finally:
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)

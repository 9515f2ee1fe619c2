"""A program that runs only while a lock is held. Knows processes and signals, no cluster.

It gets a process group of its own, and on a terminal the foreground, as from a shell: so a signal
reaches it once, whether it was typed or sent to us, and a loss ends it with all its children.
So does our own death, be it by SIGKILL: a `Reaper` sees to that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from raftkv.cli.guarded.reaper import Reaper
from raftkv.errors import InvalidRequest

POLL_S = 0.02


class GuardedCommand:
    """The program, started at once. Raises `InvalidRequest` if it can't be.

    `orphan_grace_s`: how it ends if we die before it, as for `end`; None: it goes on.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        orphan_grace_s: float | None = None,
    ) -> None:
        # First, so that the command is not without it for as long as a process takes to start.
        self._reaper = None if orphan_grace_s is None else Reaper(orphan_grace_s)
        try:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, process_group=0
            )
        except OSError as error:
            self._dismiss_reaper()
            raise InvalidRequest(f"can't run {command[0]!r}: {error.strerror}") from None
        if self._reaper is not None:
            self._reaper.watch(self._process.pid)
        self._ending: asyncio.Task[None] | None = None

    def pass_on(self, number: signal.Signals) -> None:
        """Send it a signal that was sent to us."""
        self._send(number)

    def end(self, grace_s: float) -> None:
        """Send it SIGTERM, and SIGKILL after the grace; at once if that is 0."""
        self._ending = asyncio.get_running_loop().create_task(self._end(grace_s))

    async def wait(self) -> int:
        """Its exit code; 128 + the signal that ended it, as in a shell.

        After `end`, all its children have ended as well. If the waiting fails, it is killed.
        """
        try:
            with _in_the_foreground(self._process.pid, self._send):
                code = await asyncio.to_thread(self._process.wait)
            if self._ending is not None:
                await self._ending
        except BaseException:
            self._send(signal.SIGKILL)
            raise
        finally:
            self._dismiss_reaper()
        return code if code >= 0 else 128 - code

    @property
    def ended_by_signal(self) -> bool:
        """Whether a signal ended it, whoever sent it: a terminal's goes to the program alone."""
        code = self._process.returncode
        return code is not None and code < 0

    async def _end(self, grace_s: float) -> None:
        if grace_s:
            self._send(signal.SIGTERM)
            loop = asyncio.get_running_loop()
            until_s = loop.time() + grace_s
            while self._lives() and loop.time() < until_s:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(POLL_S)
        self._send(signal.SIGKILL)

    def _dismiss_reaper(self) -> None:
        if self._reaper is not None:
            self._reaper.dismiss()

    def _lives(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def _in_the_foreground(group: int, send: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Lend the process group our terminal, if we have one and are in its foreground."""
    if not _have_foreground():
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


def _have_foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # the terminal of another session
        return False

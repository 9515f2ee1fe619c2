"""The guarded command of `raftkv lock NAME -- COMMAND`: it must not outlive the lock.

The command has a process group of its own, and on a terminal the foreground, as from a shell. So it
receives each signal once, typed or sent to raftkv, and the loss of the lock ends it with all its
children. If raftkv itself dies, even by SIGKILL, a `Reaper` ends the command.
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
    """Starts the command. Raises `InvalidRequest` if that fails.

    `orphan_grace_s`: the grace for the command if this process dies first, as in `end`; None: the
    command goes on.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        orphan_grace_s: float | None = None,
    ) -> None:
        # Before the command, which would otherwise run unguarded while the reaper starts.
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
        """Send the command a signal that this process received."""
        self._send(number)

    def end(self, grace_s: float) -> None:
        """Send SIGTERM, and SIGKILL after the grace; SIGKILL at once if the grace is 0."""
        self._ending = asyncio.get_running_loop().create_task(self._end(grace_s))

    async def wait(self) -> int:
        """The command's exit code; 128 + the signal that ended it, as in a shell.

        After `end`, all its children have ended as well. If the wait fails, the command is killed.
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
        """Whether a signal ended the command; a terminal sends its signals to the command alone."""
        code = self._process.returncode
        return code is not None and code < 0

    async def _end(self, grace_s: float) -> None:
        if grace_s:
            self._send(signal.SIGTERM)
            loop = asyncio.get_running_loop()
            until_s = loop.time() + grace_s
            while self._lives() and loop.time() < until_s:  # noqa: ASYNC110 - there is no event for it
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
    """Give the process group the terminal's foreground, if this process has it."""
    if not _has_foreground():
        yield
        return
    # SIGTTOU would stop this process when it takes the foreground back from the background.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, group)
        send(signal.SIGCONT)  # it may have read input too early and be stopped
        yield
    finally:
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)


def _has_foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # the terminal of another session
        return False

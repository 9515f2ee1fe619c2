"""Processes of this machine: servers that the harness runs, and programs that it calls."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jepsen_lite.db.base import DatabaseFailed

STOP_TIMEOUT_S = 15.0
POLL_S = 0.02
LAST_WORDS_CHARACTERS = 1000

OF_ITS_OWN = range(1, 256)
"""The exit codes of a program that gives up; what a signal has ended, a crash above all, has others
"""


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended that the harness did not end; `code` is negative for a signal."""

    code: int
    excused: bool
    last_words: str

    def __str__(self) -> str:
        of_signal = f"signal {-self.code}" if self.code < 0 else f"code {self.code}"
        return f"{of_signal}; its last words: {self.last_words or 'none'}"


class Server:
    """At most one running process; its output goes to `log_path`, over restarts."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, log_path: Path) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.log_path = log_path
        self.environment: dict[str, str] = {}
        self.paused = False
        self._process: subprocess.Popen[bytes] | None = None
        self._ends: list[End] = []
        self._seen = False  # the end of the present process, if it has one
        self._asked_for: Container[int] = ()  # exit codes of an end that the harness caused
        self._excuses: list[Container[int]] = []

    @property
    def pid(self) -> int:
        """Of the running process; 0 if there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def running(self) -> bool:
        return self.pid != 0

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    async def start(self) -> bool:
        """Start it, if it does not run; returns whether it did not."""
        if self.running:
            return False
        self._see_end()
        self._process = self._launched()
        self._seen, self._asked_for = False, ()
        return True

    def _launched(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**inherited_environment(), **self.environment},
                start_new_session=True,  # Ctrl-C is for the harness, which then ends its servers
            )

    async def kill(self) -> bool:
        """SIGKILL; returns whether it ran."""
        if not self.running or self._process is None:
            return False
        self._process.kill()
        self._process.wait()
        # Another code: the process ended by itself before the signal.
        self._asked_for = (-signal.SIGKILL,)
        self.paused = False
        return True

    async def stop(self) -> bool:
        """SIGTERM and wait; kill it if it takes too long. Returns whether it ended by itself."""
        if self._process is None or not self.running:
            return False
        await self.resume()
        self._asked_for = (0, -signal.SIGTERM)
        self._process.terminate()
        ended = await self.ended(STOP_TIMEOUT_S)
        await self.kill()
        return ended

    async def ended(self, timeout_s: float) -> bool:
        """Wait until the process has ended."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while self.running and loop.time() < until_s:  # noqa: ASYNC110 - processes set no Event
            await asyncio.sleep(POLL_S)
        return not self.running

    async def pause(self) -> bool:
        """SIGSTOP; returns whether it ran."""
        if not self.running or self.paused or self._process is None:
            return False
        self._process.send_signal(signal.SIGSTOP)
        self.paused = True
        return True

    async def resume(self) -> None:
        """SIGCONT, if it runs."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self.paused = False

    def ends(self) -> Sequence[End]:
        """How its processes ended that we have not ended, the first one first."""
        self._see_end()
        return tuple(self._ends)

    def excuse(self, codes: Container[int]) -> Callable[[], None]:
        """From now on it may rightly end by itself with these, until what is returned is called."""
        self._see_end()
        self._excuses.append(codes)

        def over() -> None:
            self._see_end()
            self._excuses.remove(codes)

        return over

    def _see_end(self) -> None:
        """There is no notification of an end: this is called before its meaning may change."""
        code = self.exit_code
        if code is None or self._seen:
            return
        self._seen = True
        if code not in self._asked_for:
            excused = any(code in codes for codes in self._excuses)
            self._ends.append(End(code, excused, self.log()[-LAST_WORDS_CHARACTERS:].strip()))

    def log(self, from_byte: int = 0) -> str:
        """Its log from an offset on."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as file:
            file.seek(from_byte)
            return file.read().decode(errors="replace")

    def log_bytes(self) -> int:
        return self.log_path.stat().st_size if self.log_path.exists() else 0


def inherited_environment() -> Mapping[str, str]:
    """Ours without what would configure the servers behind our back."""
    foreign = ("RAFTKV_", "ETCD_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


TIMEOUT_S = 60.0


async def output_of(*command: str, stdin: str = "") -> str:
    """The standard output of a program; `stdin` is its standard input. Raises `DatabaseFailed`.

    If the caller is cancelled, the cancellation is raised when the program has ended: what reverts
    its work must not overtake it. `subprocess` runs in a thread because asyncio's subprocesses fork
    under uvloop, and gRPC's threads and fork handlers make some of these children die before exec.
    """
    work = asyncio.create_task(asyncio.to_thread(output_of_now, *command, stdin=stdin))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def output_of_now(*command: str, stdin: str = "") -> str:
    """As `output_of`, without an event loop."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,  # Ctrl-C is for the harness, which then needs it to tidy up
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatabaseFailed(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        complaint = done.stderr.strip() or f"ended with {done.returncode}"
        raise DatabaseFailed(f"{' '.join(command)}: {complaint}")
    return done.stdout.strip()

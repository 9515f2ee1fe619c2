"""A process beside ours that ends the process groups we have started when we die, even by SIGKILL.

It waits for its standard input to end, which the kernel sees to however the other end dies. Not
PR_SET_PDEATHSIG: that reaches a child alone and none of its own children, and setting it takes code
between fork and exec in a process with threads. Run as a program this file imports nothing of ours,
so that the process is there at once and small.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

POLL_S = 0.02
REMOVAL_S_MAX = 10.0


class Reaper:
    """The process, started at once. As a context it ends what is left of the groups at the end.

    `grace_s`: how long after SIGTERM a group gets SIGKILL; at once if that is 0. `directory` is
    removed once the groups have ended.
    """

    def __init__(self, grace_s: float, directory: Path | None = None) -> None:
        import subprocess

        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(grace_s), str(directory or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # where no signal of a terminal reaches it
            bufsize=0,
        )

    def watch(self, group: int) -> None:
        """From now on this process group does not outlive us."""
        self._send(b"%d\n" % group)

    def forget(self, group: int) -> None:
        """It has ended: its number may soon be another's."""
        self._send(b"-%d\n" % group)

    def dismiss(self) -> None:
        """End it; the groups go on."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def _send(self, line: bytes) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # somebody killed it
                self._process.stdin.write(line)


def main(grace_s: float, directory: str) -> None:
    """Standard input: a line for each group that begins, one with a minus for each that has ended.

    What we started and had not named here when we died is left to itself.
    """
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        number = int(line)
        if number > 0:
            groups.add(number)
        else:
            groups.discard(-number)
    end_groups(groups, grace_s)
    if directory:
        _remove(directory)


def end_groups(groups: set[int], grace_s: float) -> None:
    """SIGTERM to all, and SIGKILL after the grace; at once if that is 0."""
    if grace_s:
        _send(groups, signal.SIGTERM)
        until_s = time.monotonic() + grace_s
        while groups and time.monotonic() < until_s:
            time.sleep(POLL_S)
            groups = _send(groups, 0)
    _send(groups, signal.SIGKILL)


def _send(groups: set[int], number: int) -> set[int]:
    """Those that were still there."""
    living = set()
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, number)
            living.add(group)
    return living


def _remove(directory: str) -> None:
    """Again and again: a process that was just killed may still be about to make a file."""
    import shutil

    until_s = time.monotonic() + REMOVAL_S_MAX
    while os.path.exists(directory) and time.monotonic() < until_s:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(POLL_S)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])

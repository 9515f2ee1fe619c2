"""A helper process that ends process groups when its parent dies, even by SIGKILL.

It waits for the end of its standard input, which the kernel closes however the parent dies.
PR_SET_PDEATHSIG would not do: it reaches a child but not the child's children, and setting it needs
code between fork and exec in a process with threads. Run as a program, this file imports nothing of
raftkv, so that the process is small and starts quickly.
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
    """Starts the helper process. As a context manager it ends the remaining groups at the end.

    `grace_s`: how long after SIGTERM a group gets SIGKILL; at once if 0. `directory` is removed
    after the groups have ended.
    """

    def __init__(self, grace_s: float, directory: Path | None = None) -> None:
        import subprocess

        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(grace_s), str(directory or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's signals do not reach it
            bufsize=0,
        )

    def watch(self, group: int) -> None:
        """End this process group when this process dies."""
        self._send(b"%d\n" % group)

    def forget(self, group: int) -> None:
        """The group has ended; the kernel may reuse its number."""
        self._send(b"-%d\n" % group)

    def dismiss(self) -> None:
        """End the helper process; the groups go on."""
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
            with suppress(BrokenPipeError):  # the helper was killed
                self._process.stdin.write(line)


def main(grace_s: float, directory: str) -> None:
    """Standard input: a line for each group that begins, with a minus for each that has ended.

    A group that the parent started and had not sent before it died is not ended.
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
    """Send SIGTERM to all, and SIGKILL after the grace; SIGKILL at once if the grace is 0."""
    if grace_s:
        _send(groups, signal.SIGTERM)
        until_s = time.monotonic() + grace_s
        while groups and time.monotonic() < until_s:
            time.sleep(POLL_S)
            groups = _send(groups, 0)
    _send(groups, signal.SIGKILL)


def _send(groups: set[int], number: int) -> set[int]:
    """Send the signal; returns the groups that still exist."""
    living = set()
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, number)
            living.add(group)
    return living


def _remove(directory: str) -> None:
    """Remove repeatedly: a process that was just killed may still create a file."""
    import shutil

    until_s = time.monotonic() + REMOVAL_S_MAX
    while os.path.exists(directory) and time.monotonic() < until_s:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(POLL_S)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])

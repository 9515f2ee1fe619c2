"""A program of its own: ends a guarded command whose `raftkv lock` has died, even by SIGKILL.

It waits for its standard input to end, which the kernel sees to however the other end dies, and
then ends the command's process group. Not PR_SET_PDEATHSIG: that reaches the command alone and
none of its children, and setting it takes code between fork and exec in a process with threads.
Who dies in the very moment between starting the command and naming it here leaves it to itself.
Imports nothing of ours, so that it is there at once and small.
"""

import os
import signal
import sys
import time
from contextlib import suppress

POLL_S = 0.02


def main(grace_s: float) -> None:
    """Standard input: a line with the process group once there is one, then nothing until EOF."""
    group = sys.stdin.buffer.readline()
    if not group.endswith(b"\n"):
        return  # the command never ran
    sys.stdin.buffer.read()
    with suppress(ProcessLookupError):
        end_group(int(group), grace_s)


def end_group(group: int, grace_s: float) -> None:
    """SIGTERM, and SIGKILL after the grace; at once if that is 0. ProcessLookupError: it ended."""
    if grace_s:
        os.killpg(group, signal.SIGTERM)
        until_s = time.monotonic() + grace_s
        while time.monotonic() < until_s:
            time.sleep(POLL_S)
            os.killpg(group, 0)
    os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(float(sys.argv[1]))

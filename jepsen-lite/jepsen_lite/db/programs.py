"""Other programs, run outside the event loop: their output, or the cause of their failure.

Not by asyncio's subprocesses: uvloop forks for them, and gRPC's threads and fork handlers make some
of the children die before they have become the program. `subprocess` needs no such fork.
"""

from __future__ import annotations

import asyncio
import subprocess

from jepsen_lite.db.base import DatabaseFailed

TIMEOUT_S = 60.0


async def said_by(*command: str, told: str = "") -> str:
    """Its standard output; `told` is its standard input. Raises `DatabaseFailed` with its errors.

    If the caller is cancelled, the cancellation is raised when the program has ended: what reverts
    its work must not overtake it.
    """
    work = asyncio.create_task(asyncio.to_thread(said_by_now, *command, told=told))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def said_by_now(*command: str, told: str = "") -> str:
    """As `said_by`, for where there is no loop."""
    try:
        done = subprocess.run(
            command,
            input=told,
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

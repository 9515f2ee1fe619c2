"""/livez and /readyz: whether a supervisor should restart the node, and whether it serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from raftkv.http.report import NodeReport, ReadinessCheck

STALL_S_MAX: Final = 30.0
"""A node whose event loop or disk stands still for longer is not alive. Recovery from a long log,
or a disk under heavy load, takes seconds; a restart would only repeat it."""

UNREADY_STALL_S: Final = 5.0
"""A node whose event loop or disk stands still for longer is not ready."""


def stalls(report: NodeReport, now_s: float, stall_s_max: float) -> Iterator[ReadinessCheck]:
    """The checks that the event loop and the disk go on; neither needs another node."""
    age_s = now_s - report.at_s
    yield ReadinessCheck(
        "event_loop",
        f"the event loop has done nothing for {age_s:.1f} s" if age_s > stall_s_max else "",
    )
    since_s = report.disk_write_since_s
    write_s = 0.0 if since_s is None else now_s - since_s
    yield ReadinessCheck(
        "disk_write",
        f"a write to the log has taken {write_s:.1f} s so far" if write_s > stall_s_max else "",
    )


def liveness(report: NodeReport, now_s: float) -> list[ReadinessCheck]:
    """The checks of /livez."""
    return list(stalls(report, now_s, STALL_S_MAX))


def readiness(report: NodeReport, now_s: float, *, local: bool) -> list[ReadinessCheck]:
    """The checks of /readyz; with `local` only those that need no other node."""
    checks = [*stalls(report, now_s, UNREADY_STALL_S), *report.checks]
    return [each for each in checks if not (local and each.needs_majority)]

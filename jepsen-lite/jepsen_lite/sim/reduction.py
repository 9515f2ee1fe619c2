"""A failing run is repeated with fewer faults."""

from __future__ import annotations

from dataclasses import replace

from jepsen_lite.sim.replicas.pool import ReplicaPool
from jepsen_lite.sim.run import Outcome, run

RUNS_MAX = 40


def shrunk(
    failed: Outcome, runs_max: int = RUNS_MAX, replicas: ReplicaPool | None = None
) -> Outcome:
    """A run with part of the faults that fails, too; at worst the same one.

    Halves first, then quarters and so on (delta debugging). Another failure than the first is
    as welcome: it is one.
    """
    runs, size = 0, max(1, len(failed.plan.schedule) // 2)
    while size and runs < runs_max:
        start = 0
        while start < len(failed.plan.schedule) and runs < runs_max:
            schedule = failed.plan.schedule
            attempt = run(
                replace(failed.plan, schedule=schedule[:start] + schedule[start + size :]), replicas
            )
            runs += 1
            if attempt.problems:
                failed = attempt
            else:
                start += size
        size //= 2
    return replace(failed, reduced=True)

"""The options of a run on real processes."""

from __future__ import annotations

from dataclasses import dataclass

CALM_SHARE = 0.1
CALM_S_MIN, CALM_S_MAX = 2.0, 10.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The seed decides operations and faults, but not the timing.

    `rate` is in operations per second over all of `concurrency` clients; `endpoints` are those of
    a cluster that runs already.
    """

    system: str
    workloads: tuple[str, ...]
    nemeses: tuple[str, ...]
    seconds: float
    nodes: int
    concurrency: int
    rate: float
    seed: int
    endpoints: str = ""

    @property
    def calm_s(self) -> float:
        """The length of the calm phase, in seconds."""
        return min(CALM_S_MAX, max(CALM_S_MIN, self.seconds * CALM_SHARE))

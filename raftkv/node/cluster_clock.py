"""The leader's side of cluster time. Knows stamps and a monotonic clock, no wall clock."""

from __future__ import annotations

STAMP_EVERY_MS = 500
"""While leases run, cluster time is written down this often: a new leader goes on from there."""


class ClusterClock:
    """Goes on from the last stamp in the log at the rate of the leader's monotonic clock.

    So cluster time never runs back, and stands still while there is no leader: a lease
    outlives an outage instead of dying in it.
    """

    def __init__(self) -> None:
        self.last_stamp_ms = 0
        self._started_ms = 0
        self._started_s = 0.0

    def start(self, applied_time_ms: int, now_s: float) -> None:
        """This node has begun to lead and its state is at `applied_time_ms`."""
        self.last_stamp_ms = self._started_ms = applied_time_ms
        self._started_s = now_s

    def read_ms(self, now_s: float) -> int:
        """Cluster time at the monotonic moment `now_s`."""
        return max(self.last_stamp_ms, self._started_ms + int((now_s - self._started_s) * 1000))

    def stamp_ms(self, now_s: float) -> int:
        """Cluster time for an entry that is proposed now."""
        self.last_stamp_ms = self.read_ms(now_s)
        return self.last_stamp_ms

    def stamp_is_due(self, deadline_ms: int | None, now_s: float) -> bool:
        """Whether to propose a bare stamp. `deadline_ms` is when the next lease ends, if any."""
        if deadline_ms is None:
            return False
        now_ms = self.read_ms(now_s)
        ends = self.last_stamp_ms < deadline_ms <= now_ms
        return ends or now_ms - self.last_stamp_ms >= STAMP_EVERY_MS

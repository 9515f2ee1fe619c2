"""The leader's side of cluster time. Knows stamps and a monotonic clock, no wall clock."""

from __future__ import annotations


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

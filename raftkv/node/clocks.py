"""Clocks of a node: cluster time at the leader and elsewhere, and the leader lease (dissertation
6.4.1).
"""

from __future__ import annotations

from raftkv.raft.ready import RaftConfig

STAMP_EVERY_MS = 500
"""While leases run, the log gets a time stamp this often: a new leader goes on from the last."""


class ClusterClock:
    """Continues the last time stamp in the log at the rate of the leader's monotonic clock.

    So cluster time never runs back, and stands still without a leader: no lease ends in an outage.
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


class AppliedClock:
    """Continues the last time stamp that this node applied, at the rate of its monotonic clock.

    It goes on where cluster time stands still: on an idle cluster and without a leader. The next
    stamp sets it again, perhaps back.
    """

    def __init__(self, applied_time_ms: int, now_s: float) -> None:
        self._stamp_ms = applied_time_ms
        self._applied_s = now_s

    def set(self, applied_time_ms: int, now_s: float) -> None:
        """The state is at `applied_time_ms`, after an entry with a stamp or a snapshot."""
        self._stamp_ms = applied_time_ms
        self._applied_s = now_s

    def read_ms(self, now_s: float) -> int:
        """Cluster time at the monotonic moment `now_s`, as far as this node can tell."""
        return self._stamp_ms + int((now_s - self._applied_s) * 1000)


CLOCK_DRIFT_MAX = 0.1
"""The rates of two nodes' clocks may differ by this share."""

TICKS_EARLY_MAX = 2
"""Ticks that a follower may count too early: one that was nearly over, and one made up for."""


class LeaderLease:
    """The lease of this node in the term that it leads. Times are those of the loop."""

    def __init__(self, config: RaftConfig, tick_s: float) -> None:
        ticks = max(0, config.election_ticks_min - TICKS_EARLY_MAX)
        self._length_s = ticks * tick_s * (1 - CLOCK_DRIFT_MAX)
        self._term = 0
        self._since_s = 0.0
        self._confirmed_s: float | None = None

    def begin(self, term: int, now_s: float) -> None:
        """This node leads `term`; 0: it does not lead."""
        self._term, self._since_s, self._confirmed_s = term, now_s, None

    def confirm(self, asked_at_s: float | None) -> None:
        """A majority confirmed a ReadIndex round that began at `asked_at_s`."""
        # A round before this leadership was not confirmed by heartbeats of this leader.
        if self._term and asked_at_s is not None and asked_at_s > self._since_s:
            self._confirmed_s = max(asked_at_s, self._confirmed_s or asked_at_s)

    def holds(self, term: int, now_s: float) -> bool:
        """Whether no other node can lead yet."""
        return self._term == term and self._left_s(now_s) > 0

    def is_due(self, now_s: float) -> bool:
        """Whether it is time to have it confirmed again, for reads that come later."""
        return self._left_s(now_s) < self._length_s / 2

    def _left_s(self, now_s: float) -> float:
        return 0.0 if self._confirmed_s is None else self._confirmed_s + self._length_s - now_s

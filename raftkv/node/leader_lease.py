"""For how long a leader may answer reads by itself (dissertation 6.4.1). Knows times, no Raft.

A follower that has answered a heartbeat helps to elect no other leader for the shortest
election timeout, counted in its own ticks from when it heard it. So a leader whose majority has
answered knows that it leads for as long after it *sent* that heartbeat, if clocks run at about the
same rate: an assumption, unlike everything else here, and therefore off unless configured.
"""

from __future__ import annotations

from raftkv.raft.ready import RaftConfig

# By how much the clocks of two nodes may differ in rate.
CLOCK_DRIFT_MAX = 0.1
# What a follower may count too early: the tick that was nearly over, and one that its loop owed.
TICKS_EARLY_MAX = 2


class LeaderLease:
    """The lease of this node in the term that it leads. Times are those of the loop."""

    def __init__(self, config: RaftConfig, tick_s: float) -> None:
        ticks = max(0, config.election_ticks_min - TICKS_EARLY_MAX)
        self._length_s = ticks * tick_s * (1 - CLOCK_DRIFT_MAX)
        self._term = 0
        self._since_s = 0.0
        self._confirmed_s: float | None = None

    def begin(self, term: int, now_s: float) -> None:
        """This node leads `term`; 0: it leads no more."""
        self._term, self._since_s, self._confirmed_s = term, now_s, None

    def confirm(self, asked_at_s: float | None) -> None:
        """A majority confirmed the question that was asked then."""
        # What was asked before this term began was not answered by heartbeats of this leader.
        if self._term and asked_at_s is not None and asked_at_s > self._since_s:
            self._confirmed_s = max(asked_at_s, self._confirmed_s or asked_at_s)

    def holds(self, term: int, now_s: float) -> bool:
        """Whether nobody else can lead yet."""
        return self._term == term and self._left_s(now_s) > 0

    def is_due(self, now_s: float) -> bool:
        """Whether it is time to have it confirmed again, for reads that come later."""
        return self._left_s(now_s) < self._length_s / 2

    def _left_s(self, now_s: float) -> float:
        return 0.0 if self._confirmed_s is None else self._confirmed_s + self._length_s - now_s

"""How much cluster time has passed at least, as acknowledged writes prove it. Knows no leases.

Cluster time is the leader's clock: every entry of the log is stamped with it, a new leader goes on
from the last stamp. So it stands still while nobody leads, however long that takes, and what has
passed since its last entry is lost with a leader. All that clients can know of it is this: a write
that was acknowledged has been stamped between its beginning and its end, and between the stamps of
one leader, as much time has passed as on its clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from jepsen_lite.checkers.reading import began_ns, ended_ns
from jepsen_lite.history import Operation


class ClusterTime:
    """`writes` were acknowledged. Those that follow each other within `election_ns`, which is less
    than any election takes, have one leader.

    Leadership may change hands sooner where it is given away or where a voter has just started:
    each such change may have lost less than `election_ns` of what is counted here.
    """

    def __init__(self, writes: Iterable[Operation], election_ns: int) -> None:
        chain: list[Operation] = []
        spans: list[tuple[float, float]] = []
        for write in sorted(writes, key=ended_ns):
            if chain and began_ns(write) <= ended_ns(chain[-1]):
                continue  # either may have been stamped first
            if chain and ended_ns(write) - began_ns(chain[-1]) <= election_ns:
                spans[-1] = (spans[-1][0], began_ns(write))
            else:
                spans.append((ended_ns(write), ended_ns(write)))
            chain.append(write)
        self._chain = chain
        self._ended = [ended_ns(write) for write in chain]
        self._spans = spans

    def passed_ns(self, since_ns: float, seen_ns: float) -> float:
        """What has passed at least since `since_ns`, in a state that is read at `seen_ns`."""
        over = bisect_left(self._ended, seen_ns)
        if not over:
            return 0
        until_ns = began_ns(self._chain[over - 1])
        overlaps = (min(end, until_ns) - max(begin, since_ns) for begin, end in self._spans)
        return sum(max(0, overlap) for overlap in overlaps)

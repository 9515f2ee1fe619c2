"""The bounds of automatic compaction: what it must leave, seen from outside the nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Set

from jepsen_lite.sim.checks.violation import Violation

CERTAIN_SHARE = 0.5
"""Of the time for which a pinned revision stays. Clocks of nodes run at other rates than the
simulation's.
"""


class HistoryBounds:
    """Raises `Violation` if a leader compacts the last `revisions_min` revisions, or one that was
    the latest when a node pinned it, less than `pin_s_max` ago.

    A process that ends forgets its pins, and a node that is no member has no say.
    """

    def __init__(
        self,
        revisions_min: int = 0,
        pin_s_max: float = 0.0,
        now_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._revisions_min = revisions_min
        self._certain_s = CERTAIN_SHARE * pin_s_max
        self._now_s = now_s
        self._latest = 0
        self._pins: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)

    def began(self, node_id: int) -> None:
        """The node's process has begun, or goes on."""
        self._pins.pop(node_id, None)

    def applied(self, revision: int) -> None:
        """A node has this revision."""
        self._latest = max(self._latest, revision)

    def pinned(self, node_id: int, revision: int) -> None:
        """A client of this node needs the revision. An older one than the latest may be due."""
        if revision >= self._latest:
            self._pins[node_id].append((self._now_s(), revision))

    def compacted(self, leader: int, revision: int, members: Set[int]) -> None:
        """What this leader has proposed by itself is committed."""
        if revision > self._latest - self._revisions_min:
            raise Violation(
                f"node {leader} compacts up to revision {revision} of {self._latest}, and the last"
                f" {self._revisions_min} must stay"
            )
        since_s = self._now_s() - self._certain_s
        for node_id, pins in self._pins.items():
            pins[:] = [(at_s, pinned) for at_s, pinned in pins if at_s > since_s]
            lost = [pinned for _, pinned in pins if pinned < revision]
            if lost and node_id in members:
                raise Violation(
                    f"node {leader} compacts up to revision {revision}, and a client of node"
                    f" {node_id} has just begun to use revision {lost[0]}"
                )

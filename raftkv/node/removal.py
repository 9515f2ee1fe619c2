"""Whether this node was removed, as far as others say so. Its own log is the better witness."""

from __future__ import annotations

from collections.abc import Set


class RemovalClaims:
    """Which peers say that this node was removed.

    It was if all others that it knows and that answer say so, and have said so for
    `patience_ticks`: one peer may be ahead of this node, and one may lie.
    """

    def __init__(self, patience_ticks: int) -> None:
        self._patience_ticks = patience_ticks
        self._claimed_by: set[int] = set()
        self._ticks = 0

    def claimed(self, by: int) -> None:
        """The peer does not admit this node because it was removed."""
        self._claimed_by.add(by)

    def withdrawn(self, by: int) -> None:
        """The peer has admitted this node."""
        self._claimed_by.discard(by)

    def claimed_by(self, others: Set[int]) -> frozenset[int]:
        """Those of `others` that say so."""
        return frozenset(self._claimed_by & others)

    def tick(self, others: Set[int], connected: Set[int]) -> frozenset[int]:
        """One unit of time has passed. Who says so, if that decides it; else nobody.

        `connected` are the peers that admit this node.
        """
        claimed_by = self.claimed_by(others)
        unanimous = claimed_by and not (others & connected) - claimed_by
        self._ticks = self._ticks + 1 if unanimous else 0
        return claimed_by if self._ticks >= self._patience_ticks else frozenset()

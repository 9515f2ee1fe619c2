"""Virtual time and the order of everything. Knows moments and callbacks, no processes.

Nothing else decides what happens next: no thread, no real clock, no address of an object. Events
of the same moment happen in the order in which they were asked for.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random


class World:
    """The simulation's clock, its agenda, and where all chance comes from."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_s = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def rng(self, purpose: str) -> Random:
        """A source of chance for one purpose, so that one more draw here changes none there."""
        # A str is hashed with SHA-512 by `random`, not with the process's own hash seed.
        return Random(f"{self.seed}/{purpose}")

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        """Do this at that moment; a moment that has passed means now."""
        heapq.heappush(self._agenda, (max(when_s, self.now_s), next(self._order), act))

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do this in `delay_s` seconds."""
        self.at(self.now_s + delay_s, act)

    def run_until(self, until_s: float, stop: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass up to `until_s`, or until `stop` holds; true if it did.

        `stop` is looked at after every event.
        """
        agenda = self._agenda
        while agenda and agenda[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(agenda)
            act()
            if stop():
                return True
        self.now_s = until_s
        return stop()

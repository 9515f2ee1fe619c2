"""Virtual time and the order of everything. Knows moments and callbacks, no processes.

Nothing else decides what happens next: no thread, no real clock, no address of an object. Events
of the same moment happen in the order in which they were asked for.
"""

from __future__ import annotations

import heapq
import itertools
from asyncio import events
from collections.abc import Callable
from random import Random


class World:
    """The simulation's clock, its agenda, and where all chance comes from."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_s = 0.0
        self.running: object = None
        """The process whose event loop asyncio takes for the running one."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def rng(self, purpose: str) -> Random:
        """A source of chance for one purpose, so that one more draw here changes none there."""
        # A str is hashed with SHA-512 by `random`, not with the process's own hash seed.
        return Random(f"{self.seed}/{purpose}")

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        """Do this at that moment; a moment that has passed means now."""
        if when_s < self.now_s:
            when_s = self.now_s
        heapq.heappush(self._agenda, (when_s, next(self._order), act))

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do this in `delay_s` seconds."""
        self.at(self.now_s + delay_s, act)

    def run_until(self, until_s: float, stop: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass up to `until_s`, or until `stop` holds; true if it did.

        `stop` is looked at after every event.
        """
        agenda = self._agenda
        try:
            while agenda and agenda[0][0] <= until_s:
                self.now_s, _, act = heapq.heappop(agenda)
                act()
                if stop():
                    return True
        finally:
            self.running = None
            events._set_running_loop(None)
        self.now_s = until_s
        return stop()

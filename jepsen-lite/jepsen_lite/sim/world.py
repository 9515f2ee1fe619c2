"""Virtual time, and the agenda of all events of a simulation.

Nothing else decides what happens next: no thread, no real clock, no address of an object. Events
of the same moment happen in the order in which they were asked for.
"""

from __future__ import annotations

import itertools
from asyncio import events
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any


class World:
    """The simulation's clock, its agenda, and where all chance comes from."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_s = 0.0
        self.running: object = None
        """The process whose event loop asyncio takes for the running one."""
        self._agenda: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._until_s = 0.0
        self._stopped = False

    def now_ns(self) -> int:
        return round(self.now_s * 1e9)

    def rng(self, purpose: str) -> Random:
        """A source of chance for one purpose, so that one more draw here changes none there."""
        # A str is hashed with SHA-512 by `random`, not with the process's own hash seed.
        return Random(f"{self.seed}/{purpose}")

    def at(self, when_s: float, act: Callable[..., object], *args: Any) -> None:
        """Do this at that moment; a moment that has passed means now."""
        if when_s < self.now_s:
            when_s = self.now_s
        heappush(self._agenda, (when_s, next(self._order), act, args))

    def after(self, delay_s: float, act: Callable[..., object], *args: Any) -> None:
        """Do this in `delay_s` seconds."""
        # As `at`, spelled out: nothing is called more often.
        when_s = self.now_s + delay_s if delay_s > 0.0 else self.now_s
        heappush(self._agenda, (when_s, next(self._order), act, args))

    def stop(self) -> None:
        """Let no more time pass: the event that is under way is the last one."""
        self._stopped = True

    def run_until(self, until_s: float) -> bool:
        """Let time pass up to `until_s`, or until it is stopped; true if it was."""
        agenda, self._until_s = self._agenda, until_s
        try:
            while not self._stopped and agenda and agenda[0][0] <= until_s:
                self.now_s, _, act, args = heappop(agenda)
                act(*args)
        finally:
            self.running = None
            events._set_running_loop(None)
        if not self._stopped:
            self.now_s = until_s
        return self._stopped

    def skip_to(self, when_s: float) -> bool:
        """Advance the time to that moment, unless an event comes before it: then return False."""
        agenda = self._agenda
        if self._stopped or when_s > self._until_s or (agenda and agenda[0][0] <= when_s):
            return False
        self.now_s = when_s
        return True

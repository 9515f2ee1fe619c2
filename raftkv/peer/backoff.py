"""How long to wait before the next try to reach a peer."""

from __future__ import annotations

from random import Random

DELAY_S_MIN = 0.05
DELAY_S_MAX = 1.0


class Backoff:
    """Doubles from DELAY_S_MIN to DELAY_S_MAX; jitter takes up to half off each delay.

    The jitter keeps nodes that lost each other at one instant from meeting again at one instant.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._next_s = DELAY_S_MIN

    def next_delay_s(self) -> float:
        delay_s = self._next_s
        self._next_s = min(2 * delay_s, DELAY_S_MAX)
        return delay_s * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._next_s = DELAY_S_MIN

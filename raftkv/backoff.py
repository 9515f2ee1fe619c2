"""Exponential back-off with jitter: how long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from `delay_s_min` to `delay_s_max`, each shortened by a random jitter.

    `jitter` is the largest share of a delay that is taken off: 1.0 (full jitter) spreads clients
    over the whole delay, 0.5 keeps at least half of it. Without jitter, all that lost a node at one
    instant would try it again at one instant.
    """

    def __init__(
        self, rng: random.Random, delay_s_min: float, delay_s_max: float, *, jitter: float = 1.0
    ) -> None:
        self._rng = rng
        self._delay_s_min = delay_s_min
        self._delay_s_max = delay_s_max
        self._jitter = jitter
        self._delay_s = min(delay_s_min, delay_s_max)

    def next_s(self) -> float:
        """How long to wait before the next attempt."""
        delay_s = self._delay_s
        self._delay_s = min(2.0 * delay_s, self._delay_s_max)
        return self._rng.uniform((1.0 - self._jitter) * delay_s, delay_s)

    def reset(self) -> None:
        """An attempt succeeded: the next delay is the shortest again."""
        self._delay_s = min(self._delay_s_min, self._delay_s_max)

"""When to try again. Knows time and chance as parameters, nothing about calls or endpoints."""

from __future__ import annotations

import random


class Backoff:
    """Capped exponential back-off with full jitter: no two clients come back in step."""

    def __init__(self, rng: random.Random, minimum_s: float, maximum_s: float) -> None:
        self._rng = rng
        self._minimum_s = minimum_s
        self._maximum_s = maximum_s
        self._attempts = 0

    def next_s(self) -> float:
        """How long to wait before the next attempt."""
        ceiling_s = min(self._maximum_s, self._minimum_s * 2.0**self._attempts)
        if ceiling_s < self._maximum_s:
            self._attempts += 1
        return self._rng.uniform(0.0, ceiling_s)

    def reset(self) -> None:
        """An attempt succeeded: the next failure starts small again."""
        self._attempts = 0


class RetryBudget:
    """Bounds retries to a share of the requests plus a floor, so that none can amplify an outage.

    A token bucket: each request puts `ratio` in, time puts `floor_per_s` in, each retry takes one
    out. A retry that finds the bucket empty is not refused but told to wait for its token.
    """

    def __init__(self, now: float, *, ratio: float, floor_per_s: float, burst: int) -> None:
        self._ratio = ratio
        self._floor_per_s = floor_per_s
        self._burst = float(burst)
        self._tokens = self._burst
        self._refilled_at = now

    def deposit(self) -> None:
        """A request was sent for the first time."""
        self._tokens = min(self._burst, self._tokens + self._ratio)

    def reserve_s(self, now: float) -> float:
        """Take the token of one retry; returns how long the retry has to wait for it."""
        refill = (now - self._refilled_at) * self._floor_per_s
        self._refilled_at = now
        self._tokens = min(self._burst, self._tokens + refill) - 1.0
        return max(0.0, -self._tokens / self._floor_per_s)

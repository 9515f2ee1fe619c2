"""A histogram with fixed buckets of plain integers, cheap enough for the event loop of a node."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of the buckets of all durations, in seconds."""


class Distribution(NamedTuple):
    """What a histogram had observed at one moment.

    `counts` has one number per bucket of `SECONDS`, and one for all that was above them.
    """

    counts: tuple[int, ...]
    sum_s: float


class Histogram:
    """Counts durations. One thread at a time may observe; any thread may read."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum_s += seconds

    def read(self) -> Distribution:
        """What was observed so far."""
        return Distribution(tuple(self._counts), self._sum_s)

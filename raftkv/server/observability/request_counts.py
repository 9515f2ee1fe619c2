"""Counts requests on the client port by method and outcome, and how long they took."""

from __future__ import annotations

from typing import Final

from raftkv.metrics import table
from raftkv.metrics.histogram import Histogram
from raftkv.metrics.samples import SampleSet

OK: Final = "OK"
CANCELLED: Final = "CANCELLED"


class RequestCounts:
    """The requests of one client port that have ended."""

    def __init__(self) -> None:
        self._ended: dict[tuple[str, str], int] = {}
        self._durations: dict[str, Histogram] = {}
        self._operations: dict[str, int] = {}

    def ended(self, method: str, outcome: str, took_s: float) -> None:
        """A request has ended; `outcome` is `OK`, `CANCELLED` or the reason of an error."""
        self.stream_ended(method, outcome)
        durations = self._durations.get(method)
        if durations is None:
            durations = self._durations[method] = Histogram()
        durations.observe(took_s)

    def stream_ended(self, method: str, outcome: str) -> None:
        """As `ended`, of a call that lasts as long as its caller wants."""
        key = method, outcome
        self._ended[key] = self._ended.get(key, 0) + 1

    def add_operations(self, method: str, count: int) -> None:
        """A batch of that many commands or reads has ended."""
        self._operations[method] = self._operations.get(method, 0) + count

    def sample(self, samples: SampleSet) -> None:
        for (method, outcome), count in self._ended.items():
            samples.set(table.REQUESTS, count, method, outcome)
        for method, durations in self._durations.items():
            samples.set(table.REQUEST_DURATION, durations.read(), method)
        for method, count in self._operations.items():
            samples.set(table.OPERATIONS, count, method)

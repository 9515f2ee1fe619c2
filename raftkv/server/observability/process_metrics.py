"""Metrics of this process: pauses by garbage collection, and lateness of the event loop."""

from __future__ import annotations

import gc
import time

from raftkv.metrics import table
from raftkv.metrics.histogram import Histogram
from raftkv.metrics.samples import SampleSet


class ProcessMetrics:
    """Measures from `start` to `stop`."""

    def __init__(self) -> None:
        self.loop_lag = Histogram()
        self._pauses = tuple(Histogram() for _ in gc.get_threshold())
        self._collection_began_s = 0.0

    def start(self) -> None:
        gc.callbacks.append(self._collected)

    def stop(self) -> None:
        gc.callbacks.remove(self._collected)

    def sample(self, samples: SampleSet) -> None:
        samples.set(table.LOOP_LAG, self.loop_lag.read())
        for generation, pauses in enumerate(self._pauses):
            samples.set(table.GC_PAUSE, pauses.read(), str(generation))

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        now_s = time.perf_counter()
        if phase == "start":
            self._collection_began_s = now_s
        else:
            self._pauses[info["generation"]].observe(now_s - self._collection_began_s)

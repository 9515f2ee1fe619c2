"""The values of all metrics at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from raftkv.metrics.histogram import Distribution
from raftkv.metrics.table import Metric

Value: TypeAlias = float | Distribution
Samples: TypeAlias = Mapping[Metric, Mapping[tuple[str, ...], Value]]
"""The values of each metric, by the values of its labels. Never changed once it is published."""


class SampleSet:
    """Samples under construction."""

    def __init__(self) -> None:
        self._samples: dict[Metric, dict[tuple[str, ...], Value]] = {}

    def set(self, metric: Metric, value: Value, *labels: str) -> None:
        self._samples.setdefault(metric, {})[labels] = value

    def taken(self) -> Samples:
        """What was set. Set nothing more afterwards."""
        return self._samples

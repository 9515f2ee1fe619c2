"""/metrics: a report in the text format of Prometheus, rendered once a second at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.registry import Collector

from raftkv.http.liveness import readiness
from raftkv.http.report import NodeReport, PublishedReport
from raftkv.metrics import table
from raftkv.metrics.histogram import SECONDS, Distribution
from raftkv.metrics.samples import SampleSet, Value
from raftkv.metrics.table import METRICS, Metric, MetricKind

RENDER_INTERVAL_S: Final = 1.0

_BOUNDS: Final = (*(format(bound, "g") for bound in SECONDS), "+Inf")


class ReportCollector(Collector):
    """Converts the last report to the metric families of prometheus_client."""

    def __init__(self, published: PublishedReport, now: Callable[[], float]) -> None:
        self._published = published
        self._now = now

    def collect(self) -> Iterable[MetricFamily]:
        report = self._published.latest
        samples = {**report.samples, **_ages(report, self._now())}
        for metric in METRICS:
            if metric in samples:
                yield _family(metric, samples[metric].items())


def _ages(report: NodeReport, now_s: float) -> dict[Metric, dict[tuple[str, ...], Value]]:
    """What goes on changing while the event loop stalls."""
    made = SampleSet()
    made.set(table.REPORT_AGE, now_s - report.at_s)
    since_s = report.disk_write_since_s
    made.set(table.LOG_WRITE_AGE, 0.0 if since_s is None else now_s - since_s)
    made.set(table.READY, not any(c.failure for c in readiness(report, now_s, local=False)))
    return {metric: dict(values) for metric, values in made.taken().items()}


def _family(metric: Metric, values: Iterable[tuple[tuple[str, ...], Value]]) -> MetricFamily:
    if metric.kind is MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        for labels, value in values:
            if isinstance(value, Distribution):
                counts = map(float, accumulate(value.counts))
                histogram.add_metric(labels, list(zip(_BOUNDS, counts, strict=True)), value.sum_s)
        return histogram
    kind = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values:
        if not isinstance(value, Distribution):
            family.add_metric(labels, float(value))
    return family


class Exposition:
    """The text of /metrics, the same for all callers of one second."""

    def __init__(
        self, published: PublishedReport, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._registry = CollectorRegistry()
        self._registry.register(ReportCollector(published, now))
        ProcessCollector(registry=self._registry)
        self._text = b""
        self._rendered_at_s = -RENDER_INTERVAL_S

    def text(self) -> bytes:
        now_s = self._now()
        if now_s - self._rendered_at_s >= RENDER_INTERVAL_S:
            self._text = generate_latest(self._registry)
            self._rendered_at_s = now_s
        return self._text

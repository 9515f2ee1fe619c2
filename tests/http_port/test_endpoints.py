"""What the HTTP port answers from a published report."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import get, report, serving

from raftkv.http.exposition import RENDER_INTERVAL_S, Exposition
from raftkv.http.report import PublishedReport
from raftkv.metrics import table
from raftkv.metrics.histogram import SECONDS, Histogram
from raftkv.metrics.samples import SampleSet
from raftkv.metrics.table import METRICS, MetricKind


def test_a_node_without_a_majority_is_alive_but_not_ready() -> None:
    with serving(PublishedReport(report())) as port:
        assert get(port, "/livez") == (200, "ok\n")
        assert get(port, "/readyz") == (503, "[-] leader: no leader is known\nfailed\n")
        assert get(port, "/readyz?local") == (200, "ok\n")
        assert get(port, "/readyz?local&verbose").text.splitlines() == [
            "[+] event_loop", "[+] disk_write", "[+] in_service", "ok",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("age_s", "write_s", "alive", "ready", "named"),
    [
        (4.0, None, 200, 200, ""),
        (6.0, None, 200, 503, "event_loop"),
        (31.0, None, 503, 503, "event_loop"),
        (0.0, 4.0, 200, 200, ""),
        (0.0, 6.0, 200, 503, "disk_write"),
        (0.0, 31.0, 503, 503, "disk_write"),
        (20.0, 11.0, 503, 503, "disk_write"),  # it goes on while nothing is published
    ],
)
def test_an_event_loop_or_a_disk_that_stands_still_is_named(
    age_s: float, write_s: float | None, alive: int, ready: int, named: str
) -> None:
    with serving(PublishedReport(report(age_s=age_s, write_s=write_s))) as port:
        assert get(port, "/livez").status == alive
        answer = get(port, "/readyz?local")
        assert answer.status == ready
        assert f"[-] {named}" in answer.text if named else answer.text == "ok\n"


def test_the_version_is_json() -> None:
    with serving(PublishedReport(report())) as port:
        assert json.loads(get(port, "/version").text) == {"version": "1.2.3"}
        assert get(port, "/nothing").status == 404
        assert get(port, "/livez", method="POST").status == 405


def test_metrics_are_those_of_prometheus() -> None:
    samples = SampleSet()
    durations = Histogram()
    for seconds in (0.0001, 0.00011, 0.3, 99.0):
        durations.observe(seconds)
    samples.set(table.REQUEST_DURATION, durations.read(), "KV/Range")
    samples.set(table.REQUESTS, 3, "KV/Range", "ok")
    samples.set(table.REQUESTS, 1, "KV/Range", "overloaded")
    with serving(PublishedReport(report(samples=samples))) as port:
        text = get(port, "/metrics").text

    families = {each.name: each for each in text_string_to_metric_families(text)}
    requests = {each.labels["outcome"]: each.value for each in families["raftkv_requests"].samples}
    assert requests == {"ok": 3, "overloaded": 1}
    buckets = {
        each.labels["le"]: each.value
        for each in families["raftkv_request_seconds"].samples
        if each.name.endswith("_bucket")
    }
    assert len(buckets) == len(SECONDS) + 1
    assert (buckets["0.0001"], buckets["0.00025"], buckets["0.5"]) == (1, 2, 3)
    assert (buckets["10"], buckets["+Inf"]) == (3, 4)
    assert {"raftkv_ready", "process_resident_memory_bytes"} <= families.keys()


def test_metrics_are_rendered_once_a_second_at_most() -> None:
    now_s = 0.0
    published = PublishedReport(report())
    exposition = Exposition(published, lambda: now_s)
    first = exposition.text()
    samples = SampleSet()
    samples.set(table.TERM, 8)
    published.latest = report(samples=samples)

    now_s = RENDER_INTERVAL_S - 0.01
    assert exposition.text() is first
    now_s = RENDER_INTERVAL_S
    assert b"raftkv_raft_term 8.0" in exposition.text()


def test_names_follow_the_conventions_of_prometheus() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER), metric.name
        if metric.kind is MetricKind.HISTOGRAM:
            assert metric.name.endswith("_seconds"), metric.name
        for wrong in ("_ms", "_millis", "_mib", "_us"):
            assert not metric.name.endswith(wrong)
        assert metric.meaning.endswith("."), metric.name

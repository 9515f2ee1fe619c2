"""The alert rules for Prometheus: promtool tests them, and their metrics and run-books exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from raftkv.metrics.table import METRICS, MetricKind

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = (PROMETHEUS / "raftkv.rules.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)
@pytest.mark.parametrize(
    "arguments", ["check config prometheus.yml", "test rules raftkv.rules.test.yml"]
)
def test_promtool_finds_no_fault(arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments.split()], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_unit_test_in_which_it_fires() -> None:
    fired = re.findall(
        r"alertname: (\w+)\n +exp_alerts:\n", (PROMETHEUS / "raftkv.rules.test.yml").read_text()
    )
    assert sorted(fired) == sorted(ALERTS)


def test_each_alert_names_its_own_run_book() -> None:
    runbooks = (ROOT / "docs" / "operations" / "alerts.md").read_text()
    sections = re.findall(r"^## (\w+)$", runbooks, re.MULTILINE)
    assert sections == ALERTS
    named = re.findall(r"runbook: docs/operations/alerts.md#(\w+)", RULES)
    assert named == [alert.lower() for alert in ALERTS]


def test_the_rules_use_metrics_that_a_node_has() -> None:
    known = {metric.name for metric in METRICS}
    known |= {f"{each.name}_bucket" for each in METRICS if each.kind is MetricKind.HISTOGRAM}
    expressions = "\n".join(re.findall(r"expr: (.*)", RULES))
    used = set(re.findall(r"raftkv_\w+", expressions))
    assert used
    assert used <= known

"""The directory of a failed simulation, with the files of a real run."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import raftkv
from jepsen_lite.checkers import statistics
from jepsen_lite.sim.net.causality import trace
from jepsen_lite.sim.node_logs import recorded
from jepsen_lite.sim.report import commit, replay_command
from jepsen_lite.sim.run import Outcome, run
from jepsen_lite.store import FAULTS, HISTORY, MESSAGES, RunDirectory, Store
from jepsen_lite.verdicts import Finding, Problem, Validity


def keep(outcome: Outcome, store: Path) -> RunDirectory:
    """Write down all that is known of a run, in a new directory of the store.

    The run is repeated once more, to record the nodes' logs.
    """
    with recorded() as log:
        again = run(outcome.plan)
    directory = Store(store).new_run(f"sim-{outcome.plan.seed}", datetime.now(UTC))
    directory.write_test(_test(outcome))
    (directory.path / HISTORY).write_text(outcome.history.to_lines())
    _write_lines(directory.path / FAULTS, (record.to_json() for record in outcome.fault_records))
    messages = trace(outcome.happenings)
    _write_lines(directory.path / MESSAGES, (message.to_json() for message in messages))
    directory.logs.mkdir()
    for node, lines in log.items():
        (directory.logs / f"{node}.log").write_text("".join(f"{line}\n" for line in lines))
    directory.write_results([*outcome.findings, _statistics(outcome), *_compared(outcome, again)])
    return directory


def _write_lines(path: Path, found: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in found))


def _test(outcome: Outcome) -> Mapping[str, Any]:
    plan = outcome.plan
    return {
        "system": "simulated raftkv",
        "workloads": list(plan.workloads),
        "nemeses": sorted(outcome.faults),
        "nodes": [f"node-{number}" for number in range(1, plan.nodes + 1)],
        "seed": plan.seed,
        "scenario": plan.scenario,
        "commit": commit(),
        "options": {
            "seconds": plan.seconds,
            "concurrency": plan.clients * plan.workers_per_client,
            "rate": plan.clients * plan.workers_per_client / plan.think_s,
            "session_ttl_ms": plan.session_ttl_ms,
            "clock_skew": plan.clock_skew,
            **asdict(plan.tuning),
            "clients": asdict(plan.client_tuning),
            "connections": asdict(plan.client_conditions),
            "base": plan.base,
        },
        "command": ["jepsen-lite", *replay_command(outcome)],
        "versions": {"raftkv": raftkv.__version__, "python": platform.python_version()},
        "problems": list(outcome.problems),
        "failed_ns": None if outcome.failed_s is None else round(outcome.failed_s * 1e9),
        "ended_ns": round(outcome.simulated_s * 1e9),
    }


def _statistics(outcome: Outcome) -> Finding:
    names = outcome.plan.workloads
    return statistics.check([each for name in names for each in outcome.history.operations(name)])


def _compared(outcome: Outcome, again: Outcome) -> list[Finding]:
    """One seed, one run: where that is not so, the nodes' logs are of another one."""
    if again.problems == outcome.problems:
        return []
    ended = "; ".join(again.problems) or "without a problem"
    text = f"Done once more, the same plan ended otherwise: {ended}. The nodes' logs are of that."
    return [Finding("determinism", Validity.INVALID, (Problem(text),))]

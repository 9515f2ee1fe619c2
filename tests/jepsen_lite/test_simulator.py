"""One seed decides a run; the seeds of this list hold; and a failure is printed with its replay."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.history import Kind
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.sim import swarm
from jepsen_lite.sim.plan import Plan, draw_plan
from jepsen_lite.sim.reduction import shrunk
from jepsen_lite.sim.report import describe_failure, shell_line
from jepsen_lite.sim.run import run
from jepsen_lite.sim.swarm import draw, draw_swarm
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.catalogue import WORKLOADS

pytestmark = pytest.mark.usefixtures("quiet_nodes")

ROOT = Path(__file__).parent.parent.parent
SEEDS = (1, 3, 4, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 5, 6)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_store_holds_under_this_seed(seed: int) -> None:
    outcome = run(draw_plan(seed, seconds=10.0))
    assert not outcome.problems, describe_failure(outcome)
    assert outcome.operations["ok"] > 10
    assert not outcome.vacuous


def fingerprint(seed: int) -> str:
    lines = run(draw_swarm(seed, seconds=8.0)).history.to_lines()
    return hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.slow
def test_the_same_seed_twice_gives_the_same_bytes_and_another_seed_others() -> None:
    assert fingerprint(14) == fingerprint(14) != fingerprint(15)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    kept = []
    for hash_seed in ("0", "4711"):
        directory = tmp_path / hash_seed
        subprocess.run(
            [sys.executable, "-m", "jepsen_lite", "sim", "--seeds", "14", "--seconds", "8",
             "--keep", str(directory)],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join([str(ROOT / "jepsen-lite"), str(ROOT)]),
            },
            check=True,
            capture_output=True,
        )  # fmt: skip
        kept.append((directory / "14.jsonl").read_bytes())
    assert kept[0] == kept[1]
    assert hashlib.sha256(kept[0]).hexdigest() == fingerprint(14)


def test_a_failure_is_reduced_and_printed_with_the_command_that_replays_it() -> None:
    with MUTANTS["acknowledged-before-fsync"].planted():
        failed = run(draw_plan(12, seconds=10.0))
        smaller = shrunk(failed)
    assert smaller.problems
    assert len(smaller.plan.schedule) < len(failed.plan.schedule)
    output = describe_failure(smaller)
    assert f"sim --seeds {failed.plan.seed} --scenario anything --seconds 10 --log" in output
    assert smaller.problems[0] in output


def test_the_command_runs_seeds_and_prints_their_speed() -> None:
    result = CliRunner().invoke(app, ["sim", "--seeds", "3..4", "--seconds", "2"])
    assert result.exit_code == 0, result.output
    assert "seeds 3..4: all held" in result.output
    assert "simulated seconds per second" in result.output


def test_a_vacuous_seed_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def idle_seed_4(*asked: Any) -> Plan:
        plan = draw(*asked)
        return replace(plan, schedule=()) if plan.seed == 4 else plan

    monkeypatch.setattr(swarm, "draw", idle_seed_4)
    result = CliRunner().invoke(app, ["sim", "--seeds", "3..4", "--seconds", "2"])
    assert result.exit_code == 3, result.output
    output = [line for line in result.output.splitlines() if line.startswith("vacuous")]
    assert output == ["vacuous: seed 4: no fault took effect"]


def test_a_run_without_seeds_is_vacuous() -> None:
    result = CliRunner().invoke(app, ["sim", "--seeds", "1..2", "--minutes", "0"])
    assert result.exit_code == 3, result.output
    assert "no seed was run" in result.output


@pytest.mark.parametrize("workload", ["register", "bank"])
def test_a_checker_that_breaks_is_a_problem_of_the_seed_and_is_replayed(
    workload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[Finding]:
        raise KeyError("unexpected")

    monkeypatch.setattr(type(WORKLOADS[workload]()), "check", broken)
    (seed,) = [each for each in range(1, 30) if workload in draw_plan(each, 2.0).workloads][:1]
    asked = ["sim", "--seeds", str(seed), "--scenario", "anything", "--seconds", "2"]
    asked += ["--no-reduce"]
    result = CliRunner().invoke(app, [*asked, "--store", str(tmp_path)])
    assert result.exit_code == 1, result.output
    assert f"seed {seed} of anything FAILED" in result.output
    assert f"{workload}: the checker itself failed" in result.output
    assert "KeyError: 'unexpected'" in result.output
    assert f"replay: {shell_line([*asked, '--log'])}" in result.output
    assert "report: " in result.output


def test_a_load_that_is_asked_for_is_done_where_nothing_is_broken() -> None:
    plan = replace(draw("load", 1, rate=40.0), schedule=(), seconds=10.0)
    outcome = run(plan)
    assert not outcome.problems
    assert plan.nodes == 3
    loaded = [
        event
        for event in outcome.history.events
        if event.kind is Kind.INVOKE and event.time_ns < plan.seconds * 1e9
    ]
    assert 0.85 * 40 < len(loaded) / plan.seconds < 1.1 * 40


def test_seeds_that_are_no_range_are_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["sim", "--seeds", "9..1"])
    assert result.exit_code == 2
    assert "write the smaller seed first" in result.output

"""One seed decides a run; the seeds of this list hold; and what fails is told so that it can be
replayed.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.history import Kind
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.sim.report import describe_failure
from jepsen_lite.sim.run import draw_plan, run
from jepsen_lite.sim.scenarios import draw
from jepsen_lite.sim.shrink import shrunk
from raftkv import logs

ROOT = Path(__file__).parent.parent.parent
SEEDS = range(1, 7)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    level = logs.get_level()
    logs.configure("console", "error", io.StringIO())
    yield
    structlog.reset_defaults()
    logs.set_level(level)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_store_holds_under_this_seed(seed: int) -> None:
    outcome = run(draw_plan(seed, seconds=10.0))
    assert not outcome.problems, describe_failure(outcome)
    assert outcome.operations["ok"] > 10
    assert outcome.faults


def fingerprint(seed: int) -> str:
    lines = run(draw_plan(seed, seconds=8.0)).history.to_lines()
    return hashlib.sha256(lines.encode()).hexdigest()


def test_the_same_seed_twice_gives_the_same_bytes_and_another_seed_others() -> None:
    assert fingerprint(14) == fingerprint(14) != fingerprint(15)


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


def test_a_failure_is_reduced_and_says_how_to_replay_it() -> None:
    with MUTANTS["acknowledged-before-fsync"].planted():
        failed = run(draw_plan(12, seconds=10.0))
        smaller = shrunk(failed)
    assert smaller.problems
    assert len(smaller.plan.schedule) < len(failed.plan.schedule)
    told = describe_failure(smaller)
    assert f"-m jepsen_lite sim --seeds {failed.plan.seed} --seconds 10 --log" in told
    assert smaller.problems[0] in told


def test_the_command_runs_seeds_and_tells_how_fast() -> None:
    result = CliRunner().invoke(app, ["sim", "--seeds", "3..4", "--seconds", "5"])
    assert result.exit_code == 0, result.output
    assert "seeds 3..4: all held" in result.output
    assert "simulated seconds per second" in result.output


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

"""The command that a failing run of a scenario prints shows the same failure again: of `sim`,
`mutants` and `soak`, and from the run's directory.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.commands import soak
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.mutants.hunt import hunt_clean
from jepsen_lite.power_cuts.recorder import missing
from jepsen_lite.sim.report import shell_line
from jepsen_lite.sim.scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("quiet_nodes")

ROOT = Path(__file__).parent.parent.parent
MUTANT = "longer-is-newer"
ASKED = ["sim", "--scenario", "relays", "--seeds", "1..2"]
FAILURE = re.compile(r"^seed .*?(?=^replay: )", re.MULTILINE | re.DOTALL)


@pytest.fixture
def planted(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python has the bug, and that is no part of this checkout."""
    (tmp_path / "sitecustomize.py").write_text(
        "from jepsen_lite.mutants.catalogue import MUTANTS\n"
        f"bug = MUTANTS[{MUTANT!r}].planted()\n"
        "bug.__enter__()\n"
    )
    path = os.pathsep.join(map(str, (tmp_path, ROOT / "jepsen-lite", ROOT)))
    return {**os.environ, "PYTHONPATH": path}


def failure_of(printed: str) -> str:
    """The printed description: seed, commit, what broke and the faults that were left."""
    (description,) = FAILURE.findall(printed)
    return str(description)


def command_of(printed: str) -> str:
    (line,) = re.findall(r"^replay: (.*)$", printed, re.MULTILINE)
    return str(line)


def typed(line: str, environment: dict[str, str], directory: Path) -> str:
    ended = subprocess.run(
        line,
        shell=True,
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_printed_command_and_the_directory_show_the_same_failure(
    planted: dict[str, str], tmp_path: Path
) -> None:
    with MUTANTS[MUTANT].planted():
        printed = CliRunner().invoke(app, [*ASKED, "--store", str(tmp_path / "store")]).output
    description = failure_of(printed)
    assert description.startswith("seed 1 of relays FAILED (commit ")
    assert "leader completeness" in description
    assert failure_of(typed(command_of(printed), planted, tmp_path)) == description
    again = typed(shell_line(["replay", str(tmp_path / "store" / "latest")]), planted, tmp_path)
    assert failure_of(again) == description


@pytest.mark.slow
def test_a_false_alarm_of_the_mutants_prints_the_command_that_replays_it(
    planted: dict[str, str], tmp_path: Path
) -> None:
    with MUTANTS[MUTANT].planted():
        alarm = hunt_clean("relays", range(1, 2))
    assert alarm.problem in alarm.report
    again = typed(command_of(alarm.report), planted, tmp_path)
    assert failure_of(again) == failure_of(alarm.report)


@pytest.mark.slow
def test_soak_prints_the_command_that_replays_a_failing_seed(
    planted: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*ASKED, "--no-reduce", "--store", str(tmp_path / "store")]
    monkeypatch.setattr(soak, "choose", lambda *_: asked)
    monkeypatch.setenv("PYTHONPATH", planted["PYTHONPATH"])
    result = CliRunner().invoke(app, ["soak", "--minutes", "0.1", "--store", str(tmp_path)])
    assert result.exit_code == 1, result.output
    description = failure_of(result.output)
    assert failure_of(typed(command_of(result.output), planted, tmp_path)) == description


def test_the_arguments_that_soak_draws_are_valid(tmp_path: Path) -> None:
    chosen = [soak.choose(soak.random.Random(seed), 1, tmp_path) for seed in range(40)]
    named = {each[each.index("--scenario") + 1] for each in chosen if "--scenario" in each}
    of_storage = set() if missing() else {"power-cuts"}
    assert {"sim", "run"} | of_storage == {each[0] for each in chosen}
    assert 3 < len(named) <= len(SCENARIOS)


def test_another_load_is_part_of_the_command(tmp_path: Path) -> None:
    asked = ["sim", "--seeds", "1", "--scenario", "power-cuts", "--rate", "80", "--no-reduce"]
    with MUTANTS["acknowledged-before-fsync"].planted():
        result = CliRunner().invoke(app, [*asked, "--store", str(tmp_path)])
    assert shell_line([*asked, "--log"]) in result.output


def test_a_mistyped_scenario_lists_the_names_and_a_scenario_refuses_another_length() -> None:
    unknown = CliRunner().invoke(app, ["sim", "--seeds", "1", "--scenario", "relay"])
    assert unknown.exit_code == 2
    assert all(name in unknown.output for name in SCENARIOS)
    longer = CliRunner().invoke(
        app, ["sim", "--seeds", "1", "--scenario", "relays", "--seconds", "60"]
    )
    assert longer.exit_code == 2
    assert "leave --seconds out" in longer.output


def test_list_names_the_scenarios(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["list", "--store", str(tmp_path)]).output
    assert all(re.search(rf"scenario +{name} ", listed) for name in SCENARIOS)

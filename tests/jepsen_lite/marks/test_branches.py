"""Branch coverage of production code, recorded by parts and put together."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.sim.coverage.branches import modules, never_taken, recorded, table
from raftkv.raft.progress import Progress


def acknowledge(match_index: int) -> None:
    progress = Progress(2, 1, 1)
    progress.match_index = 1
    progress.acknowledge(match_index)


def test_parts_count_together_and_what_was_never_taken_is_listed(tmp_path: Path) -> None:
    for match_index in (1, 2):  # one is no news, the other is
        with recorded(tmp_path):
            acknowledge(match_index)
    found = modules(tmp_path)
    (progress,) = [each for each in found if each.name == "raftkv/raft/progress.py"]
    both_ways = "if match_index <= self.match_index:"
    assert both_ways in map(str.strip, progress.lines)
    never = never_taken([progress])
    assert both_ways not in never
    assert "if self.replication is Replication.PROBE:" in never
    assert all(each.taken + len(each.never) == each.branches for each in found)
    assert "together" in table(found).splitlines()[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_nodes")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_command_prints_percentages_and_writes_the_rest(tmp_path: Path, jobs: str) -> None:
    command = ["sim", "--seeds", "1..2", "--scenario", "relays", "--branches", "--jobs", jobs]
    done = CliRunner().invoke(app, [*command, "--store", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "raftkv/raft/raft.py" in done.output
    assert "raftkv/raft/raft.py:" in (tmp_path / "branches.txt").read_text()

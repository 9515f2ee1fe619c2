"""jepsen-lite's pages name what there is: options, mutants, marks, files, and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from jepsen_lite.cli import app
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.power_cuts.mutants import STORAGE_MUTANTS
from jepsen_lite.sim.coverage.marks import MARKS
from jepsen_lite.sim.coverage.unexpected import UNEXPECTED
from jepsen_lite.workloads.catalogue import WORKLOADS

ROOT = Path(__file__).parents[2]
HOME = ROOT / "jepsen-lite"
PAGES = (HOME / "README.md", *sorted((HOME / "docs").glob("*.md")))
TEXT = "\n".join(page.read_text() for page in PAGES)
README = PAGES[0].read_text()
PLACES = (HOME, HOME / "jepsen_lite", ROOT)


def commands() -> TyperGroup:
    found = typer.main.get_command(app)
    assert isinstance(found, TyperGroup)
    return found


@pytest.mark.parametrize("name", sorted(commands().commands))
def test_each_command_and_each_of_its_options_is_described(name: str) -> None:
    assert f"`jepsen-lite {name}" in README
    options = [each for each in commands().commands[name].params if isinstance(each, TyperOption)]
    missing = [
        each.opts[0]
        for each in options
        if not any(text in TEXT for text in (*each.opts, *each.secondary_opts))
    ]
    assert not missing


def test_each_mutant_has_a_row_with_a_scenario_and_a_seed_that_it_is_hunted_in() -> None:
    page = (HOME / "docs" / "mutants.md").read_text()
    rows = re.findall(r"^\| ([\w-]+)(?: \([^)]*\))? \| ([\w-]+) (\d+) \|", page, re.MULTILINE)
    assert {name for name, _, _ in rows} == MUTANTS.keys()
    for name, scenario, seed in rows:
        assert scenario in MUTANTS[name].scenarios, name
        assert int(seed) in MUTANTS[name].seeds, name


def test_figures_of_the_readme_are_those_of_the_code() -> None:
    assert f"plants {len(MUTANTS)} bugs" in README
    expected = len(MARKS) - len(UNEXPECTED)
    assert f"There are {len(MARKS)}, of which the default run must reach {expected}" in README
    assert all(f"`{name}`" in README for name in STORAGE_MUTANTS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`([\w/-]+/[\w/.-]+\.(?:py|c|md|jsonl))`", text):
        assert any((place / path).exists() for place in PLACES), path


def test_each_workload_is_described() -> None:
    missing = [name for name in WORKLOADS if f"`{name}`" not in README]
    assert not missing

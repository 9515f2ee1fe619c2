"""The command, on a small tree that is mutated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.commands import mutate as command
from jepsen_lite.mutation.candidates import Target, candidates_of
from jepsen_lite.mutation.hunter import MutationHunter
from jepsen_lite.mutation.reach_map import ReachMap
from jepsen_lite.mutation.results import MutationVerdict

CODE = """
LIMIT = 3

def fits(size):
    return size < LIMIT

def count(items):
    found = 0
    for _ in items:
        found += 1
    return found

def wait(turns):
    while turns > 0:
        turns -= 1

def unused(value):
    return value + 1

def shown(value):
    return value * 2
"""
TESTS = """
from toy.sizes import count, fits, shown, wait

def test_sizes():
    assert fits(0)
    assert not fits(4)

def test_count():
    assert count([7, 7]) == 2

def test_wait():
    wait(3)

def test_shown():
    shown(1)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    for name, text in {
        "toy/__init__.py": "",
        "toy/sizes.py": CODE,
        "tests/test_sizes.py": TESTS,
        "pyproject.toml": "[tool.pytest.ini_options]\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(command, "CHECKOUT", root)
    monkeypatch.setattr(command, "CODE", ("toy",))
    monkeypatch.setattr(command, "TEST_FOLDERS", ("tests",))
    monkeypatch.setattr("jepsen_lite.mutation.hunter.LIMIT_S", 1.0)
    return root


def mutate(root: Path, *arguments: str) -> str:
    files = ["--results", str(root.parent / "results.jsonl"), "--store", str(root.parent)]
    ended = CliRunner().invoke(app, ["mutate", "--sample", "99", *files, *arguments])
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.mark.slow
def test_mutations_are_killed_or_survive_and_a_second_run_continues(toy: Path) -> None:
    before = {path: path.read_bytes() for path in toy.rglob("*.*") if path.is_file()}
    shown = mutate(toy, "--tests-only")
    lines = (toy.parent / "results.jsonl").read_text().splitlines()
    results = {fields["id"]: fields for fields in map(json.loads, lines)}
    verdicts = {each.removeprefix("toy/sizes.py:"): of["verdict"] for each, of in results.items()}
    assert verdicts == {
        "-:number:1": "survived the tests",  # 4, of which no test is near
        "-:number:2": "survived the tests",  # 2
        "fits:comparison:1": "survived the tests",
        "count:number:1": "killed by a test",
        "count:number:2": "killed by a test",
        "count:statement:1": "killed by a test",
        "count:number:3": "killed by a test",
        "count:number:4": "killed by a test",
        "wait:comparison:1": "survived the tests",
        "wait:condition:1": "survived the tests",
        "wait:number:1": "survived the tests",
        "wait:number:2": "survived the tests",
        "wait:statement:1": "killed by a timeout",
        "wait:number:3": "survived the tests",
        "wait:number:4": "killed by a timeout",
        "unused:sum:1": "survived the tests",
        "unused:number:1": "survived the tests",
        "unused:number:2": "survived the tests",
        "shown:number:1": "survived the tests",
        "shown:number:2": "survived the tests",
    }
    killed = results["toy/sizes.py:count:statement:1"]
    assert killed["by"] == "tests/test_sizes.py::test_count"
    assert "assert 0 == 2" in killed["detail"]
    assert results["toy/sizes.py:unused:sum:1"]["tests"] == 0
    assert "+    return size <= LIMIT" in shown
    assert "killed 7/20 (35.0 %)" in shown
    assert {path: path.read_bytes() for path in before} == before

    mutate(toy, "--explain", "toy/sizes.py:unused:sum:1", "nothing calls it")
    page = toy.parent / "page.md"
    again = mutate(toy, "--tests-only", "--report", str(page))
    assert len((toy.parent / "results.jsonl").read_text().splitlines()) == 21, "none was repeated"
    assert "explained: nothing calls it" in again
    assert "without 1 explained survivors 7/19" in page.read_text()
    assert "`+ return value - 1` | nothing calls it |" in page.read_text()


@pytest.mark.slow
def test_a_better_test_kills_a_survivor_that_is_tried_again(toy: Path) -> None:
    assert "survived the tests: toy/sizes.py:-:number:1" in mutate(toy, "--tests-only")
    tests = toy / "tests/test_sizes.py"
    tests.write_text(TESTS.replace("not fits(4)", "not fits(3)"))
    again = mutate(toy, "--tests-only", "--again")
    assert "killed by a test     toy/sizes.py:-:number:1" in again
    assert "killed by a test     toy/sizes.py:fits:comparison:1" in again


@pytest.mark.slow
def test_a_test_that_fails_without_the_mutation_too_kills_nothing(toy: Path) -> None:
    tests = toy / "tests/test_sizes.py"
    tests.write_text(
        f"{TESTS}\nimport os\n"
        f"RUNS = os.open({str(toy.parent / 'runs')!r}, os.O_RDWR | os.O_CREAT)\n"
        "def test_that_passes_once():\n"
        "    shown(1)\n"
        "    os.write(RUNS, b'.')\n"
        "    assert os.fstat(RUNS).st_size < 2\n"
    )
    assert "survived the tests   toy/sizes.py:shown:number:1" in mutate(toy, "--tests-only")


def test_the_sample_is_shown_before_anything_is_tried(toy: Path) -> None:
    shown = mutate(toy, "--list", "--seed", "5", "--sample", "2")
    assert shown == mutate(toy, "--list", "--seed", "5", "--sample", "2")
    assert shown.startswith("2 of 20 mutations, drawn by seed 5:\n  toy/sizes.py:")


@pytest.mark.slow
def test_a_seed_notices_what_no_test_reaches(tmp_path: Path) -> None:
    root, path = Path(__file__).parents[3], "raftkv/raft/raft.py"
    target = Target(root, command.CODE, command.GENERATED, tests=())
    reach = ReachMap(target, tmp_path / "map.json.gz")
    reach.map_seeds([1], lambda _: None)
    hunter = MutationHunter(target, reach, range(1, 2), commit="")
    candidates = candidates_of(path, (root / path).read_bytes())
    chosen = next(each for each in candidates if "_handle_request_vote:condition" in each.id)
    try:
        result = hunter.hunt(chosen)
    finally:
        hunter.close()
    assert (result.verdict, result.by) == (MutationVerdict.SEED, "seed 1")

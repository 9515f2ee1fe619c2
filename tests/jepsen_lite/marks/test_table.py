"""The table of marks, the wraps, and what several runs have reached together."""

from __future__ import annotations

import ast
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.sim import coverage
from jepsen_lite.sim.coverage import mark as mark_module
from jepsen_lite.sim.coverage import totals
from jepsen_lite.sim.coverage.families import families
from jepsen_lite.sim.coverage.mark import Mark
from jepsen_lite.sim.coverage.marks import MARKS, PLAIN_MARKS
from jepsen_lite.sim.coverage.observers import MarkCounter
from jepsen_lite.sim.coverage.totals import MarkTotals
from jepsen_lite.sim.coverage.unexpected import NAMES, UNEXPECTED
from jepsen_lite.sim.coverage.wraps import Wraps
from jepsen_lite.verdicts import EXIT_CODES, Validity
from raftkv.raft.raft import Raft

PACKAGE = Path(coverage.__file__).parent


def calls_of_reach() -> Iterator[ast.Call]:
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reach":
                yield node


def names_in(argument: ast.expr) -> Iterator[str]:
    match argument:
        case ast.Constant(value=str(name)):
            yield name
        case ast.IfExp(body=body, orelse=orelse):
            yield from names_in(body)
            yield from names_in(orelse)


def test_every_mark_of_its_own_name_is_counted_and_every_counted_name_is_in_the_table() -> None:
    counted = {name for call in calls_of_reach() for name in names_in(call.args[0])}
    assert counted == {mark.name for mark in PLAIN_MARKS}


def test_every_family_of_marks_is_counted() -> None:
    """Each function that makes names for the table is used by an observer, too."""
    makers = {
        name
        for name, value in vars(mark_module).items()
        if callable(value)
        and getattr(value, "__module__", "") == mark_module.__name__
        and name not in ("Mark", "kind_of")
    }
    used = {
        node.id
        for path in PACKAGE.glob("*.py")
        if path.stem not in ("mark", "families")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name)
    }
    assert makers
    assert makers <= used


def test_names_are_unique_and_every_mark_says_what_it_means() -> None:
    assert len(MARKS) == len(PLAIN_MARKS) + len(list(families()))
    for each in MARKS.values():
        assert each.meaning.endswith("."), each.name
        assert each.unexpected == each.unexpected.strip()


def test_every_reason_belongs_to_marks_and_no_mark_has_two() -> None:
    assert UNEXPECTED.keys() <= MARKS.keys()
    assert len(UNEXPECTED) == sum(map(len, NAMES.values()))


def test_a_name_that_is_not_in_the_table_is_no_mark() -> None:
    with pytest.raises(KeyError):
        MarkCounter.reach(MarkCounter.__new__(MarkCounter), "a mark that nobody has written down")


def test_wrapped_functions_are_as_before_in_the_end() -> None:
    wraps, seen = Wraps(), []

    @wraps.around(Raft, "tick")
    def tick(original, raft) -> None:
        seen.append(raft)

    before = Raft.tick
    with contextlib.suppress(RuntimeError), wraps.installed():
        Raft.tick("a raft")
        raise RuntimeError
    assert seen == ["a raft"]
    assert Raft.tick is before


def test_a_function_that_is_not_there_any_more_is_an_error() -> None:
    wraps = Wraps()
    wraps.around(Raft, "tick")(lambda original, raft: original(raft))
    wraps.around(Raft, "tock")(lambda original: original())
    before = Raft.tick
    with pytest.raises(KeyError), wraps.installed():
        pass
    assert Raft.tick is before


# ---- several runs ----------------------------------------------------------------------


@pytest.fixture
def three_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (Mark("one", "One."), Mark("two", "Two."), Mark("rare", "Rare.", "it takes luck"))
    monkeypatch.setattr(totals, "MARKS", {mark.name: mark for mark in table})


def after(*runs: dict[str, int]) -> MarkTotals:
    added = MarkTotals()
    for each in runs:
        added.add(Counter(each))
    return added


@pytest.mark.usefixtures("three_marks")
def test_an_expected_mark_that_no_run_reaches_is_named() -> None:
    found = after({"one": 5}, {"one": 1})
    assert found.short() == "marks: 1 of 3 reached; expected and never reached: two"
    assert after({"one": 1}, {"two": 1}).short().startswith("marks: 2 of 3 reached, all")


@pytest.mark.usefixtures("three_marks")
def test_the_whole_table_has_counts_runs_and_reasons() -> None:
    table = after({"one": 5}, {"one": 1}).table().splitlines()
    assert table[1].split() == ["6", "2", "one"]
    assert table[-2].strip() == "two (EXPECTED). Two."
    assert table[-1].strip() == "rare (not expected: it takes luck). Rare."


@pytest.mark.usefixtures("three_marks")
def test_a_mark_that_is_reached_often_should_be_expected() -> None:
    assert after(*[{"rare": 1}] * 99).outgrown == []
    assert after(*[{"one": 1}] * 93, *[{"rare": 2}] * 7).outgrown == []
    assert after(*[{"one": 1}] * 92, *[{"rare": 2}] * 8).outgrown == ["rare"]
    assert "  rare" in after(*[{"rare": 1}] * 100).table().splitlines()


@pytest.mark.usefixtures("three_marks")
def test_a_hundred_runs_must_reach_every_expected_mark() -> None:
    assert after(*[{"one": 1}] * 99).shortfall == []
    assert after(*[{"one": 1}] * 100).shortfall == ["an expected mark was never reached: two"]
    assert after(*[{"one": 1}] * 99, {"two": 1}).shortfall == []


@pytest.mark.usefixtures("quiet_nodes")
def test_a_default_run_that_misses_a_mark_is_vacuous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "SEEDS_MIN", 1)
    done = CliRunner().invoke(app, ["sim", "--seeds", "1"])
    assert done.exit_code == EXIT_CODES[Validity.VACUOUS]
    assert "vacuous: an expected mark was never reached: " in done.output


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_nodes")
@pytest.mark.parametrize(
    "option", [("--scenario", "snapshots"), ("--workload", "register"), ("--seconds", "2")]
)
def test_no_mark_is_asked_of_a_run_with_options(
    option: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "SEEDS_MIN", 1)
    aimed = CliRunner().invoke(app, ["sim", "--seeds", "1", *option])
    assert "an expected mark" not in aimed.output
    assert "expected and never reached" in aimed.output

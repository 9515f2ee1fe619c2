"""Planted bugs leave no trace in raftkv; those that are quick to find are found here."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.mutants.hunt import HuntVerdict, hunt
from jepsen_lite.mutants.mutant import Mutant, Patch
from jepsen_lite.sim.report import describe_failure
from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS
from raftkv.raft.raft import Raft

pytestmark = pytest.mark.usefixtures("quiet_nodes")

ROWS = 66
"""Of faults.md, and what was found outside the assumptions that it makes."""

QUICK = (
    ("vote-before-the-write", "elections", 1),
    ("longer-is-newer", "relays", 1),
    ("acknowledged-before-fsync", "power-cuts", 1),
    ("reads-before-the-first-commit", "fresh-leaders", 3),
    ("snapshot-without-data", "snapshots", 1),
    ("no-voter-counts-itself", "leaving-leaders", 1),
    ("cluster-time-starts-again", "coordination", 1),
    ("strangers-are-members", "strangers", 1),
    ("states-are-not-compared", "wrong-states", 1),
    ("upkeep-leaves-leases", "coordination", 1),
    ("page-skips-a-key", "anything", 1),
    ("compaction-removes-too-much", "compactions", 1),
    ("compaction-does-not-wait", "bounded-history", 1),
)


LONGER = (
    ("late-is-failed", "relays", 10),
    ("snapshot-sent-unverified", "damage", 1),
    ("snapshot-installed-unverified", "damage", 1),
    ("only-the-old-voters-are-counted", "forgotten-nodes", 1),
    ("silence-is-an-empty-disk", "emptied-disks", 4),
    ("an-emptied-disk-takes-its-old-part", "emptied-disks", 1),
    ("version-raised-by-a-majority", "older-programs", 1),
    ("holder-watches-no-key", "removals", 1),
    ("removal-spares-its-own-run", "compactions", 2),
    ("a-follower-needs-the-present-only", "bounded-history", 1),
    ("bounds-of-staleness-hold-nobody-back", "breadth", 3),
    ("rights-only-at-the-door", "rights", 1),
    ("rights-of-the-revision-before-are-good-enough", "rights", 1),
    ("session-of-another-user-accepted", "rights", 1),
)
"""They take from 0.6 to 2 seconds each."""


def test_every_row_has_a_mutant() -> None:
    assert len({mutant.row for mutant in MUTANTS.values()}) == ROWS


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_has_a_story_and_leaves_no_trace(mutant: Mutant) -> None:
    assert mutant.story
    assert set(mutant.scenarios) <= SCENARIOS.keys()
    patches = mutant.make()
    before = [getattr(owner, attribute) for owner, attribute, _ in patches]
    with mutant.planted():
        planted = [getattr(owner, attribute) for owner, attribute, _ in patches]
        assert all(now is not then for now, then in zip(planted, before, strict=True))
    assert [getattr(owner, attribute) for owner, attribute, _ in patches] == before


@pytest.mark.parametrize(
    ("name", "scenario", "seed"),
    [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in LONGER)],
)
def test_a_planted_bug_is_caught(name: str, scenario: str, seed: int) -> None:
    ended = hunt(replace(MUTANTS[name], scenarios=(scenario,), seeds=range(seed, seed + 1)))
    assert ended.verdict is HuntVerdict.CAUGHT, ended


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_store_holds_in_this_scenario(scenario: str) -> None:
    outcome = run(SCENARIOS[scenario](7))
    assert not outcome.problems, describe_failure(outcome)
    assert outcome.operations["ok"] > 10
    assert not outcome.vacuous


def planting(*patches: Patch) -> Mutant:
    return Mutant("dummy", "", "", lambda: list(patches), ("relays",), range(1, 3), "went back")


def test_a_patch_that_no_longer_fits_production_code_is_broken() -> None:
    def too_few_arguments(self: Raft) -> None:
        raise AssertionError

    at_run_time = hunt(planting((Raft, "_handle_request_vote", too_few_arguments)))
    assert at_run_time.verdict is HuntVerdict.BROKEN
    assert "stopped itself: TypeError" in at_run_time.problem
    renamed = hunt(planting((Raft, "no_such_method", None)))
    assert renamed.verdict is HuntVerdict.BROKEN
    assert "AttributeError" in renamed.problem


def test_a_problem_that_does_not_match_caught_by_is_missed() -> None:
    patches = MUTANTS["longer-is-newer"].make()
    missed = hunt(planting(*patches))
    assert missed.verdict is HuntVerdict.MISSED
    assert missed.runs == 2
    assert "leader completeness" in missed.problem


def test_the_command_names_a_broken_mutant_and_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = replace(planting((Raft, "no_such_method", None)), name="longer-is-newer")
    monkeypatch.setitem(MUTANTS, broken.name, broken)
    result = CliRunner().invoke(app, ["mutants", broken.name, "--jobs", "1"])
    assert result.exit_code == 1, result.output
    assert re.search("^broken +longer-is-newer: .*AttributeError", result.output, re.MULTILINE)
    assert result.output.splitlines()[-1] == "mutants: caught 0/1, false alarms 0"


def test_the_command_prints_what_was_caught_and_a_bar_that_stays_out_of_a_file() -> None:
    terminal = CliRunner(env={"FORCE_COLOR": "1"})
    result = terminal.invoke(app, ["mutants", "match-follows-the-message", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "caught  match-follows-the-message" in result.stdout
    assert result.stdout.splitlines()[-1] == "mutants: caught 1/1, false alarms 0"
    assert "hunts" in result.stderr
    assert "hunts" not in result.stdout


def test_a_mutant_that_does_not_exist_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["mutants", "no-such-bug"])
    assert result.exit_code == 2
    assert "no such mutant: no-such-bug" in result.output

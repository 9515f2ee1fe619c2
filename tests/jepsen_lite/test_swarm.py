"""The default run: what its seeds draw, and that they can be drawn again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.faults.kinds import ClockJump, ClockRate
from jepsen_lite.sim.report import describe_failure
from jepsen_lite.sim.run import SWARM, Plan, run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.swarm import ANOTHER_LENGTH, SMALL_REPLY_BYTES, base_of, draw, draw_swarm
from jepsen_lite.workloads.catalogue import NEEDS_STEADY_CLOCKS, WORKLOADS

pytestmark = pytest.mark.usefixtures("quiet_nodes")

SEEDS = range(1, 201)


def has_steady_clocks(plan: Plan) -> bool:
    rates = any(isinstance(fault, ClockJump | ClockRate) for fault in plan.schedule)
    return plan.clock_skew <= 0.03 and not rates


def test_a_hundred_seeds_are_based_on_every_scenario() -> None:
    bases = [base_of(seed) for seed in range(1, 101)]
    assert set(bases) == SCENARIOS.keys() - ANOTHER_LENGTH
    assert min(bases.count(name) for name in set(bases)) >= 2


def test_a_plan_can_be_drawn_again_from_its_seed_and_its_length() -> None:
    for seed in range(1, 60):
        plan = draw_swarm(seed)
        assert draw_swarm(seed, plan.seconds) == plan


def test_what_needs_steady_clocks_has_them() -> None:
    plans = [draw_swarm(seed) for seed in SEEDS]
    plans += [draw("anything", seed, ("lock", "staleness")) for seed in SEEDS]
    needing = [plan for plan in plans if NEEDS_STEADY_CLOCKS & set(plan.workloads)]
    assert all(map(has_steady_clocks, needing))
    assert not all(map(has_steady_clocks, plans))


def test_workloads_that_are_asked_for_have_the_bounds_and_the_connections_that_they_need() -> None:
    drawn = [draw_swarm(seed) for seed in SEEDS]
    assert any(plan.tuning.bounds.reply_bytes_max == SMALL_REPLY_BYTES for plan in drawn)
    assert any(plan.client_conditions.slow_answers for plan in drawn)
    asked = [draw(SWARM, seed, ("transactions", "removed-lock")) for seed in SEEDS]
    assert all(plan.tuning.bounds.reply_bytes_max > SMALL_REPLY_BYTES for plan in asked)
    assert not any(plan.client_conditions.slow_answers for plan in asked)


def test_all_workloads_are_drawn_and_half_of_the_clients_know_one_node() -> None:
    plans = [draw_swarm(seed) for seed in SEEDS]
    assert {name for plan in plans for name in plan.workloads} == WORKLOADS.keys()
    assert not any(plan.client_tuning.known_node(0) for plan in plans)
    clients = sum(plan.clients for plan in plans)
    knowing_one = sum(bool(node) for plan in plans for node in plan.client_tuning.known_nodes)
    assert 0.4 < knowing_one / clients < 0.6


@pytest.mark.parametrize("seed", [1, 5])
def test_the_store_holds_under_a_seed_of_the_default_run(seed: int) -> None:
    outcome = run(draw_swarm(seed))
    assert not outcome.problems, describe_failure(outcome)
    assert not outcome.vacuous


def test_the_workloads_that_are_asked_for_run_and_are_part_of_the_command() -> None:
    asked = ["sim", "--seeds", "9", "--workload", "bank,set", "--seconds", "3"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    plan = draw("swarm", 9, ("bank", "set"), 3.0)
    outcome = replace(run(plan), problems=("something",))
    assert {event.workload for event in outcome.history.events} == {"bank", "set"}
    assert "sim --seeds 9 --seconds 3 --workload bank,set --no-reduce" in describe_failure(outcome)


def test_a_mistyped_workload_lists_the_names() -> None:
    result = CliRunner().invoke(app, ["sim", "--seeds", "1", "--workload", "bnak"])
    assert result.exit_code == 2
    assert all(name in result.output for name in ("bnak", "bank", "removed-leader"))


def test_the_default_run_of_a_mutant_says_what_it_found() -> None:
    asked = ["mutants", "--default", "--seeds", "1..2", "--jobs", "1", "vote-before-the-write"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "caught  vote-before-the-write" in result.output
    assert "mutants: found 1/1 by the default run, 0 of them" in result.output

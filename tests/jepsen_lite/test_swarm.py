"""The default run: what its seeds draw, and that they can be drawn again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.faults.kinds import (
    NEWEST,
    ClockJump,
    ClockRate,
    EmptyDisk,
    ForeignCopy,
    OlderCopy,
)
from jepsen_lite.sim.net.client_conditions import ClientConditions
from jepsen_lite.sim.nodes.settings import NodeBounds
from jepsen_lite.sim.plan import Plan
from jepsen_lite.sim.report import describe_failure
from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.swarm import ANOTHER_LENGTH, base_of, draw, draw_swarm
from jepsen_lite.workloads.catalogue import NEEDS_STEADY_CLOCKS, WORKLOADS
from raftkv.rpc.v1 import api_pb2
from raftkv.server.reads import ReadLevels

pytestmark = pytest.mark.usefixtures("quiet_nodes")

SEEDS = range(1, 201)


def has_steady_clocks(plan: Plan) -> bool:
    rates = any(isinstance(fault, ClockJump | ClockRate) for fault in plan.schedule)
    return plan.clock_skew <= 0.03 and not rates


def test_a_hundred_seeds_are_based_on_every_scenario() -> None:
    bases = [base_of(seed) for seed in range(1, 101)]
    assert set(bases) == SCENARIOS.keys() - ANOTHER_LENGTH
    assert min(bases.count(name) for name in set(bases)) >= 2


def test_a_hundred_seeds_have_every_way_to_lose_or_copy_a_disk() -> None:
    plans = [draw_swarm(seed) for seed in range(1, 101)]
    faults = [fault for plan in plans for fault in plan.schedule]
    older = [fault for fault in faults if isinstance(fault, OlderCopy)]
    ways = {(fault.restarted, bool(fault.power_cuts)) for fault in older}
    assert {(False, False), (False, True), (True, True)} <= ways
    assert any(isinstance(fault, ForeignCopy) for fault in faults)
    emptied = [fault.nodes for fault in faults if isinstance(fault, EmptyDisk)]
    assert (NEWEST,) in emptied
    assert any(len(nodes) > 1 and "node-1" in nodes for nodes in emptied)
    assert any(plan.founding for plan in plans if plan.base == "emptied-disks")


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


@pytest.mark.parametrize("scenario", ["swarm", "slow-answers"])
def test_workloads_that_are_asked_for_get_replies_and_connections_that_they_need(
    scenario: str,
) -> None:
    for seed in SEEDS:
        large = draw(scenario, seed, ("transactions",)).tuning.bounds
        assert large.reply_bytes_max == NodeBounds().reply_bytes_max
        removed = draw(scenario, seed, ("removed-lock",)).client_conditions
        assert removed == ClientConditions()


def test_all_workloads_are_drawn_and_half_of_the_clients_know_one_node() -> None:
    plans = [draw_swarm(seed) for seed in SEEDS]
    assert {name for plan in plans for name in plan.workloads} == WORKLOADS.keys()
    assert not any(plan.client_tuning.known_node(0) for plan in plans)
    clients = sum(plan.clients for plan in plans)
    knowing_one = sum(bool(node) for plan in plans for node in plan.client_tuning.known_nodes)
    assert 0.4 < knowing_one / clients < 0.6


@pytest.mark.parametrize("seed", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_the_store_holds_under_a_seed_of_the_default_run(seed: int) -> None:
    outcome = run(draw_swarm(seed))
    assert not outcome.problems, describe_failure(outcome)
    assert not outcome.vacuous


@pytest.mark.slow
def test_a_lease_read_that_no_lease_confirms_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = ReadLevels.barrier

    def unconfirmed(self: ReadLevels, reads: api_pb2.ReadBatch, deadline: float) -> Any:
        by_lease = reads.level == api_pb2.READ_LEVEL_LEADER_LEASE
        return None if by_lease else barrier(self, reads, deadline)

    plan = draw_swarm(43)
    assert plan.client_tuning.lease_readers
    assert not run(plan).problems
    monkeypatch.setattr(ReadLevels, "barrier", unconfirmed)
    assert run(plan).problems[0].startswith("set: stale: ")


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

"""What is judged while faults last: leadership, queues, and the containers that nodes keep."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from jepsen_lite.faults.kinds import Isolate, Kill, Pause
from jepsen_lite.mutants.catalogue import MUTANTS
from jepsen_lite.mutants.hunt import HuntVerdict, hunt
from jepsen_lite.sim.checks.containers import containers
from jepsen_lite.sim.plan import SWARM, Plan
from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.swarm import draw
from raftkv.raft.raft import Raft

pytestmark = pytest.mark.usefixtures("quiet_nodes")

NODES = ("node-1", "node-2", "node-3")


def plan_with(*faults: Isolate | Kill | Pause) -> Plan:
    return replace(SCENARIOS["relays"](1), seconds=6.0, think_s=0.5, schedule=faults)


def test_a_leader_that_is_cut_off_steps_down_within_the_bound() -> None:
    assert not run(plan_with(Isolate(1.0, 4.0, "leader", True, True, clients_too=True))).problems


def test_the_pause_of_a_leader_is_no_part_of_its_time_without_a_majority() -> None:
    assert not run(plan_with(Pause(1.0, 4.0, "leader"))).problems


@pytest.mark.slow
def test_the_silence_of_a_node_before_its_vote_was_needed_is_no_part_of_it() -> None:
    """A leader of two nodes out of three removes itself by force while the third one is down."""
    plan = draw(SWARM, 8, ("session", "staleness", "rw-register", "append", "bank"))
    assert not run(plan).problems


def test_without_a_majority_a_missing_leader_is_no_problem() -> None:
    assert not run(plan_with(Kill(1.0, 7.0, NODES[:2], power=True))).problems


def test_a_healthy_majority_that_elects_no_leader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    become = Raft._become_pre_candidate

    def only_node_1(self: Raft) -> None:
        if self.node_id == 1 or self.current_term == 0:
            become(self)

    monkeypatch.setattr(Raft, "_become_pre_candidate", only_node_1)
    outcome = run(replace(plan_with(Kill(1.0, 9.0, NODES[:1], power=True)), seconds=9.0))
    assert "node-2, node-3 are a majority, healthy and connected" in outcome.problems[0]


@pytest.mark.parametrize(
    ("name", "scenario", "seed"),
    [
        ("leader-never-steps-down", "relays", 1),
        ("transfers-postpone-check-quorum", "anything", 10),
        ("lease-trusted-from-the-answer", "slow-answers", 2),
    ],
)
def test_a_planted_bug_is_caught(name: str, scenario: str, seed: int) -> None:
    ended = hunt(replace(MUTANTS[name], scenarios=(scenario,), seeds=range(seed, seed + 1)))
    assert ended.verdict is HuntVerdict.CAUGHT, ended


class Slotted:
    __slots__ = ("queue",)

    def __init__(self) -> None:
        self.queue = deque([1, 2])


class Outer:
    def __init__(self) -> None:
        self.by_name = {"a": Slotted()}
        self.text = "no container"


def test_containers_are_found_in_attributes_slots_and_other_containers() -> None:
    found = {name: len(each) for name, each in containers(Outer(), (__name__,))}
    assert found == {"Outer.by_name": 1, "Slotted.queue": 2}


def test_every_plan_of_relays_has_a_fault_that_begins() -> None:
    """Seeds 14 and 28 had rolling faults alone, which waited for what never happened."""
    for seed in (14, 28):
        assert isinstance(SCENARIOS["relays"](seed).schedule[-1], Kill)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [14, 28, 30, 35, 36, 51, 52, 60])
def test_a_plan_that_was_vacuous_is_so_no_longer(seed: int) -> None:
    outcome = run(SCENARIOS["relays"](seed))
    assert not outcome.problems
    assert not outcome.vacuous

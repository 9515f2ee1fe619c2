"""Simulated clients that know one node, and connections that are slow or overtake each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jepsen_lite.faults.kinds import MemberChange, NetworkConditions
from jepsen_lite.sim.clients import ClientTuning
from jepsen_lite.sim.net.client_conditions import ClientConditions
from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.net.pipes import Pipe
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.plan import Plan
from jepsen_lite.sim.run import run
from jepsen_lite.sim.scenarios import SCENARIOS
from jepsen_lite.sim.world import World

pytestmark = pytest.mark.usefixtures("quiet_nodes")


def calm(**changes: object) -> Plan:
    plan = replace(SCENARIOS["power-cuts"](1), schedule=(), seconds=3.0, workers_per_client=1)
    return replace(plan, **changes)  # type: ignore[arg-type]


def test_what_was_sent_before_a_stream_was_closed_still_arrives_and_nothing_else() -> None:
    world = World(1)
    network = SimulatedNetwork(world, NetworkConditions())
    arrived: list[bytes] = []
    finished: list[float] = []
    pipe = Pipe(world, network, "a", "b", arrived.append, lambda: None, lambda: 0.5)
    pipe.send(b"before")
    pipe.finish(lambda: finished.append(world.now_s))
    pipe.send(b"after")
    world.run_until(0.4)
    assert not arrived
    assert not finished
    world.run_until(1.0)
    assert arrived == [b"before"]
    assert len(finished) == 1


def test_a_closed_stream_behind_a_cut_ends_as_well() -> None:
    world = World(1)
    network = SimulatedNetwork(world, NetworkConditions())
    finished: list[bool] = []
    pipe = Pipe(world, network, "a", "b", lambda _: None, lambda: None)
    network.cut([("a", "b")])
    pipe.send(b"lost")
    pipe.finish(lambda: finished.append(True))
    world.run_until(20.0)
    assert finished == [True]


def test_slow_answers_make_operations_slow_until_everything_is_healed() -> None:
    conditions = ClientConditions(slow_answers=1.0, slow_answer_s_max=0.2)
    quick, slow = run(calm()), run(calm(client_conditions=conditions))
    assert not quick.problems + slow.problems
    assert slow.operations["ok"] < quick.operations["ok"] / 2


REMOVAL = MemberChange(1.0, 0.0, "node-2", add=True, add_first=True)


def test_a_client_whose_only_node_was_removed_is_not_expected_to_write() -> None:
    tuning = ClientTuning(known_nodes=("", "node-2", "node-3"))
    outcome = run(calm(client_tuning=tuning, schedule=(REMOVAL,), seconds=6.0))
    assert outcome.members_changed
    assert not outcome.problems


def test_a_client_whose_only_node_is_a_member_must_be_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Cluster, "in_service", lambda *_: True)
    tuning = ClientTuning(known_nodes=("", "node-2", "node-3"))
    outcome = run(calm(client_tuning=tuning, schedule=(REMOVAL,), seconds=6.0))
    assert "none of its operations has succeeded" in outcome.problems[0]

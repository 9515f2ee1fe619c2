"""How long leases live in a simulated cluster, as its clients see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jepsen_lite.faults.kinds import Kill, NetworkConditions, Schedule
from jepsen_lite.history import answered, began_ns, ended_ns, returned
from jepsen_lite.sim.checks.state_machine import SeenLeases, check_leases
from jepsen_lite.sim.checks.violation import Violation
from jepsen_lite.sim.plan import draw_plan
from jepsen_lite.sim.run import Outcome, run
from raftkv.kv.limits import Limits
from raftkv.kv.machine import StateMachine
from raftkv.kv.records import lease_key, pack_lease
from raftkv.kv.store import Family
from raftkv.node.clocks import ClusterClock
from raftkv.storage.memory_state import MemoryStateStore

pytestmark = pytest.mark.usefixtures("quiet_nodes")

NODES = ("node-1", "node-2", "node-3")


def outcome_of(seconds: float, schedule: Schedule = ()) -> Outcome:
    plan = replace(
        draw_plan(1, seconds),
        nodes=len(NODES),
        clients=2,
        workers_per_client=3,
        think_s=0.1,
        session_ttl_ms=5_000,
        clock_skew=0.03,
        conditions=NetworkConditions(),
        schedule=schedule,
        workloads=("register", "set", "lease"),
    )
    return run(plan)


def test_leases_outlive_an_outage_however_long_it_takes() -> None:
    outage_s = 25.0
    outcome = outcome_of(30.0, (Kill(2.0, outage_s, NODES, power=True),))
    assert not outcome.problems
    operations = list(outcome.history.operations("lease"))
    granted_ns = {each.invocation.key: ended_ns(each) for each in answered(operations, "grant")}
    ages_ns = [
        began_ns(each) - granted_ns[each.invocation.key]
        for each in answered(operations, "look")
        if returned(each)
    ]
    assert max(ages_ns) > outage_s * 1e9


def test_leases_that_a_slow_cluster_clock_keeps_alive_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_ms = ClusterClock.read_ms
    monkeypatch.setattr(ClusterClock, "read_ms", lambda clock, now_s: read_ms(clock, now_s / 3))
    start = ClusterClock.start
    monkeypatch.setattr(
        ClusterClock, "start", lambda clock, at_ms, now_s: start(clock, at_ms, now_s / 3)
    )
    outcome = outcome_of(12.0)
    assert any("after it had to be gone" in problem for problem in outcome.problems)


def test_leases_of_a_damaged_state_are_compared_with_nothing() -> None:
    store = MemoryStateStore()
    store.write({Family.LEASES: {lease_key(7): pack_lease(1_000, 900)}})
    machine, before = StateMachine(store, Limits()), SeenLeases(0, {7: (1_000, 800)})
    with pytest.raises(Violation, match="it was not renewed"):
        check_leases(1, machine, before, frozenset(), frozenset())
    store.damage(Family.LEASES, lease_key(7), 3)
    assert check_leases(1, machine, before, frozenset(), frozenset()) == SeenLeases(0)

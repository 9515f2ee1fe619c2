"""After healing, each waiter for a lock or an election comes to hold it: a run fails if a node
notifies no waiter, if a key outlives its holder, or if a waiter that gave up leaves its key.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from jepsen_lite.history import Kind
from jepsen_lite.sim.checks.model_comparison import ModelComparison
from jepsen_lite.sim.plan import Plan
from jepsen_lite.sim.run import Outcome, run
from jepsen_lite.sim.scenarios import SCENARIOS
from raftkv.client.coordination.queue import LockQueues
from raftkv.client.coordination.queue_entry import QueueEntry
from raftkv.kv.budget import Budget
from raftkv.kv.leases import Leases
from raftkv.kv.mvcc import Writer
from raftkv.kv.pace import Steps
from raftkv.kv.records import lease_key
from raftkv.server.services.lock_waits import LockWaits

pytestmark = pytest.mark.usefixtures("quiet_nodes")

ROOT = Path(__file__).parent.parent.parent


def plan_of(*workloads: str) -> Plan:
    """A run without faults: the liveness check comes after it."""
    return replace(SCENARIOS["coordination"](1), schedule=(), seconds=4.0, workloads=workloads)


def wakes_no_waiter(self: LockWaits, name: bytes) -> None:
    """A node that deletes the holder's key and notifies no waiter."""


def keeps_the_keys(self: Leases, lease: int, writer: Writer, budget: Budget) -> Steps[bool]:
    """A lease ends, and what was attached to it stays."""
    yield from ()
    found = self._leases.pop(lease)
    self._deadlines.remove((found.deadline_ms, lease))
    self._rows[lease_key(lease)] = None
    return True


async def stays_in_the_queue(
    self: LockQueues, name: bytes, ttl_ms: int, value: bytes, on_wait: Callable[[], None]
) -> QueueEntry:
    """A client that gives up waiting, and keeps its queue entry."""
    place, held = await self._join(name, ttl_ms, value)
    if not held:
        on_wait()
        await self._wait_until_first(place)
    return place


def failure(plan: Plan) -> str:
    outcome = run(plan)
    assert [each.checker for each in outcome.findings] == ["liveness"], outcome.problems
    (problem,) = outcome.problems
    return problem


@pytest.mark.parametrize(
    ("workload", "name"),
    [("lock", "lock/a"), ("fenced-lock", "fenced/lock"), ("election", "election")],
)
def test_a_waiter_that_is_not_notified_fails_the_run(workload: str, name: str) -> None:
    with mock.patch.object(LockWaits, "_check_first_waiter", wakes_no_waiter):
        problem = failure(plan_of(workload))
    assert f"{workload} {name} was not acquired within" in problem
    assert "client-" in problem.rpartition(";")[2]


@pytest.mark.parametrize("workload", ["lock", "election"])
def test_a_key_that_outlives_its_dead_holder_fails_the_run(workload: str) -> None:
    # The model of the state machine would see it first.
    with (
        mock.patch.object(Leases, "end", keeps_the_keys),
        mock.patch.object(ModelComparison, "applied"),
        mock.patch.object(ModelComparison, "compare_state"),
    ):
        problem = failure(plan_of(workload))
    assert "was not acquired within 3.5 s; client-1 and client-2 waited" in problem


def test_an_abandoned_queue_entry_fails_the_run() -> None:
    with mock.patch.object(LockQueues, "enter", stays_in_the_queue):
        problem = failure(plan_of("lock"))
    assert "was not acquired within 10 s" in problem


def held(outcome: Outcome, workload: str, take: str) -> list[tuple[str, int]]:
    taken = [
        each
        for each in outcome.history.operations(workload)
        if each.kind is Kind.OK and each.invocation.function == take
    ]
    return [(each.invocation.key, each.invocation.process) for each in taken]


@pytest.mark.parametrize(("workload", "take"), [("lock", "acquire"), ("election", "campaign")])
def test_each_client_holds_each_name_in_its_turn(workload: str, take: str) -> None:
    outcome = run(replace(plan_of(workload), seconds=0.5))
    assert not outcome.problems
    last = held(outcome, workload, take)
    for name in {name for name, _ in last}:
        # Three queue, one of them takes it once more and dies, the other two follow.
        assert len([each for each in last if each[0] == name]) >= 3 + 1 + 2


@pytest.mark.slow
def test_one_seed_hands_over_in_one_order_whatever_a_set_is_sorted_by(tmp_path: Path) -> None:
    for hash_seed in ("0", "4711"):
        path = os.pathsep.join([str(ROOT / "jepsen-lite"), str(ROOT)])
        subprocess.run(
            [sys.executable, "-m", "jepsen_lite", "sim", "--scenario", "candidates", "--rate", "30",
             "--seeds", "4", "--keep", str(tmp_path / hash_seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
            check=True,
            capture_output=True,
        )  # fmt: skip
    first, second = ((tmp_path / each / "4.jsonl").read_bytes() for each in ("0", "4711"))
    assert first == second
    assert b"at last" in first


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 3))]
)
def test_under_faults_each_waiter_holds_the_lock_in_the_end(seed: int) -> None:
    outcome = run(SCENARIOS["candidates"](seed))
    assert not outcome.problems
    assert outcome.faults

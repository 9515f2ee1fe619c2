"""After healing, new processes carry out the final operations, which must succeed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, cast

from jepsen_lite.clients.protocol import KvClient, OperationError
from jepsen_lite.clients.raftkv_errors import operation_error
from jepsen_lite.generators import EachOnce, Limit, Load, Phases
from jepsen_lite.history import History, Kind
from jepsen_lite.recorder import Recorder
from jepsen_lite.verdicts import Finding
from jepsen_lite.workers import PATIENCE_S, BoundClient, Workers
from jepsen_lite.workloads.base import Invocation, Session
from jepsen_lite.workloads.leases import LeaseWorkload
from raftkv.errors import LeaseNotFound, LockNotAcquired

READ, ACQUIRE = Invocation("read", "k"), Invocation("acquire", "k")


class Scripted:
    """Returns or raises what the test gave it."""

    name = "scripted"
    reads = frozenset({"read"})

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self._act = act

    def next(self, rng: Random, worker: int) -> Invocation:
        return READ

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        return self._act()

    def final(self) -> Sequence[Invocation]:
        return [ACQUIRE]

    def check(self, history: History) -> list[Finding]:
        return []


async def worked(workload: Scripted) -> tuple[History, list[str]]:
    """One worker reads, then does what is final; the history, and the problems."""
    loop, history = asyncio.get_running_loop(), History()
    recorder = Recorder(history, lambda: round(loop.time() * 1e9))
    workers = Workers([BoundClient(cast(KvClient, None), "node-1")], recorder, 1, loop.time)
    final = EachOnce(lambda: [(workload, each) for each in workload.final()])
    await workers.run(Phases([Limit(Load(workload), 1), final]))
    return history, workers.problems


async def test_final_operations_run_in_new_processes() -> None:
    """Through another client it need not see what the worker's own client saw."""
    history, problems = await worked(Scripted())
    before, final = history.operations("scripted")
    assert before.invocation.process != final.invocation.process
    assert problems == []


def failing(error: OperationError, times: float) -> Callable[[], None]:
    """That many times, after the read that comes first."""
    calls = 0

    def act() -> None:
        nonlocal calls
        calls += 1
        if 1 < calls <= 1 + times:
            raise error

    return act


async def test_a_lock_that_can_not_be_acquired_after_healing_is_a_problem() -> None:
    history, (problem,) = await worked(
        Scripted(failing(operation_error(LockNotAcquired("held")), float("inf")))
    )
    assert "acquire on k ended with LOCK_NOT_ACQUIRED after everything was healed" in problem
    assert history.events[-1].time_ns >= PATIENCE_S * 1e9


async def test_a_lock_may_be_held_for_a_while_yet() -> None:
    history, problems = await worked(Scripted(failing(operation_error(LockNotAcquired("held")), 5)))
    assert problems == []
    assert history.events[-1].kind is Kind.OK


async def test_a_rightful_refusal_counts_as_an_answer() -> None:
    history, problems = await worked(
        Scripted(failing(operation_error(LeaseNotFound("gone")), float("inf")))
    )
    assert problems == []
    assert [each.kind for each in history.operations("scripted")] == [Kind.OK, Kind.FAIL]


class Granting:
    """A client that grants any lease."""

    @property
    def leases(self) -> Granting:
        return self

    async def grant(self, ttl_s: float, *, timeout_s: float) -> int:
        return 1


async def test_a_lease_may_be_granted_for_a_worker_that_has_drawn_none() -> None:
    workload = LeaseWorkload()
    drawn = workload.next(Random(1), 0)
    session = Session(cast(KvClient, Granting()), 7, lambda fact: None)
    assert await workload.run(session, drawn, 1.0) == {"lease": 1}


async def test_a_worker_that_comes_back_late_is_granted_leases_that_last() -> None:
    """With many workloads on a busy machine, none of its revocations came before a lease's end."""
    workload, rng, loop = LeaseWorkload(), Random(1), asyncio.get_running_loop()
    session = Session(cast(KvClient, Granting()), 0, lambda fact: None)
    ttls_s = []
    for _ in range(6):
        await asyncio.sleep(7.0)
        granted = Invocation("grant", f"late-{loop.time()}", {"ttl_ns": 1_000_000_000})
        await workload.run(session, granted, 1.0)
        drawn = LeaseWorkload.next(workload, rng, 1)
        assert drawn.value["ttl_ns"] <= 10e9, "another worker"
        workload._names[0] = []
        ttls_s.append(workload.next(rng, 0).value["ttl_ns"] / 1e9)
        workload._names.clear()
    assert ttls_s[0] <= 10.0
    assert min(ttls_s[1:]) >= 20.0

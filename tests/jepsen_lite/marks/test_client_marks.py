"""Marks of clients and admission, observed at the parts that decide."""

from __future__ import annotations

import asyncio

import pytest

from jepsen_lite.sim.coverage.clients import observe_admission, observe_retries
from jepsen_lite.sim.coverage.commands import observe_proposals
from jepsen_lite.sim.coverage.membership import observe_departures
from jepsen_lite.sim.coverage.reads import observe_read_indexes
from raftkv.client.connection.throttle import CircuitBreaker, RetryBudget
from raftkv.errors import Overloaded, ShuttingDown
from raftkv.node.proposals import PendingProposals
from raftkv.node.read_barriers import ReadBarriers
from raftkv.node.removal import RemovalReports
from raftkv.server.admission import Admission

from .observed import observed


def test_a_breaker_opens_after_some_failures_and_is_probed() -> None:
    with observed(observe_retries) as reached:
        breaker = CircuitBreaker(failures_max=2, cool_down_s=1.0)
        breaker.begin(0.0)
        breaker.failed(0.0)
        assert not reached
        breaker.failed(0.0)
        breaker.begin(2.0)
    assert reached.keys() == {
        "a client's breaker opens",
        "a client probes a node behind an open breaker",
    }


def test_a_retry_waits_once_the_budget_is_spent() -> None:
    with observed(observe_retries) as reached:
        budget = RetryBudget(0.0, ratio=0.1, floor_per_s=1.0, burst=1)
        budget.reserve_s(0.0)
        assert not reached
        budget.reserve_s(0.0)
    assert reached.keys() == {"a client's retry waits for its budget"}


async def test_admission_refuses_above_a_bound_and_at_the_end() -> None:
    with observed(observe_admission) as reached:
        admission = Admission(requests_max=1, requests_per_client_max=9, bytes_max=99)
        share = admission.client("a")
        share.enter(1)
        assert not reached
        with pytest.raises(Overloaded):
            share.enter(1)
        assert reached.keys() == {"a node refuses a request above a bound"}
        admission.close()
        with pytest.raises(ShuttingDown):
            share.enter(1)
    assert "a stopping node refuses a request" in reached


async def test_writes_are_revived_under_a_later_leader_and_refused_above_a_bound() -> None:
    loop = asyncio.get_running_loop()
    with observed(observe_proposals) as reached:
        pending = PendingProposals(origin=1, count_max=1, bytes_max=99)
        future: asyncio.Future[bytes] = loop.create_future()
        pending.add(b"", future, 9.0, 0, 1)
        pending.take_unsent(1)
        pending.revive_before(1)
        assert not reached
        pending.revive_before(2)
        with pytest.raises(Overloaded):
            pending.add(b"", loop.create_future(), 9.0, 0, 1)
    assert reached.keys() == {
        "a write is proposed again under a later leader",
        "a node refuses a write: too many are pending",
    }


async def test_reads_ask_again_and_fail_without_a_leader() -> None:
    loop = asyncio.get_running_loop()
    with observed(observe_read_indexes) as reached:
        barriers = ReadBarriers(1)
        barriers.add(loop.create_future(), 9.0)
        barriers.ask(lambda _: True, 0.0)
        barriers.tick(0.1, lambda _: True, 2, 4)
        assert not reached
        barriers.tick(0.2, lambda _: True, 2, 4)
        assert reached.keys() == {"a read index is asked for again"}
        lost: asyncio.Future[None] = loop.create_future()
        barriers.add(lost, 9.0)
        barriers.ask(lambda _: False, 0.3)
        for _ in range(5):
            barriers.tick(0.4, lambda _: False, 99, 4)
    assert {"a read finds no leader to ask", "a read fails without a leader"} <= reached.keys()
    assert lost.exception() is not None


def test_unanimous_reports_are_how_a_node_learns_of_its_removal() -> None:
    with observed(observe_departures) as reached:
        reports = RemovalReports(ticks_min=1)
        reports.reported(2)
        reports.tick({2, 3}, {2, 3})
        assert not reached
        reports.reported(3)
        reports.tick({2, 3}, {2, 3})
    assert reached.keys() == {"a node learns of its removal from its peers"}

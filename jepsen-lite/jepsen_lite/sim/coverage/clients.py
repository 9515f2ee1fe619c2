"""Observes clients and admission: retries, breakers, leader search, bounds on requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.sim.coverage.mark import Reach
from jepsen_lite.sim.coverage.wraps import Wraps
from raftkv.client.connection.pending_calls import PendingCalls
from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.connection.retries import BatchReplies
from raftkv.client.connection.throttle import CircuitBreaker, RetryBudget
from raftkv.errors import OutcomeUnknown, RaftkvError, ShuttingDown
from raftkv.server.admission import Admission


def observe_retries(wraps: Wraps, reach: Reach) -> None:
    """What a client does when a node refuses, is slow or is gone."""

    @wraps.around(PendingCalls, "requeue_or_fail")
    def requeue_or_fail(
        original: Callable[..., bool], pending: PendingCalls, batch: Any, *args: Any, **kw: Any
    ) -> bool:
        again = original(pending, batch, *args, **kw)
        if again and batch.ambiguous:
            reach("a client sends a batch again whose outcome is unknown")
        elif again:
            reach("a client sends calls again that were not run")
        return again

    @wraps.around(BatchReplies, "_session_expired")
    def session_expired(original: Callable[..., None], replies: Any, batch: Any) -> None:
        if batch.ambiguous:
            reach("a session ends under a batch whose outcome is unknown")
        else:
            reach("a session ends under a batch that was not run")
        original(replies, batch)

    @wraps.around(CircuitBreaker, "failed")
    def failed(original: Callable[..., None], breaker: CircuitBreaker, now: float) -> None:
        original(breaker, now)
        if breaker.failures == breaker._failures_max:
            reach("a client's breaker opens")

    @wraps.around(CircuitBreaker, "begin")
    def begin(original: Callable[..., bool], breaker: CircuitBreaker, now: float) -> bool:
        probe = original(breaker, now)
        if probe:
            reach("a client probes a node behind an open breaker")
        return probe

    @wraps.around(RetryBudget, "reserve_s")
    def reserve_s(original: Callable[..., float], budget: RetryBudget, now: float) -> float:
        pause_s = original(budget, now)
        if pause_s > 0.0:
            reach("a client's retry waits for its budget")
        return pause_s

    @wraps.around(Pipeline, "move_to_leader")
    def move_to_leader(original: Callable[..., None], pipeline: Pipeline) -> None:
        before = pipeline._connection
        original(pipeline)
        if before is not None and pipeline._connection is not before:
            reach("a client moves to the leader")

    @wraps.around(Pipeline, "_on_end")
    def on_end(
        original: Callable[..., None], pipeline: Pipeline, connection: Any, error: RaftkvError
    ) -> None:
        if isinstance(error, OutcomeUnknown) and "fallen silent" in error.message:
            reach("a client leaves a silent node")
        if connection.in_flight:
            reach("a client's stream breaks with batches in flight")
        original(pipeline, connection, error)


def observe_admission(wraps: Wraps, reach: Reach) -> None:
    """Requests that a node does not let in."""

    @wraps.around(Admission, "enter")
    def enter(original: Callable[..., None], admission: Admission, *args: Any) -> None:
        try:
            original(admission, *args)
        except ShuttingDown:
            reach("a stopping node refuses a request")
            raise
        except RaftkvError:
            reach("a node refuses a request above a bound")
            raise

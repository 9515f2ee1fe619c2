"""Observes leases, locks, fences and cluster time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jepsen_lite.sim.coverage.mark import Reach
from jepsen_lite.sim.coverage.wraps import Wraps
from raftkv.client.connection.session import SessionKeeper
from raftkv.client.coordination.lease import LEASE_TRUST, NOT_RENEWED, KeptLease, KeptLeases
from raftkv.errors import FencedOff, LeaseNotFound
from raftkv.kv import locks
from raftkv.kv.commands import CommandRunner
from raftkv.kv.leases import Leases
from raftkv.kv.locks import QueueHeads
from raftkv.kv.machine import StateMachine
from raftkv.rpc.v1 import log_pb2


def observe_leases(wraps: Wraps, reach: Reach) -> None:
    """Leases in the state machine, and cluster time."""

    @wraps.around(CommandRunner, "_end_lease")
    def end_lease(
        original: Callable[..., Any], runner: CommandRunner, lease: int, budget: Any
    ) -> Any:
        living, left = lease in runner.leases, budget.deletions_left
        gone = yield from original(runner, lease, budget)
        reach("a lease is revoked" if living else "a lease expires")
        if budget.deletions_left < left:
            reach(
                "a revoked lease takes its keys along"
                if living
                else "an expired lease takes its keys along"
            )
        if not gone:
            reach("the end of a lease takes several entries")
        return gone

    @wraps.around(Leases, "renew")
    def renew(original: Callable[..., int], leases: Leases, lease: int) -> int:
        found = leases._leases.get(lease)
        if found is not None and 0 < found.deadline_ms - leases._meta.time_ms < found.ttl_ms / 4:
            reach("a lease is renewed in the last quarter of its time")
        if leases.is_ending(lease):
            reach("a lease is renewed after its end, before its removal")
        return original(leases, lease)

    @wraps.around(StateMachine, "_apply_stamped_batch")
    def apply_stamped_batch(
        original: Callable[..., Any], machine: StateMachine, entry: Any, applied: Any
    ) -> Any:
        before = len(applied)
        yield from original(machine, entry, applied)
        if len(applied) == before:
            reach("an entry without commands carries a time stamp")
            stamped = log_pb2.StampedBatch.FromString(entry.payload)
            if stamped.time_ms < machine._meta.time_ms:
                reach("a time stamp is behind cluster time")


def observe_kept_leases(wraps: Wraps, reach: Reach) -> None:
    """Leases that clients keep, and for how long they are trusted."""

    @wraps.around(KeptLeases, "_renewed")
    def renewed(
        original: Callable[..., None],
        leases: KeptLeases,
        due: list[KeptLease],
        sent_at: float,
        timeout_s: float,
        answer: Any,
    ) -> None:
        if answer.cancelled() or answer.exception() is not None:
            reach("a renewal fails")
        else:
            took_s = leases.loop.time() - sent_at
            if any(took_s > kept.ttl * (1 - LEASE_TRUST) for kept in due):
                reach("a lease is renewed with a late answer")
            if any(kept.id in answer.result() for kept in due):
                reach("a renewal finds that the store has ended the lease")
        original(leases, due, sent_at, timeout_s, answer)

    @wraps.around(KeptLease, "mark_lost")
    def mark_lost(original: Callable[..., None], kept: KeptLease, reason: str) -> None:
        if reason == NOT_RENEWED and not kept.lost.is_set():
            reach("a lease is no longer trusted, for lack of a renewal")
        original(kept, reason)

    @wraps.around(SessionKeeper, "_renewed")
    def session_renewed(
        original: Callable[..., None], keeper: Any, session: Any, done: Any
    ) -> None:
        if not done.cancelled() and isinstance(done.exception(), LeaseNotFound):
            reach("a session's renewal finds that it has ended")
        original(keeper, session, done)


def observe_locks(wraps: Wraps, reach: Reach) -> None:
    """Queues of locks, the cache of their heads, and fencing tokens."""

    @wraps.around(locks, "holder")
    def holder(
        original: Callable[..., Any], view: Any, name: bytes, heads: QueueHeads, pace: Any
    ) -> Any:
        first = 0 if heads.is_empty(name) else heads.first_token(name)
        found = yield from original(view, name, heads, pace)
        if first and (found is None or found.token != first):
            if found is None:
                reach("a queue's cached head is gone, and the queue is empty")
            else:
                reach("a queue's cached head is wrong and rebuilt")
        return found

    @wraps.around(QueueHeads, "changed")
    def changed(original: Callable[..., None], heads: QueueHeads, key: bytes) -> None:
        before = len(heads._sizes)
        original(heads, key)
        if len(heads._sizes) < before:
            reach("a queue's cached length is forgotten")

    @wraps.around(locks, "check_fence")
    def check_fence(original: Callable[..., Any], execution: Any, fence: Any) -> Any:
        try:
            yield from original(execution, fence)
        except FencedOff as fenced:
            view = execution.writer.overlay
            if locks.has_entry(view, fence.name, fence.token):
                reach("a fence is refused: its token waits or its lease is over")
            elif fenced.facts["holder_token"] == "0":
                reach("a fence is refused: nobody holds the lock")
            else:
                reach("a fence is refused: another token holds the lock")
            raise
        reach("a fence holds")

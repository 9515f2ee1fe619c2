"""Ends calls that nobody will answer any more, with the error that tells the truth about each."""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.client.connection.batches import Batch, CallQueue, QueuedCall
from raftkv.errors import (
    ConnectionFailed,
    OutcomeUnknown,
    RaftkvError,
    Unavailable,
    WrongCluster,
    from_wire,
)
from raftkv.rpc.v1 import kv_pb2


def expire_queue(lane: CallQueue, now: float, why: str) -> None:
    """Calls that never left, or were certainly not run, have changed nothing."""
    late = [call for call in lane.queue if call.deadline <= now]
    for call in late:
        set_error(call, lane.not_in_time(why))
    if late:
        waiting = [call for call in lane.queue if not call.future.done()]
        lane.queue.clear()
        lane.queue.extend(waiting)


def fail_once(calls: Iterable[QueuedCall], error: RaftkvError) -> None:
    """End those that are one attempt, with what has ended it: none of them was run."""
    for call in calls:
        if call.once:
            set_error(call, _not_run(error))


def expire_batch(batch: Batch, now: float, why: str) -> None:
    """Fail the calls of a sent batch whose own time is up; the batch goes on for the others."""
    batch.next_deadline = batch.deadline
    for call in batch.calls:
        if call.deadline <= now:
            set_error(call, unanswered(batch.lane, call, why))
        else:
            batch.next_deadline = min(batch.next_deadline, call.deadline)


def fail_queue(lane: CallQueue, gone: WrongCluster) -> None:
    """As `expire_queue`, of all calls: their cluster is gone."""
    for call in lane.queue:
        set_error(call, WrongCluster(gone.message))
    lane.queue.clear()


def cluster_gone(gone: WrongCluster) -> RaftkvError:
    """What a caller is told whose write was sent before its cluster was gone."""
    return OutcomeUnknown(
        f"the write was sent and may have been applied, but no answer can come: {gone.message}"
    )


def unanswered(lane: CallQueue, call: QueuedCall, why: str) -> RaftkvError:
    """What a caller is told whose call was sent and not answered."""
    if not lane.writes:
        return lane.not_in_time(why)
    return OutcomeUnknown(f"the write was sent and no answer came in time: {_advice(call)}")


def _not_run(error: RaftkvError) -> RaftkvError:
    if isinstance(error, Unavailable):
        return from_wire(
            error.reason, error.message, error.outcome, error.retry_after_s, error.facts
        )
    return ConnectionFailed(f"no answer came ({error}); try again, or with a timeout")


def _advice(call: QueuedCall) -> str:
    (command,) = kv_pb2.CommandBatch.FromString(call.piece).commands
    if command.idempotency_key:
        return (
            "it may have been applied; repeat it under the same idempotency key, and it runs once"
        )
    if command.HasField("lease_grant"):
        return "a lease may have been granted; if nobody renews it, it ends by itself"
    return "it may have been applied, or may be yet; read it back before you repeat it"


def set_error(call: QueuedCall, error: RaftkvError) -> None:
    """Fail the call, unless it is over."""
    if not call.future.done():
        call.future.set_exception(error)

"""Ends the calls whose time is up, with the error that tells the truth about each."""

from __future__ import annotations

from raftkv.client.lanes import Batch, Call, Lane
from raftkv.errors import OutcomeUnknown, RaftkvError


def expire_queue(lane: Lane, now: float) -> None:
    """Calls that never left, or were certainly not run, have changed nothing."""
    late = [call for call in lane.queue if call.deadline <= now]
    for call in late:
        set_error(call, lane.not_in_time())
    if late:
        waiting = [call for call in lane.queue if not call.future.done()]
        lane.queue.clear()
        lane.queue.extend(waiting)


def expire_batch(batch: Batch, now: float) -> None:
    """Fail the calls of a sent batch whose own time is up; the batch goes on for the others."""
    batch.next_deadline = batch.deadline
    for call in batch.calls:
        if call.deadline <= now:
            set_error(call, unanswered(batch))
        else:
            batch.next_deadline = min(batch.next_deadline, call.deadline)


def unanswered(batch: Batch) -> RaftkvError:
    """What a caller is told whose call was sent and not answered."""
    if batch.lane.writes:
        return OutcomeUnknown(
            "the write was sent and no answer came in time: it may have been applied; read it back,"
            " or repeat it under the same idempotency key"
        )
    return batch.lane.not_in_time()


def set_error(call: Call, error: RaftkvError) -> None:
    """Fail the call, unless it is over."""
    if not call.future.done():
        call.future.set_exception(error)

"""The calls of a client that are not in flight, and the errors that end them.

A call is queued until a batch takes it. It is deferred if a node has refused it with a retry-after.
A batch whose outcome is unknown waits here to be sent again unchanged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from raftkv.client.connection.batches import (
    Batch,
    CallQueue,
    ControlQueue,
    QueuedCall,
    QueueLevel,
    ReadQueue,
    WriteQueue,
)
from raftkv.client.settings import ClientSettings
from raftkv.errors import (
    ConnectionFailed,
    Outcome,
    OutcomeUnknown,
    PermissionDenied,
    RaftkvError,
    Unauthenticated,
    Unavailable,
    copy_of,
)
from raftkv.rpc.v1 import kv_pb2


class PendingCalls:
    """The queues of one pipeline, its deferred calls, and its batches that are to be sent again."""

    def __init__(
        self,
        settings: ClientSettings,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        revision_seen: Callable[[], int],
    ) -> None:
        self.control = ControlQueue(settings)
        self.writes = WriteQueue(settings)
        self.queues: tuple[CallQueue, ...] = (self.control, self.writes)
        self.resends: deque[Batch] = deque()
        self.trouble = ""  # the last refusal or silence since a majority has answered
        self._reads: dict[tuple[QueueLevel, bool], ReadQueue] = {}
        self._deferred: dict[QueuedCall, CallQueue] = {}
        self._settings = settings
        self._loop = loop
        self._wake = wake
        self._revision_seen = revision_seen

    def reads(self, level: QueueLevel, *, transactions: bool) -> ReadQueue:
        """The queue of the reads of a level. Do not keep it: one that is idle may be dropped."""
        queue = self._reads.get((level, transactions))
        if queue is None:
            queue = ReadQueue(self._settings, level, self._revision_seen)
            in_use = {key: each for key, each in self._reads.items() if each.in_use}
            self._reads = {**in_use, (level, transactions): queue}
            self.queues = (self.control, self.writes, *self._reads.values())
        return queue

    @property
    def has_work(self) -> bool:
        """Whether a call is queued or a batch is to be sent again."""
        return bool(self.resends) or any(queue.calls for queue in self.queues)

    def callers(self) -> Iterator[QueuedCall]:
        """The calls of callers that are queued or deferred: none of the client's own commands."""
        for queue in self.queues:
            if queue is not self.control:
                yield from queue.calls
        for call, queue in self._deferred.items():
            if queue is not self.control:
                yield call

    def requeue_or_fail(self, batch: Batch, error: RaftkvError, *, maybe_applied: bool) -> bool:
        """A batch was refused for now, or its connection broke with `error`.

        Returns False if no call of it is left to be sent again.
        """
        if batch.session is not None and (maybe_applied or batch.ambiguous):
            batch.ambiguous = True
            if all(call.future.done() for call in batch.calls):
                batch.settle()
                return False
            self.resends.appendleft(batch)
        else:
            batch.settle()
            fail_single_attempts(batch.calls, error)
            batch.queue.put_back(batch.calls)
        return True

    def defer(self, queue: CallQueue, call: QueuedCall, error: RaftkvError) -> None:
        """This call alone was refused for `error.retry_after_s`; the others of its queue go on."""
        if self._loop.time() + error.retry_after_s >= call.deadline:
            set_error(call, queue.not_in_time(error.message))
            return
        self._deferred[call] = queue
        self._loop.call_later(error.retry_after_s, self._requeue, call)

    def _requeue(self, call: QueuedCall) -> None:
        queue = self._deferred.pop(call, None)
        if queue is not None:
            queue.calls.append(call)
            self._wake()

    def _requeue_all(self) -> None:
        for call in list(self._deferred):
            self._requeue(call)

    # ---- errors ------------------------------------------------------------------------

    def fail_single_attempts(self, error: RaftkvError, *, stale_too: bool = False) -> None:
        """End the queued calls that are one attempt.

        A node has refused what needs a majority, or (`stale_too`) no node can be reached.
        """
        for queue in self.queues:
            if queue.needs_majority or stale_too:
                fail_single_attempts(queue.calls, error)

    def fail_all(self, error: RaftkvError) -> None:
        """No call can be run: the cluster is gone, or does not accept the client's user.

        What was sent before may have been applied.
        """
        resends, self.resends = self.resends, deque()
        for batch in resends:
            fail_batch(batch, lambda _: sent_before(error))
        self._requeue_all()
        for queue in self.queues:
            for call in queue.calls:
                set_error(call, copy_of(error))
            queue.calls.clear()

    def fail_writes(self, error: RaftkvError) -> None:
        """The session that the queued writes need is refused."""
        for call in self.writes.calls:
            set_error(call, copy_of(error))
        self.writes.calls.clear()

    def expire(self, now: float, why: str) -> None:
        """Fail the calls whose time is up."""
        for queue in self.queues:
            _expire_queue(queue, now, why)
        for batch in [batch for batch in self.resends if batch.next_deadline <= now]:
            expire_batch(batch, now, why)
            if batch.deadline <= now:
                self.resends.remove(batch)
                batch.settle()

    def close(self) -> None:
        """The client is closed: fail what has not been sent."""
        self._requeue_all()
        for queue in self.queues:
            for call in queue.calls:
                set_error(call, Unavailable("the client was closed before this was sent"))
            queue.calls.clear()
        self.resends.clear()


def fail_single_attempts(calls: Iterable[QueuedCall], error: RaftkvError) -> None:
    """End those that are one attempt, with what has ended it: none of them was run."""
    for call in calls:
        if call.once:
            set_error(call, _not_run(error))


def fail_batch(batch: Batch, error_for: Callable[[QueuedCall], RaftkvError]) -> None:
    """End all calls of a batch; it is not sent again."""
    batch.settle()
    for call in batch.calls:
        set_error(call, error_for(call))


def expire_batch(batch: Batch, now: float, why: str) -> None:
    """Fail the calls of a sent batch whose own time is up; the batch goes on for the others."""
    batch.next_deadline = batch.deadline
    for call in batch.calls:
        if call.deadline <= now:
            set_error(call, unanswered(batch.queue, call, why))
        else:
            batch.next_deadline = min(batch.next_deadline, call.deadline)


def unanswered(queue: CallQueue, call: QueuedCall, why: str) -> RaftkvError:
    """The error of a call that was sent and got no answer."""
    if not queue.writes:
        return queue.not_in_time(why)
    return OutcomeUnknown(f"the write was sent and no answer came in time: {_advice(call)}")


def set_error(call: QueuedCall, error: RaftkvError) -> None:
    """Fail the call, unless it is over."""
    if not call.future.done():
        call.future.set_exception(error)


def _expire_queue(queue: CallQueue, now: float, why: str) -> None:
    """Calls that were never sent, or were certainly not run, have changed nothing."""
    late = [call for call in queue.calls if call.deadline <= now]
    for call in late:
        set_error(call, queue.not_in_time(why))
    if late:
        waiting = [call for call in queue.calls if not call.future.done()]
        queue.calls.clear()
        queue.calls.extend(waiting)


def sent_before(error: RaftkvError) -> RaftkvError:
    """The error of a write that had been sent, and that `error` keeps from being sent again."""
    if isinstance(error, Unauthenticated | PermissionDenied):
        if error.outcome is Outcome.MAYBE_APPLIED:
            return copy_of(error)
        more = ". The write had been sent before, and may have been applied"
        return copy_of(error, outcome=Outcome.MAYBE_APPLIED, more=more)
    return OutcomeUnknown(
        f"the write was sent and may have been applied, but no answer can come: {error.message}"
    )


def _not_run(error: RaftkvError) -> RaftkvError:
    if isinstance(error, Unavailable):
        return copy_of(error)
    return ConnectionFailed(f"no answer came ({error}); try again, or with a timeout")


def _advice(call: QueuedCall) -> str:
    (command,) = kv_pb2.CommandBatch.FromString(call.piece).commands
    if command.idempotency_key:
        return (
            "it may have been applied; repeat it under the same idempotency key, and it runs once"
        )
    if command.HasField("lease_grant"):
        return "a lease may have been granted; if it is not renewed, it ends by itself"
    return "it may have been applied, or may be yet; read it back before you repeat it"

"""What the reply to a batch means for each of its calls: a result, an error, or another attempt."""

from __future__ import annotations

import asyncio

from raftkv.client.authentication import Authentication
from raftkv.client.connection.batches import Batch, QueuedCall
from raftkv.client.connection.endpoints import Endpoint, EndpointSelector
from raftkv.client.connection.pending_calls import (
    PendingCalls,
    fail_batch,
    fail_single_attempts,
    sent_before,
    set_error,
    unanswered,
)
from raftkv.client.connection.throttle import Throttle
from raftkv.client.settings import ClientSettings
from raftkv.errors import (
    NotServing,
    Outcome,
    Overloaded,
    PermissionDenied,
    RaftkvError,
    SessionExpired,
    ShuttingDown,
    TooLarge,
    Unauthenticated,
)
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.wire.failures import error_of

# With these a node refuses every request; without a majority it would still serve stale reads.
LEAVING = (ShuttingDown, NotServing)

# The server answers at a batch's deadline, a moment before or after the client notices it.
DEADLINE_TOLERANCE_S = 0.005


class BatchReplies:
    """Settles the batches of a pipeline by their replies, or takes them back to be sent again."""

    def __init__(
        self,
        pending: PendingCalls,
        selector: EndpointSelector,
        throttle: Throttle,
        settings: ClientSettings,
        loop: asyncio.AbstractEventLoop,
        authentication: Authentication,
    ) -> None:
        self._authentication = authentication
        self._pending = pending
        self._selector = selector
        self._throttle = throttle
        self._settings = settings
        self._loop = loop

    def answered(
        self,
        endpoint: Endpoint,
        batch: Batch,
        results: list[kv_pb2.Result],
        reply: api_pb2.PipelineReply,
    ) -> None:
        """The batch was run: each of its calls has a result, or a failure of its own."""
        endpoint.breaker.succeeded()
        self._authentication.accepted(batch.token)
        if batch.queue.needs_majority:
            self._throttle.answered()
            self._selector.answered()
            self._pending.trouble = ""
        self._selector.avoid(None)
        batch.queue.answered()
        batch.settle()
        if len(results) != len(batch.calls):
            self._fail_unanswered(batch)
            return
        refused: list[QueuedCall] = []
        decoded = batch.queue.decoded
        for call, result in zip(batch.calls, results, strict=True):
            future = call.future
            if future.done():
                continue
            if result.HasField("failure"):
                error = error_of(result.failure)
                if self._may_retry(batch, call, error):
                    if (
                        batch.queue is self._pending.control
                        and self._pending.writes.session is None
                    ):
                        # The queued writes need the session that this call was to open.
                        fail_single_attempts(self._pending.writes.calls, error)
                    if error.retry_after_s:
                        self._pending.defer(batch.queue, call, error)
                    else:
                        refused.append(call)
                else:
                    future.set_exception(error)
            else:
                future.set_result(decoded(call, result, reply))
        batch.queue.put_back(refused)

    def _may_retry(self, batch: Batch, call: QueuedCall, error: RaftkvError) -> bool:
        """Whether this call was refused only for the sake of the others in its batch, or for now.

        All of a batch share the space of one reply, so there may be none left for a call.
        """
        if isinstance(error, TooLarge) and batch.queue.writes and len(batch.calls) > 1:
            call.alone = True
            return True
        if error.outcome is not Outcome.SAFE_TO_RETRY:
            return False
        if call.once and (error.retry_after_s or len(batch.calls) == 1):
            return False
        # The first read of a reply always has space, so those that had none cost no token.
        if not isinstance(error, Overloaded):
            self._throttle.retried(self._loop.time())
        return True

    def note_refusal(self, endpoint: Endpoint, failure: kv_pb2.Failure) -> RaftkvError:
        """The error that a node has refused a batch or the greeting with."""
        error = error_of(failure)
        self._pending.trouble = f"the last answer: {endpoint.address}: {error.message}"
        if isinstance(error, LEAVING):
            endpoint.breaker.failed(self._loop.time())
        else:
            endpoint.breaker.succeeded()
        return error

    def refused(
        self, endpoint: Endpoint, batch: Batch, failure: kv_pb2.Failure, *, by_store: bool
    ) -> bool:
        """The node answered for the batch as a whole: it was not run, or may have been.

        `by_store`: the state machine has refused it, on all nodes alike. Returns whether another
        stream may do better, because this node has no leader or is going away, or because a new
        token is needed.
        """
        now = self._loop.time()
        error = self.note_refusal(endpoint, failure)
        maybe_applied = error.outcome is Outcome.MAYBE_APPLIED
        if isinstance(error, SessionExpired) and batch.session is not None:
            self._session_expired(batch)
        elif isinstance(error, Unauthenticated) and self._authentication.refused(
            batch.token, error
        ):
            self._unauthenticated(batch)
            return True
        elif error.outcome is Outcome.NOT_APPLIED or isinstance(error, PermissionDenied):
            self._rejected(batch, failure)
        elif now >= batch.deadline - DEADLINE_TOLERANCE_S:
            if batch.ambiguous or maybe_applied:
                self._fail_unanswered(batch)
            else:
                fail_batch(batch, lambda _: batch.queue.not_in_time(self._pending.trouble))
        else:
            self.requeue_or_fail(batch, error, maybe_applied=maybe_applied)
            self._pending.fail_single_attempts(error)
            if by_store and isinstance(error, Overloaded):
                # The store has no memory left for the results of this session; reads are served.
                pause_s = max(error.retry_after_s, self._settings.backoff_s_max)
                batch.queue.refused(self._pending.trouble, now + pause_s)
                return False
            self._throttle.refused(now, batch.sent_at, error.retry_after_s)
            return not isinstance(error, Overloaded)
        return False

    def requeue_or_fail(self, batch: Batch, error: RaftkvError, *, maybe_applied: bool) -> None:
        """A batch was refused for now, or its connection broke with `error`: send it again."""
        if self._pending.requeue_or_fail(batch, error, maybe_applied=maybe_applied):
            self._throttle.retried(self._loop.time())

    def _session_expired(self, batch: Batch) -> None:
        if self._pending.writes.session is batch.session:
            self._pending.writes.session = None
        if batch.ambiguous:
            self._fail_unanswered(batch)
        else:
            batch.queue.put_back(batch.calls)

    def _unauthenticated(self, batch: Batch) -> None:
        """Its token has ended: it is sent once more, on a stream with a new one."""
        self._throttle.retried(self._loop.time())
        if batch.ambiguous:
            self._pending.resends.appendleft(batch)
        else:
            batch.settle()
            batch.queue.put_back(batch.calls)

    def _rejected(self, batch: Batch, failure: kv_pb2.Failure) -> None:
        """A call in it can never work: fail that one, and send the others without it."""
        error = error_of(failure)
        position = _position(error, batch)
        if batch.ambiguous or error.outcome is Outcome.MAYBE_APPLIED:
            self._rejected_after_an_attempt(batch, error, position)
            return
        batch.settle()
        self._throttle.answered()
        self._selector.answered()
        if position is not None:
            set_error(batch.calls.pop(position), error)
            batch.queue.put_back(batch.calls)
        elif isinstance(error, TooLarge) and len(batch.calls) > 1:
            batch.queue.shrink()
            batch.queue.put_back(batch.calls)
        else:
            fail_batch(batch, lambda _: error_of(failure))

    def _rejected_after_an_attempt(
        self, batch: Batch, error: RaftkvError, position: int | None
    ) -> None:
        """The attempt before may have run it. A refusal for lack of rights is still reported."""
        refused = batch.calls if position is None else [batch.calls[position]]
        if isinstance(error, PermissionDenied | Unauthenticated):
            for call in refused:
                set_error(call, sent_before(error))
        self._fail_unanswered(batch)

    def _fail_unanswered(self, batch: Batch) -> None:
        fail_batch(batch, lambda call: unanswered(batch.queue, call, self._pending.trouble))


def _position(error: RaftkvError, batch: Batch) -> int | None:
    """Which call of the batch was refused, if the node has said so."""
    position = error.facts.get("position", "")
    if position.isdigit() and int(position) < len(batch.calls):
        return int(position)
    return None


def answer_of(reply: api_pb2.PipelineReply) -> list[kv_pb2.Result] | kv_pb2.Failure:
    """The results of the reply's batch, or why the node has refused the batch as a whole."""
    kind = reply.WhichOneof("reply")
    if kind == "results":
        batch = kv_pb2.BatchResult.FromString(reply.results)
        return batch.failure if batch.HasField("failure") else list(batch.results)
    if kind == "reads":
        return list(reply.reads.results)
    return reply.failure

"""The pipeline: batches calls, keeps several batches in flight, and repeats what is safe to repeat.

All calls issued in one turn of the event loop leave in one batch per queue. No timer delays a
batch: a lone call leaves at once. While the maximum of batches is in flight, further calls are
queued and make the next batch bigger.

The states of a batch:

    queued -- form --> in flight -- answered --> settled
      ^                 |     |
      +-- certainly ----+     +-- no answer --> ambiguous -- the same bytes --> in flight
          not run

Certainly not run: the calls go back to their queue and leave in new batches. Ambiguous: only the
same bytes under the same session and sequence are safe to send. The caller gets `OutcomeUnknown`
only when its time is up.

A call whose timeout is 0 is one attempt, here as for the unary calls (unary.py): the first refusal
that says that it was certainly not run is its result, where another call goes back to its queue. It
also fails, while it is queued, when a node refuses another call that needs a majority, or when no
node can be reached: it does not wait for the end of an outage. Part of the attempt are: finding a
node that serves, for which each node is tried once; opening a session, if there is none or it has
expired; leaving a batch in which another call was at fault; and resending an ambiguous batch. The
answer is awaited for `silence_s_max`.

Nothing is sent before the client is logged in. What a node refuses for the sake of its token is
sent once more, on a stream with a new one, which belongs to the attempt as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from google.protobuf.message import DecodeError

from raftkv.client.authentication import Authentication
from raftkv.client.connection.batches import (
    Batch,
    CallQueue,
    CommandQueue,
    QueuedCall,
    QueueLevel,
    ReadQueue,
)
from raftkv.client.connection.endpoints import Endpoints, EndpointSelector
from raftkv.client.connection.home import Home
from raftkv.client.connection.pending_calls import (
    PendingCalls,
    expire_batch,
    set_error,
    unanswered,
)
from raftkv.client.connection.retries import LEAVING, BatchReplies, answer_of
from raftkv.client.connection.stream import PipelineConnection
from raftkv.client.connection.throttle import Throttle
from raftkv.client.settings import TIMER_TOLERANCE_S, ClientSettings
from raftkv.errors import (
    ConnectionFailed,
    OutcomeUnknown,
    RaftkvError,
    Unauthenticated,
    Unavailable,
)
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.wire.failures import error_of

T = TypeVar("T")


class Pipeline:
    """Runs calls on one endpoint at a time, moving on when it fails. Lives on one event loop."""

    def __init__(
        self,
        endpoints: Endpoints,
        settings: ClientSettings,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
        authentication: Authentication,
    ) -> None:
        self._endpoints = endpoints
        self._authentication = authentication
        authentication.on_token.append(self._token_changed)
        self._settings = settings
        self._batch_operations_max = settings.batch_operations_max  # a node may advise less
        self._loop = loop
        self.home = Home(loop)
        self._selector = EndpointSelector(endpoints, settings, rng)
        self._throttle = Throttle(settings, self._selector.backoff, loop.time())
        self._pending = PendingCalls(settings, loop, self.wake, lambda: self.revision)
        self.control = self._pending.control
        self.writes = self._pending.writes
        self._replies = BatchReplies(
            self._pending, self._selector, self._throttle, settings, loop, authentication
        )
        self._unattended: set[asyncio.Future[Any]] = set()

        self._connection: PipelineConnection | None = None  # where new batches go
        self._draining: list[PipelineConnection] = []  # get no new batch, but still owe answers
        self._pump_scheduled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False

        self.term = 0  # the highest that a reply has shown
        self.revision = 0  # the highest that the client has seen, here or elsewhere
        # Leader and members may have changed: called on a new term, and every `look_around_s`.
        self.on_leader_search_due: Callable[[], None] = _nothing
        self._leader_search_at = loop.time() + settings.look_around_s
        self.on_session_needed: Callable[[], None] = _nothing  # may be called many times

    # ---- in: calls ---------------------------------------------------------------------

    @overload
    def submit(
        self,
        queue: ReadQueue,
        piece: bytes,
        decode: Callable[[kv_pb2.Result, api_pb2.PipelineReply], T],
        timeout_s: float,
        *,
        once: bool = False,
    ) -> asyncio.Future[T]: ...
    @overload
    def submit(
        self,
        queue: CommandQueue,
        piece: bytes,
        decode: Callable[[kv_pb2.Result], T],
        timeout_s: float,
        *,
        once: bool = False,
    ) -> asyncio.Future[T]: ...
    def submit(
        self,
        queue: CallQueue,
        piece: bytes,
        decode: Callable[..., T],
        timeout_s: float,
        *,
        once: bool = False,
    ) -> asyncio.Future[T]:
        """Queue a call; the future gets a typed error, or what `decode` makes of the result (and,
        for a read, of the PipelineReply around it). Raises `WrongProcess` and `WrongLoop`.

        A timeout of 0, or `once` under a longer one, stands for one attempt.
        """
        self.home.check()
        if self._closed:
            raise Unavailable("the client is closed")
        loop = self._loop
        future: asyncio.Future[T] = loop.create_future()
        if not timeout_s:
            timeout_s, once = self._settings.silence_s_max, True
        queue.calls.append(QueuedCall(piece, decode, future, loop.time() + timeout_s, once))
        if not self._pump_scheduled:
            self._pump_scheduled = True
            loop.call_soon(self._pump)
        return future

    def reads(self, level: QueueLevel, *, transactions: bool = False) -> ReadQueue:
        """The queue of the reads of a level. Do not keep it: one that is idle may be dropped."""
        return self._pending.reads(level, transactions=transactions)

    def saw(self, revision: int) -> None:
        """The client has seen the store at this revision: session reads ask for it from now on."""
        if revision > self.revision:
            self.revision = revision

    def unfinished(self) -> list[asyncio.Future[Any]]:
        """The futures that `close` waits for: those of callers, not those of the client's own
        commands, and none that is `unattended`.
        """
        calls = list(self._pending.callers())
        for batch in self._sent():
            if batch.queue is not self.control:
                calls += batch.calls
        futures = [call.future for call in calls if not call.future.done()]
        return [future for future in futures if future not in self._unattended]

    def unattended(self, future: asyncio.Future[Any]) -> None:
        """The caller of this call was cancelled, so closing does not wait for it either."""
        self._unattended.add(future)
        future.add_done_callback(self._unattended.discard)

    def fail_writes(self, error: RaftkvError) -> None:
        """The session that the queued writes need is refused with `error`."""
        self._pending.fail_writes(error)

    def wake(self) -> None:
        """Look for work at the end of this turn."""
        if not self._pump_scheduled and not self._closed:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def move_to_leader(self) -> None:
        """A leader was found: new batches go there, what is in flight is answered where it is."""
        connection, leader = self._connection, self._endpoints.leader
        if connection is None or leader is None or connection.endpoint is leader:
            return
        if leader.breaker.allows(self._loop.time()):
            self._drain(connection)
            self.wake()

    def close(self) -> None:
        """End every stream and fail every call that is left."""
        self._closed = True
        for timer in (self._alarm, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        for batch in self._sent():
            for call in batch.calls:
                set_error(call, unanswered(batch.queue, call, self._why()))
        self._pending.close()
        for connection in self._connections():
            connection.close()
        self._draining.clear()
        self._connection = None

    # ---- out: batches ------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what may be sent now."""
        self._pump_scheduled = False
        pending = self._pending
        if self._closed or not pending.has_work:
            return
        if (gone := self._endpoints.binding.gone(self._loop.time())) is not None:
            pending.fail_all(gone)
            self.on_leader_search_due()  # the cluster may come back
            return
        if not self._authentication.ready:
            self._log_in()
            return
        if self._sweep_timer is None:
            self._arm_sweep()
        if self.writes.calls and self.writes.session is None:
            self.on_session_needed()
        if not pending.resends and not any(queue.ready() for queue in pending.queues):
            return
        now = self._loop.time()
        if now < self._throttle.resume_at - TIMER_TOLERANCE_S:
            self._wake_at(self._throttle.resume_at)
            return
        connection = self._connection or self._connect(now)
        if connection is None or not connection.greeted:
            return
        while pending.resends and self._may_send(connection, pending.resends[0].queue, now):
            connection.send(pending.resends.popleft(), now)
        for queue in pending.queues:
            while queue.calls and self._may_send(connection, queue, now):
                alone = (self._throttle.probing and queue.needs_majority) or queue.refusal
                batch = queue.form(1 if alone else self._batch_operations_max)
                if batch is None:
                    break
                self._throttle.sent()
                connection.send(batch, now)
        paused = [queue.resume_at for queue in pending.queues if queue.resume_at > now]
        if paused:
            self._wake_at(min(paused))

    def _log_in(self) -> None:
        """Get the token that calls need; they fail if the cluster has just refused to give one."""
        if (refusal := self._authentication.refusal) is not None:
            self._pending.fail_all(refusal)
            return
        if self._sweep_timer is None:
            self._arm_sweep()
        self._authentication.log_in()

    def _token_changed(self) -> None:
        """The open streams get the new token; or there is none, and the waiting calls fail."""
        if token := self._authentication.token:
            for connection in self._connections():
                connection.authenticate(token)
        self.wake()

    def _may_send(self, connection: PipelineConnection, queue: CallQueue, now: float) -> bool:
        if self._throttle.probing and queue.needs_majority:
            return not connection.in_flight
        if queue.refusal:
            return now >= queue.resume_at - TIMER_TOLERANCE_S and not queue.in_flight
        return queue.in_flight < self._settings.batches_in_flight_max

    def _connect(self, now: float) -> PipelineConnection | None:
        endpoint = self._selector.choose(now)
        if endpoint is None:
            self._throttle.pause_until(self._selector.next_attempt_at(now))
            self._wake_at(self._throttle.resume_at)
            return None
        if endpoint.breaker.begin(now):
            self._throttle.probing = True
        token = self._authentication.token
        self._connection = PipelineConnection(endpoint, token, now, self._on_message, self._on_end)
        return self._connection

    def _wake_at(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(when, self.wake)

    # ---- in: replies -------------------------------------------------------------------

    def _on_message(self, connection: PipelineConnection, message: bytes) -> None:
        if connection.closed:
            return
        try:
            reply = api_pb2.PipelineReply.FromString(message)
            answer = answer_of(reply)
        except DecodeError:
            address = connection.endpoint.address
            self._on_end(connection, OutcomeUnknown(f"{address} sent no valid reply"))
            return
        now = self._loop.time()
        if not self._endpoints.binding.answered(connection.endpoint, reply.header, now):
            self._foreign(connection, now)
            return
        self.saw(reply.header.revision)
        self._batch_operations_max = min(
            reply.batch_commands_max or self._settings.batch_operations_max,
            self._settings.batch_operations_max,
        )
        batch = connection.replied(reply.number, now)
        if not connection.greeted:
            self._greeted(connection, answer, now)
        elif batch is not None:
            endpoint = connection.endpoint
            if not isinstance(answer, kv_pb2.Failure):
                self._replies.answered(endpoint, batch, answer, reply)
            else:
                by_store = reply.HasField("results")
                other_node = self._replies.refused(endpoint, batch, answer, by_store=by_store)
                if other_node and connection is self._connection:
                    self._selector.avoid(endpoint)
                    self._drain(connection)
        elif connection.is_of_token(reply.number) and reply.HasField("failure"):
            self._token_refused(connection, error_of(reply.failure))
        self._close_if_drained(connection)
        if reply.header.term > self.term or now >= self._leader_search_at:
            self.term = max(self.term, reply.header.term)
            self._leader_search_at = now + self._settings.look_around_s
            self.on_leader_search_due()
        # The pump runs after the callers that were just woken: their next calls are in its batch.
        self.wake()

    def _greeted(
        self,
        connection: PipelineConnection,
        answer: list[kv_pb2.Result] | kv_pb2.Failure,
        now: float,
    ) -> None:
        """The node belongs to the own cluster: it gets batches, unless it does not serve."""
        connection.greeted = True
        if not isinstance(answer, kv_pb2.Failure):
            connection.endpoint.breaker.succeeded()
            return
        refusal = self._replies.note_refusal(connection.endpoint, answer)
        if isinstance(refusal, Unauthenticated):
            self._token_refused(connection, refusal)
        elif isinstance(refusal, LEAVING):
            if self._selector.failed(connection.endpoint):
                self._throttle.pause(now)
                self._pending.fail_single_attempts(error_of(answer), stale_too=True)
            self._drain(connection)

    def _token_refused(self, connection: PipelineConnection, error: RaftkvError) -> None:
        """The node does not accept the stream's token, or not yet: go on with another stream."""
        if connection is self._connection:
            self._selector.avoid(connection.endpoint)
            self._drain(connection)
        if isinstance(error, Unauthenticated) and not self._authentication.refused(
            connection.token, error
        ):
            self._pending.fail_all(error)

    # ---- from node to node -------------------------------------------------------------

    def _on_end(self, connection: PipelineConnection, error: RaftkvError) -> None:
        """The stream is over: take its batches back and connect to another node."""
        if connection.closed:
            return
        now = self._loop.time()
        if isinstance(error, Unauthenticated):
            connection.endpoint.breaker.succeeded()
            self._take_back(connection, error, maybe_applied=True)
            self._token_refused(connection, error)
            self._close_if_drained(connection)
            self.wake()
            return
        maybe_applied = not isinstance(error, ConnectionFailed)
        self._endpoints.failed(connection.endpoint, now)
        if not connection.greeted and maybe_applied:
            self._pending.trouble = (
                f"the last answer: {connection.endpoint.address}: {error.message}"
            )
        self._disconnect(connection, now, error, maybe_applied=maybe_applied)

    def _foreign(self, connection: PipelineConnection, now: float) -> None:
        """Another cluster's node answers there: its reply is not used, and it gets no batch."""
        connection.endpoint.breaker.succeeded()
        error = self._endpoints.binding.foreign_error(connection.endpoint)
        self._pending.trouble = error.message
        self._disconnect(connection, now, error, maybe_applied=True)

    def _disconnect(
        self, connection: PipelineConnection, now: float, error: RaftkvError, *, maybe_applied: bool
    ) -> None:
        self._take_back(connection, error, maybe_applied=maybe_applied)
        if connection is self._connection:
            self._connection = None
            if self._endpoints.leader is connection.endpoint:
                self._endpoints.leader = None
            if self._selector.failed(connection.endpoint):
                self._throttle.pause(now)
                self._pending.fail_single_attempts(error, stale_too=True)
        else:
            self._draining.remove(connection)
        self.wake()

    def _take_back(
        self, connection: PipelineConnection, error: RaftkvError, *, maybe_applied: bool
    ) -> None:
        """End the stream, and take back its batches."""
        connection.close()
        for number in reversed(list(connection.in_flight)):
            batch = connection.take(number)
            if batch is not None:
                self._replies.requeue_or_fail(batch, error, maybe_applied=maybe_applied)

    def _drain(self, connection: PipelineConnection) -> None:
        """Send nothing more on this connection; close it when all its answers have arrived."""
        self._connection = None
        self._draining.append(connection)
        self._close_if_drained(connection)

    def _close_if_drained(self, connection: PipelineConnection) -> None:
        if not connection.in_flight and connection in self._draining:
            self._draining.remove(connection)
            connection.close()

    # ---- deadlines ---------------------------------------------------------------------

    def _arm_sweep(self) -> None:
        self._sweep_timer = self._loop.call_later(self._settings.sweep_interval_s, self._sweep)

    def _sweep(self) -> None:
        """Check every deadline at once: cheaper than a timer for each call."""
        self._sweep_timer = None
        now = self._loop.time()
        self._pending.expire(now, self._why())
        for connection in self._connections():
            self._sweep_connection(connection, now)
        if self._pending.has_work or any(each.waiting for each in self._connections()):
            self._arm_sweep()

    def _sweep_connection(self, connection: PipelineConnection, now: float) -> None:
        for number, batch in list(connection.in_flight.items()):
            if batch.next_deadline <= now:
                expire_batch(batch, now, self._why())
            if batch.deadline <= now:
                connection.take(number)
                batch.settle()
                self.wake()
        if connection.silent_s(now) > self._settings.silence_s_max:
            why, address = self._why(), connection.endpoint.address
            self._on_end(connection, OutcomeUnknown(f"{address} has fallen silent"))
            self._pending.trouble = why
        else:
            self._close_if_drained(connection)

    def _why(self) -> str:
        """What hinders calls that need a majority; a refusal explains more than silence."""
        if self._pending.trouble:
            return self._pending.trouble
        silent = [each.endpoint.address for each in self._connections() if each.waiting]
        return f"{silent[-1]} has not answered" if silent else ""

    def _connections(self) -> list[PipelineConnection]:
        return [*self._draining, *([self._connection] if self._connection else [])]

    def _sent(self) -> Iterator[Batch]:
        yield from self._pending.resends
        for connection in self._connections():
            yield from connection.in_flight.values()


def _nothing() -> None:
    """No callback is set."""

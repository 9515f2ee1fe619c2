"""The pipeline: coalesces calls, keeps batches in flight, sends again what may be sent again.

All calls issued in one turn of the loop leave in one batch per kind. There are no timers in the
coalescing: a lone call leaves at once, and when the allowed batches are in flight, further calls
gather and make the next batch bigger.

What becomes of a batch:

    queued -- form --> in flight -- answered --> settled
      ^                 |     |
      +-- certainly ----+     +-- no answer --> ambiguous -- the same bytes --> in flight
          not run

Certainly not run: the calls go back to their queue and leave in new batches. Ambiguous: only the
same bytes under the same session and sequence are safe to send, and only a caller whose time has
run out learns that the outcome is unknown.

A call whose timeout is 0 is one attempt, and this is what that means, for it as for the unary calls
(unary.py). The first refusal that says that it was certainly not run is its answer, where another
call goes back to its queue. It fails as well, while it is queued, when a node refuses another call
that needs a majority, or no node can be reached: waiting for better times is what it does not do.
To the attempt belong: the way to a node that serves, on which each node is tried once; the
session, if there is none or it has expired; leaving a batch in which another call was at fault; and
an ambiguous batch, whose answer is asked for again. The answer is awaited for `silence_s_max`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError

from raftkv.client.connection.batches import (
    Batch,
    CallQueue,
    ControlQueue,
    QueuedCall,
    QueueLevel,
    ReadQueue,
    WriteQueue,
)
from raftkv.client.connection.deadlines import (
    cluster_gone,
    expire_batch,
    expire_queue,
    fail_once,
    fail_queue,
    set_error,
    unanswered,
)
from raftkv.client.connection.endpoints import Endpoint, Endpoints
from raftkv.client.connection.home import Home
from raftkv.client.connection.stream import PipelineConnection
from raftkv.client.connection.throttle import Throttle
from raftkv.client.settings import ClientSettings
from raftkv.errors import (
    ConnectionFailed,
    NotServing,
    Outcome,
    OutcomeUnknown,
    Overloaded,
    RaftkvError,
    SessionExpired,
    ShuttingDown,
    TooLarge,
    Unavailable,
    WrongCluster,
)
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.wire.failures import error_of

# With these a node refuses everything; without a majority it would still serve stale reads.
LEAVING = (ShuttingDown, NotServing)

# The server answers at a batch's deadline, a moment before or after we notice it ourselves.
DEADLINE_TOLERANCE_S = 0.005
# A timer may ring before its time by as much as the loop's clock is coarse.
TIMER_TOLERANCE_S = 0.0001


class Pipeline:
    """Runs calls on one endpoint at a time, moving on when it fails. Lives on one event loop."""

    def __init__(
        self,
        endpoints: Endpoints,
        settings: ClientSettings,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._batch_operations_max = settings.batch_operations_max  # a node may advise less
        self._loop = loop
        self.home = Home(loop)
        self._gate = Throttle(settings, rng, loop.time())
        self.control = ControlQueue(settings)
        self.writes = WriteQueue(settings)
        self._reads: dict[tuple[QueueLevel, bool], ReadQueue] = {}
        self._lanes: tuple[CallQueue, ...] = (self.control, self.writes)
        self._unattended: set[asyncio.Future[Any]] = set()
        self._again: deque[Batch] = deque()  # ambiguous batches that wait to be sent unchanged
        self._later: dict[
            QueuedCall, CallQueue
        ] = {}  # refused for now, each for as long as it was told

        self._flow: PipelineConnection | None = None  # where new batches go
        self._draining: list[PipelineConnection] = []  # left, but still owing answers
        self._avoid: Endpoint | None = None
        self._pump_scheduled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._trouble = ""  # the last refusal or silence since a majority has answered

        self.term = 0  # the highest that a reply has shown
        self.revision = 0  # the highest that the client has seen, here or elsewhere
        # Who leads or belongs to the cluster may have changed: on a new term, and now and then.
        self.on_look_around: Callable[[], None] = _nothing
        self._look_around_at = loop.time() + settings.look_around_s
        self.on_session_needed: Callable[[], None] = _nothing  # may be called many times

    # ---- in: calls ---------------------------------------------------------------------

    def submit(
        self,
        lane: CallQueue,
        piece: bytes,
        decode: Callable[..., Any],
        timeout_s: float,
        *,
        once: bool = False,
    ) -> asyncio.Future[Any]:
        """Queue a call; the future gets a typed error, or what `decode` makes of the result (and,
        for a read, of the PipelineReply around it). Raises `WrongProcess` and `WrongLoop`.

        A timeout of 0, or `once` under a longer one, stands for one attempt.
        """
        self.home.check()
        if self._closed:
            raise Unavailable("the client is closed")
        loop = self._loop
        future: asyncio.Future[Any] = loop.create_future()
        if not timeout_s:
            timeout_s, once = self._settings.silence_s_max, True
        lane.queue.append(QueuedCall(piece, decode, future, loop.time() + timeout_s, once))
        if not self._pump_scheduled:
            self._pump_scheduled = True
            loop.call_soon(self._pump)
        return future

    def reads(self, level: QueueLevel, *, transactions: bool = False) -> ReadQueue:
        """The lane of the reads of a level. Not to be kept: an idle one may be forgotten."""
        lane = self._reads.get((level, transactions))
        if lane is None:
            lane = ReadQueue(self._settings, level, lambda: self.revision)
            in_use = {key: each for key, each in self._reads.items() if each.in_use}
            self._reads = {**in_use, (level, transactions): lane}
            self._lanes = (self.control, self.writes, *self._reads.values())
        return lane

    def saw(self, revision: int) -> None:
        """The client has seen the store at this revision: session reads ask for it from now on."""
        if revision > self.revision:
            self.revision = revision

    def unfinished(self) -> list[asyncio.Future[Any]]:
        """The callers' futures; what the client asks for itself is not worth waiting for."""
        calls = [call for lane in self._lanes if lane is not self.control for call in lane.queue]
        calls += [call for call, lane in self._later.items() if lane is not self.control]
        for batch in self._sent():
            if batch.lane is not self.control:
                calls += batch.calls
        futures = [call.future for call in calls if not call.future.done()]
        return [future for future in futures if future not in self._unattended]

    def unattended(self, future: asyncio.Future[Any]) -> None:
        """Nobody waits for this call any more, so closing does not wait for it either."""
        self._unattended.add(future)
        future.add_done_callback(self._unattended.discard)

    def wake(self) -> None:
        """Look for work at the end of this turn."""
        if not self._pump_scheduled and not self._closed:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def move_to_leader(self) -> None:
        """A leader was found: new batches go there, what is in flight is answered where it is."""
        flow, leader = self._flow, self._endpoints.leader
        if flow is None or leader is None or flow.endpoint is leader:
            return
        if leader.breaker.allows(self._loop.time()):
            self._leave(flow)
            self.wake()

    def close(self) -> None:
        """End every stream and fail every call that still waits."""
        self._closed = True
        for timer in (self._alarm, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        for batch in self._sent():
            for call in batch.calls:
                set_error(call, unanswered(batch.lane, call, self._why()))
        self._resume_all()
        for lane in self._lanes:
            for call in lane.queue:
                set_error(call, Unavailable("the client was closed before this was sent"))
            lane.queue.clear()
        for flow in self._flows():
            flow.close()
        self._again.clear()
        self._draining.clear()
        self._flow = None

    # ---- out: batches ------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what may be sent now."""
        self._pump_scheduled = False
        if self._closed or not (self._again or any(lane.queue for lane in self._lanes)):
            return
        if (gone := self._endpoints.binding.gone(self._loop.time())) is not None:
            self._fail_all(gone)
            return
        if self._sweep_timer is None:
            self._arm_sweep()
        if self.writes.queue and self.writes.session is None:
            self.on_session_needed()
        if not self._again and not any(lane.ready() for lane in self._lanes):
            return
        now = self._loop.time()
        if now < self._gate.resume_at - TIMER_TOLERANCE_S:
            self._wake_at(self._gate.resume_at)
            return
        flow = self._flow or self._connect(now)
        if flow is None or not flow.greeted:
            return
        while self._again and self._may_send(flow, self._again[0].lane, now):
            flow.send(self._again.popleft(), now)
        for lane in self._lanes:
            while lane.queue and self._may_send(flow, lane, now):
                alone = (self._gate.probing and lane.needs_majority) or lane.refusal
                batch = lane.form(1 if alone else self._batch_operations_max)
                if batch is None:
                    break
                self._gate.sent()
                flow.send(batch, now)
        paused = [lane.resume_at for lane in self._lanes if lane.resume_at > now]
        if paused:
            self._wake_at(min(paused))

    def _may_send(self, flow: PipelineConnection, lane: CallQueue, now: float) -> bool:
        if self._gate.probing and lane.needs_majority:
            return not flow.in_flight
        if lane.refusal:
            return now >= lane.resume_at - TIMER_TOLERANCE_S and not lane.in_flight
        return lane.in_flight < self._settings.batches_in_flight_max

    def _connect(self, now: float) -> PipelineConnection | None:
        endpoint = self._endpoints.choose(now, self._avoid)
        if endpoint is None:
            soon = now + self._settings.backoff_s_min
            self._gate.shut_until(max(soon, self._endpoints.next_probe_at()))
            self._wake_at(self._gate.resume_at)
            return None
        if endpoint.breaker.begin(now):
            self._gate.probing = True
        self._flow = PipelineConnection(endpoint, now, self._on_message, self._on_end)
        return self._flow

    def _wake_at(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(when, self.wake)

    # ---- in: replies -------------------------------------------------------------------

    def _on_message(self, flow: PipelineConnection, message: bytes) -> None:
        if flow.over:
            return
        try:
            reply = api_pb2.PipelineReply.FromString(message)
            answer = _answer_of(reply)
        except DecodeError:
            self._on_end(flow, OutcomeUnknown(f"{flow.endpoint.address} sent no valid reply"))
            return
        now = self._loop.time()
        if not self._endpoints.binding.answered(flow.endpoint, reply.header, now):
            self._foreign(flow, now)
            return
        self.saw(reply.header.revision)
        self._batch_operations_max = min(
            reply.batch_commands_max or self._settings.batch_operations_max,
            self._settings.batch_operations_max,
        )
        batch = flow.heard(reply.number, now)
        if not flow.greeted:
            self._greeted(flow, answer, now)
        elif batch is not None:
            if isinstance(answer, kv_pb2.Failure):
                self._refused(flow, batch, answer, by_store=reply.HasField("results"))
            else:
                self._answered(flow, batch, answer, reply)
        self._end_if_drained(flow)
        if reply.header.term > self.term or now >= self._look_around_at:
            self.term = max(self.term, reply.header.term)
            self._look_around_at = now + self._settings.look_around_s
            self.on_look_around()
        # Runs after the callers that were just woken, so what they ask next is in the batch.
        self.wake()

    def _answered(
        self,
        flow: PipelineConnection,
        batch: Batch,
        results: list[kv_pb2.Result],
        reply: api_pb2.PipelineReply,
    ) -> None:
        flow.endpoint.breaker.succeeded()
        if batch.lane.needs_majority:
            self._gate.answered()
            self._trouble = ""
        self._avoid = None
        batch.lane.answered()
        batch.settle()
        if len(results) != len(batch.calls):
            self._unanswered(batch)
            return
        refused: list[QueuedCall] = []
        value = batch.lane.value
        for call, result in zip(batch.calls, results, strict=True):
            future = call.future
            if future.done():
                continue
            if result.HasField("failure"):
                error = error_of(result.failure)
                if self._deserves_another_try(batch, call, error):
                    if batch.lane is self.control and self.writes.session is None:
                        fail_once(self.writes.queue, error)  # they wait for the session
                    if error.retry_after_s:
                        self._try_later(batch.lane, call, error)
                    else:
                        refused.append(call)
                else:
                    future.set_exception(error)
            else:
                future.set_result(value(call, result, reply))
        batch.lane.put_back(refused)

    def _deserves_another_try(self, batch: Batch, call: QueuedCall, error: RaftkvError) -> bool:
        """Whether this call was refused only for the sake of the others in its batch, or for now.

        All of a batch share the room of one reply, so a call may find it taken.
        """
        if isinstance(error, TooLarge) and batch.lane.writes and len(batch.calls) > 1:
            call.alone = True
            return True
        if error.outcome is not Outcome.SAFE_TO_RETRY:
            return False
        if call.once and (error.retry_after_s or len(batch.calls) == 1):
            return False
        # The first read of a reply always finds room, so those that did not cost no token.
        if not isinstance(error, Overloaded):
            self._gate.retried(self._loop.time())
        return True

    def _greeted(
        self, flow: PipelineConnection, answer: list[kv_pb2.Result] | kv_pb2.Failure, now: float
    ) -> None:
        """The node belongs to the own cluster: it gets batches, unless it does not serve."""
        flow.greeted = True
        if not isinstance(answer, kv_pb2.Failure):
            flow.endpoint.breaker.succeeded()
        elif isinstance(self._heard_refusal(flow, answer, now), LEAVING):
            if self._gate.broken(now, len(self._endpoints)):
                self._fail_once_queued(error_of(answer), stale_too=True)
            self._avoid = flow.endpoint
            self._leave(flow)

    def _heard_refusal(
        self, flow: PipelineConnection, failure: kv_pb2.Failure, now: float
    ) -> RaftkvError:
        error = error_of(failure)
        self._trouble = f"the last answer: {flow.endpoint.address}: {error.message}"
        if isinstance(error, LEAVING):
            flow.endpoint.breaker.failed(now)
        else:
            flow.endpoint.breaker.succeeded()
        return error

    def _refused(
        self, flow: PipelineConnection, batch: Batch, failure: kv_pb2.Failure, *, by_store: bool
    ) -> None:
        """The node answered for the batch as a whole: it was not run, or may have been.

        `by_store`: the state machine has refused it, on all nodes alike.
        """
        now = self._loop.time()
        error = self._heard_refusal(flow, failure, now)
        if isinstance(error, SessionExpired) and batch.session is not None:
            self._session_expired(batch)
        elif error.outcome is Outcome.NOT_APPLIED:
            self._rejected(batch, failure)
        elif now >= batch.deadline - DEADLINE_TOLERANCE_S:
            unknown = batch.ambiguous or error.outcome is Outcome.MAYBE_APPLIED
            if unknown:
                self._unanswered(batch)
            else:
                self._fail(batch, lambda _: batch.lane.not_in_time(self._why()))
        else:
            self._try_again(batch, error, maybe_run=error.outcome is Outcome.MAYBE_APPLIED)
            self._fail_once_queued(error)
            if by_store and isinstance(error, Overloaded):
                # It has no room for what it must remember of this session; reads it can answer.
                pause_s = max(error.retry_after_s, self._settings.backoff_s_max)
                batch.lane.refused(self._trouble, now + pause_s)
                return
            self._gate.refused(now, batch.sent_at, error.retry_after_s)
            if flow is self._flow and not isinstance(error, Overloaded):
                # It can't reach a leader, or is going away: another node may do better.
                self._avoid = flow.endpoint
                self._leave(flow)

    def _session_expired(self, batch: Batch) -> None:
        if self.writes.session is batch.session:
            self.writes.session = None
        if batch.ambiguous:
            self._unanswered(batch)
        else:
            batch.lane.put_back(batch.calls)

    def _rejected(self, batch: Batch, failure: kv_pb2.Failure) -> None:
        """Something in it can never work: fail that, and let the rest leave without it."""
        if batch.ambiguous:
            self._unanswered(batch)
            return
        batch.settle()
        self._gate.answered()
        error = error_of(failure)
        position = error.facts.get("position", "")
        if position.isdigit() and int(position) < len(batch.calls):
            set_error(batch.calls.pop(int(position)), error)
            batch.lane.put_back(batch.calls)
        elif isinstance(error, TooLarge) and len(batch.calls) > 1:
            batch.lane.shrink()
            batch.lane.put_back(batch.calls)
        else:
            self._fail(batch, lambda _: error_of(failure))

    def _on_end(self, flow: PipelineConnection, error: RaftkvError) -> None:
        """The stream is over: take its batches back and move on."""
        if flow.over:
            return
        now = self._loop.time()
        self._endpoints.failed(flow.endpoint, now)
        if not flow.greeted and not isinstance(error, ConnectionFailed):
            self._trouble = f"the last answer: {flow.endpoint.address}: {error.message}"
        self._break_off(flow, now, error, maybe_run=not isinstance(error, ConnectionFailed))

    def _foreign(self, flow: PipelineConnection, now: float) -> None:
        """Another cluster's node answers there: its reply is not used, and it gets no batch."""
        flow.endpoint.breaker.succeeded()
        error = self._endpoints.binding.foreign_error(flow.endpoint)
        self._trouble = error.message
        self._break_off(flow, now, error, maybe_run=True)

    def _break_off(
        self, flow: PipelineConnection, now: float, error: RaftkvError, *, maybe_run: bool
    ) -> None:
        flow.close()
        for number in reversed(list(flow.in_flight)):
            batch = flow.take(number)
            if batch is not None:
                self._try_again(batch, error, maybe_run=maybe_run)
        if flow is self._flow:
            self._flow = None
            self._avoid = flow.endpoint
            if self._endpoints.leader is flow.endpoint:
                self._endpoints.leader = None
            if self._gate.broken(now, len(self._endpoints)):
                self._fail_once_queued(error, stale_too=True)
        else:
            self._draining.remove(flow)
        self.wake()

    # ---- moving on ---------------------------------------------------------------------

    def _try_again(self, batch: Batch, error: RaftkvError, *, maybe_run: bool) -> None:
        """Take back a batch that was not answered, or refused for now."""
        if batch.session is not None and (maybe_run or batch.ambiguous):
            batch.ambiguous = True
            if all(call.future.done() for call in batch.calls):
                batch.settle()
                return
            self._again.appendleft(batch)
        else:
            batch.settle()
            fail_once(batch.calls, error)
            batch.lane.put_back(batch.calls)
        self._gate.retried(self._loop.time())

    def _fail_once_queued(self, error: RaftkvError, *, stale_too: bool = False) -> None:
        """A node has refused what needs a majority, or none can be reached, and these would wait
        until that is over.
        """
        for lane in self._lanes:
            if lane.needs_majority or stale_too:
                fail_once(lane.queue, error)

    def _try_later(self, lane: CallQueue, call: QueuedCall, error: RaftkvError) -> None:
        """This call alone was refused for so long; the others of its lane go on."""
        if self._loop.time() + error.retry_after_s >= call.deadline:
            set_error(call, lane.not_in_time(error.message))
            return
        self._later[call] = lane
        self._loop.call_later(error.retry_after_s, self._resume, call)

    def _resume(self, call: QueuedCall) -> None:
        lane = self._later.pop(call, None)
        if lane is not None:
            lane.queue.append(call)
            self.wake()

    def _resume_all(self) -> None:
        for call in list(self._later):
            self._resume(call)

    def _leave(self, flow: PipelineConnection) -> None:
        """Give this stream nothing more; it ends when all its answers are in."""
        self._flow = None
        self._draining.append(flow)
        self._end_if_drained(flow)

    def _end_if_drained(self, flow: PipelineConnection) -> None:
        if not flow.in_flight and flow in self._draining:
            self._draining.remove(flow)
            flow.close()

    def _fail_all(self, gone: WrongCluster) -> None:
        """The cluster is gone: no call can be run. What was sent before may have been applied."""
        again, self._again = self._again, deque()
        for batch in again:
            self._fail(batch, lambda _: cluster_gone(gone))
        self._resume_all()
        for lane in self._lanes:
            fail_queue(lane, gone)
        self.on_look_around()  # it may come back

    def _unanswered(self, batch: Batch) -> None:
        self._fail(batch, lambda call: unanswered(batch.lane, call, self._why()))

    def _fail(self, batch: Batch, error_for: Callable[[QueuedCall], RaftkvError]) -> None:
        batch.settle()
        for call in batch.calls:
            set_error(call, error_for(call))

    # ---- deadlines ---------------------------------------------------------------------

    def _arm_sweep(self) -> None:
        self._sweep_timer = self._loop.call_later(self._settings.sweep_interval_s, self._sweep)

    def _sweep(self) -> None:
        """One look at every deadline: cheaper than a timer for each call."""
        self._sweep_timer = None
        now, why = self._loop.time(), self._why()
        for lane in self._lanes:
            expire_queue(lane, now, why)
        for batch in [batch for batch in self._again if batch.next_deadline <= now]:
            expire_batch(batch, now, why)
            if batch.deadline <= now:
                self._again.remove(batch)
                batch.settle()
        for flow in self._flows():
            self._sweep_flow(flow, now)
        if (
            self._again
            or any(lane.queue for lane in self._lanes)
            or any(flow.waiting for flow in self._flows())
        ):
            self._arm_sweep()

    def _sweep_flow(self, flow: PipelineConnection, now: float) -> None:
        for number, batch in list(flow.in_flight.items()):
            if batch.next_deadline <= now:
                expire_batch(batch, now, self._why())
            if batch.deadline <= now:
                flow.take(number)
                batch.settle()
                self.wake()
        if flow.silent_s(now) > self._settings.silence_s_max:
            why = self._why()
            self._on_end(flow, OutcomeUnknown(f"{flow.endpoint.address} has fallen silent"))
            self._trouble = why
        else:
            self._end_if_drained(flow)

    def _why(self) -> str:
        """What is in the way of calls that need a majority; a refusal says more than silence."""
        if self._trouble:
            return self._trouble
        silent = [flow.endpoint.address for flow in self._flows() if flow.waiting]
        return f"{silent[-1]} has not answered" if silent else ""

    def _flows(self) -> list[PipelineConnection]:
        return [*self._draining, *([self._flow] if self._flow else [])]

    def _sent(self) -> Iterable[Batch]:
        yield from self._again
        for flow in self._flows():
            yield from flow.in_flight.values()


def _answer_of(reply: api_pb2.PipelineReply) -> list[kv_pb2.Result] | kv_pb2.Failure:
    kind = reply.WhichOneof("reply")
    if kind == "results":
        batch = kv_pb2.BatchResult.FromString(reply.results)
        return batch.failure if batch.HasField("failure") else list(batch.results)
    if kind == "reads":
        return list(reply.reads.results)
    return reply.failure


def _nothing() -> None:
    """No one listens."""

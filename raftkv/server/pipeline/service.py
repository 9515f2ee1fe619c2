"""`raftkv.rpc.v1.Pipeline`: the requests and replies of the pipelined streams of our own client.

A batch of commands is proposed as the bytes in which it arrived: it is parsed once, for validation,
and never encoded again.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from raftkv.errors import InvalidRequest, PermissionDenied, RaftkvError, Unauthenticated
from raftkv.kv.limits import Limits
from raftkv.kv.pace import Steps
from raftkv.kv.validation import WHOLE_BATCH, check_in_steps
from raftkv.logs import Logger
from raftkv.peer.ports import Author
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server import failures
from raftkv.server.access import rpc_path
from raftkv.server.admission import Admission
from raftkv.server.authorization import Authorizer, identity_header
from raftkv.server.calls import Deadlines, header_of
from raftkv.server.disk_space import RequireRoom, room_for_all
from raftkv.server.observability.request_counts import OK
from raftkv.server.pipeline.stream import PipelineStream
from raftkv.server.reads import ReadHandler
from raftkv.server.traffic import CallTraffic, untracked
from raftkv.wire.failures import error_of, failure_of

OPEN: Final = rpc_path("Pipeline", "Open")

NAMES: Final = {
    kind: f"Pipeline/{kind or 'unknown'}" for kind in ("", "commands", "reads", "token")
}
"""The names of its requests in the metrics."""

DENIED: Final = PermissionDenied.reason.encode()
"""Encoded results without these bytes have no refusal in them."""


@dataclass(slots=True)
class _Request:
    """An admitted request without a reply."""

    stream: PipelineStream
    number: int
    size_bytes: int
    arrived: float
    began_s: float
    kind: str = ""
    parts: int = 0
    compactions: Sequence[tuple[int, int]] = ()
    """See `Checked`."""


class _Admitted(NamedTuple):
    """What the checks of a batch have found. `author` None: a command is refused, as far as this
    node has applied what was granted.
    """

    weight: int
    author: Author | None


class PipelineService:
    """All pipeline streams of this node."""

    def __init__(
        self,
        reader: ReadHandler,
        authorizer: Authorizer,
        admission: Admission,
        deadlines: Deadlines,
        limits: Limits,
        log: Logger,
        require_room: RequireRoom = room_for_all,
    ) -> None:
        self._node = authorizer.node
        self._reader = reader
        self._authorizer = authorizer
        self._admission = admission
        self._require_room = require_room
        self._deadlines = deadlines
        self._limits = limits
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._names = itertools.count(1)
        self._streams: dict[PipelineStream, None] = {}  # a dict, for its order

    def end_streams(self) -> None:
        """End every stream after the replies to its requests in flight."""
        for stream in self._streams:
            stream.end()

    async def open(
        self,
        _requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
        traffic: CallTraffic | None = None,
    ) -> None:
        """Serve one stream to its end. `traffic` counts its unread replies."""
        requester = await self._authorizer.requester_of_stream(OPEN, context)
        if requester is None:
            return
        stream = PipelineStream(
            f"pipeline-{next(self._names)}",
            context,
            requester,
            self._admission.client(context.peer()),
            self._handle,
            traffic or untracked(),
        )
        if self._admission.closed:
            stream.end()
        self._streams[stream] = None
        try:
            await stream.run()
        except RaftkvError as error:
            await failures.abort(context, error, header_of(self._node))
        finally:
            self._streams.pop(stream, None)

    def _handle(self, stream: PipelineStream, message: bytes) -> Coroutine[Any, Any, None] | None:
        """Begin a request. A returned coroutine must be awaited before the next request is read."""
        try:
            parsed = api_pb2.PipelineRequest.FromString(message)
        except DecodeError as error:
            # The request's number is unknown, so the error can only end the whole stream.
            raise InvalidRequest(f"not a PipelineRequest: {error}") from error
        request = _Request(
            stream, parsed.number, len(message), self._loop.time(), time.perf_counter()
        )
        try:
            stream.share.enter(request.size_bytes)
        except RaftkvError as error:
            self._admission.counts.stream_ended(NAMES[""], error.reason)
            stream.send(self._failure(request, error))
            return None
        stream.begin()
        try:
            return self._begin(request, parsed)
        except RaftkvError as error:
            self._finish(request, self._failure(request, error))
            return None

    def _begin(
        self, request: _Request, parsed: api_pb2.PipelineRequest
    ) -> Coroutine[Any, Any, None] | None:
        deadline = self._deadlines.of_pipeline(request.arrived, parsed.timeout_ms)
        request.kind = parsed.WhichOneof("request") or ""
        if request.kind == "token":
            request.stream.requester.renew(parsed.token)
            self._finish(request, self._reply(request))
            return None
        # Before the request is parsed any further: a stream may have lost its user.
        request.stream.requester.author()
        if request.kind == "commands":
            return self._check(request, parsed.commands, deadline)
        if request.kind == "reads":
            self._read(request, parsed.reads, deadline)
            return None
        raise InvalidRequest("request is not set; give commands, reads or a token")

    # ---- commands --------------------------------------------------------------

    def _check(
        self, request: _Request, commands: bytes, deadline: float
    ) -> Coroutine[Any, Any, None] | None:
        try:
            batch = kv_pb2.CommandBatch.FromString(commands)
        except DecodeError as error:
            raise InvalidRequest(f"commands is not a CommandBatch: {error}") from error
        request.parts = len(batch.commands)
        steps = self._checks(request, batch)
        try:
            next(steps)
        except StopIteration as done:
            self._submit(request, commands, batch, done.value, deadline)
            return None
        return self._check_in_steps(request, commands, batch, steps, deadline)

    async def _check_in_steps(
        self,
        request: _Request,
        commands: bytes,
        batch: kv_pb2.CommandBatch,
        steps: Steps[_Admitted],
        deadline: float,
    ) -> None:
        """Continue checks that take more than one turn of the event loop."""
        try:
            while True:
                await asyncio.sleep(0)
                next(steps)
        except StopIteration as done:
            self._try_to_submit(request, commands, batch, done.value, deadline)
        except RaftkvError as error:
            self._finish(request, self._failure(request, error))

    def _checks(self, request: _Request, batch: kv_pb2.CommandBatch) -> Steps[_Admitted]:
        """Check the form of all commands, then the rights of the user."""
        checked = yield from check_in_steps(batch, self._limits)
        for position, refused in checked.refused:
            if position != WHOLE_BATCH:
                refused.facts["position"] = str(position)
            raise refused
        request.compactions = checked.compactions
        try:
            author = yield from request.stream.requester.check_batch(batch)
        except PermissionDenied:
            return _Admitted(checked.weight, None)
        return _Admitted(checked.weight, author)

    def _rights_confirmed(
        self,
        request: _Request,
        commands: bytes,
        batch: kv_pb2.CommandBatch,
        weight: int,
        deadline: float,
        confirmed: asyncio.Future[Author],
    ) -> None:
        """Rights were checked again, now that this node includes all that was granted before."""
        error = _error_of(confirmed)
        if error is None:
            admitted = _Admitted(weight, confirmed.result())
            self._try_to_submit(request, commands, batch, admitted, deadline)
        else:
            self._finish(request, self._failure(request, failures.of_read(error)))

    def _try_to_submit(
        self,
        request: _Request,
        commands: bytes,
        batch: kv_pb2.CommandBatch,
        admitted: _Admitted,
        deadline: float,
    ) -> None:
        try:
            self._submit(request, commands, batch, admitted, deadline)
        except RaftkvError as error:
            self._finish(request, self._failure(request, error))

    def _submit(
        self,
        request: _Request,
        commands: bytes,
        batch: kv_pb2.CommandBatch,
        admitted: _Admitted,
        deadline: float,
    ) -> None:
        weight, author = admitted
        if author is None:
            # A task, so that the stream's other requests do not wait for the read barrier.
            confirmed = request.stream.requester.confirm_batch(batch, deadline)
            request.stream.spawn(confirmed).add_done_callback(
                partial(self._rights_confirmed, request, commands, batch, weight, deadline)
            )
            return
        self._require_room(batch)
        results = self._node.submit(
            commands,
            deadline,
            client=request.stream.share.number,
            weight=weight,
            author=author,
        )
        results.add_done_callback(partial(self._submitted, request))

    def _submitted(self, request: _Request, results: asyncio.Future[bytes]) -> None:
        error = _error_of(results)
        if error is None:
            reply = self._reply(request)
            encoded = reply.results = results.result()
            if DENIED in encoded:
                self._report_denied(request, encoded)
        else:
            reply = self._failure(request, failures.of_write(error))
        if request.compactions:
            self._report_compactions(request, reply)
        self._finish(request, reply)

    def _report_compactions(self, request: _Request, reply: api_pb2.PipelineReply) -> None:
        outcome = kv_pb2.BatchResult.FromString(reply.results)
        for position, revision in request.compactions:
            failure = reply.failure if reply.HasField("failure") else outcome.failure
            if not failure.reason and outcome.results[position].HasField("failure"):
                failure = outcome.results[position].failure
            error = error_of(failure) if failure.reason else None
            request.stream.requester.report_compaction(revision, error)

    def _report_denied(self, request: _Request, results: bytes) -> None:
        """Report what was refused at apply: the uses of leases and sessions of other users, and
        commands whose rights were withdrawn meanwhile.
        """
        outcome = kv_pb2.BatchResult.FromString(results)
        failed = [each.failure for each in outcome.results if each.HasField("failure")]
        if outcome.HasField("failure"):
            failed.append(outcome.failure)
        for failure in failed:
            request.stream.requester.report(error_of(failure))

    # ---- reads -----------------------------------------------------------------

    def _read(self, request: _Request, reads: api_pb2.ReadBatch, deadline: float) -> None:
        request.parts = len(reads.ranges) + len(reads.transactions)
        barrier = self._reader.barrier(reads, deadline)
        if barrier is None:
            self._answer(request, reads, deadline)
        else:
            barrier.add_done_callback(partial(self._confirmed, request, reads, deadline))

    def _confirmed(
        self,
        request: _Request,
        reads: api_pb2.ReadBatch,
        deadline: float,
        barrier: asyncio.Future[None],
    ) -> None:
        error = _error_of(barrier)
        if error is None:
            self._answer(request, reads, deadline)
        else:
            self._finish(request, self._failure(request, failures.of_read(error)))

    def _answer(self, request: _Request, reads: api_pb2.ReadBatch, deadline: float) -> None:
        stream, answer = request.stream, None
        if stream.has_room:
            try:
                answer = self._reader.at_once(reads, stream.requester)
            except RaftkvError as error:
                self._finish(request, self._failure(request, error))
                return
        if answer is not None:
            self._finish_reads(request, answer)
        else:
            read = partial(self._reader.answer, reads, stream.requester, deadline)
            request.stream.read_in_turn(read).add_done_callback(partial(self._read_done, request))

    def _read_done(self, request: _Request, answer: asyncio.Future[api_pb2.ReadResults]) -> None:
        error = _error_of(answer)
        if error is None:
            self._finish_reads(request, answer.result())
        else:
            self._finish(request, self._failure(request, failures.of_read(error)))

    def _finish_reads(self, request: _Request, answer: api_pb2.ReadResults) -> None:
        reply = self._reply(request)
        reply.reads.CopyFrom(answer)
        self._finish(request, reply)

    # ---- replies ---------------------------------------------------------------

    def _reply(self, request: _Request) -> api_pb2.PipelineReply:
        return api_pb2.PipelineReply(
            number=request.number,
            header=header_of(self._node),
            batch_commands_max=self._node.batch_commands_advised,
        )

    def _failure(self, request: _Request, error: RaftkvError) -> api_pb2.PipelineReply:
        reply = self._reply(request)
        request.stream.requester.report(error)
        if isinstance(error, Unauthenticated):
            reply.header.CopyFrom(identity_header(self._node))
        reply.failure.CopyFrom(failure_of(error))
        return reply

    def _finish(self, request: _Request, reply: api_pb2.PipelineReply) -> None:
        request.stream.share.leave(request.size_bytes)
        counts, name = self._admission.counts, NAMES[request.kind]
        counts.ended(name, reply.failure.reason or OK, time.perf_counter() - request.began_s)
        counts.add_operations(name, request.parts)
        request.stream.reply(reply)
        self._log.debug(
            "pipeline.request",
            request_id=f"{request.stream.name}/{request.number}",
            kind=request.kind,
            parts=request.parts,
            failure=reply.failure.reason or None,
            term=reply.header.term,
            revision=reply.header.revision,
            took_ms=(self._loop.time() - request.arrived) * 1000,
        )


def _error_of(future: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if future.cancelled() else future.exception()

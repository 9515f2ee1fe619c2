"""The pipelined stream that our own client uses. Knows requests and replies, not the stream.

A batch of commands goes to the log as the bytes it came in: parsed once here to check the
limits, never rebuilt.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from raftkv.errors import InvalidRequest, RaftkvError
from raftkv.kv.limits import Limits
from raftkv.kv.pace import Steps
from raftkv.kv.validation import WHOLE_BATCH, Checked, check_in_steps
from raftkv.logs import Logger
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server import failures
from raftkv.server.admission import Admission
from raftkv.server.calls import Deadlines, header_of
from raftkv.server.disk_space import RequireRoom, room_for_all
from raftkv.server.node_port import NodePort
from raftkv.server.pipeline.stream import PipelineStream
from raftkv.server.reads import ReadHandler
from raftkv.server.traffic import CallTraffic, untracked
from raftkv.wire.failures import failure_of


@dataclass(slots=True)
class _Request:
    """A request that was let in and has no reply yet."""

    stream: PipelineStream
    number: int
    size_bytes: int
    arrived: float
    kind: str = ""
    parts: int = 0


class PipelineService:
    """All pipelines of this node."""

    def __init__(
        self,
        node: NodePort,
        reader: ReadHandler,
        admission: Admission,
        deadlines: Deadlines,
        limits: Limits,
        log: Logger,
        require_room: RequireRoom = room_for_all,
    ) -> None:
        self._node = node
        self._reader = reader
        self._admission = admission
        self._require_room = require_room
        self._deadlines = deadlines
        self._limits = limits
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._names = itertools.count(1)
        self._streams: dict[PipelineStream, None] = {}  # in order, as sets are not

    def end_streams(self) -> None:
        """Close every pipeline once what it has under way is answered."""
        for stream in self._streams:
            stream.end()

    async def open(
        self,
        _requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
        traffic: CallTraffic | None = None,
    ) -> None:
        """Serve one client's stream to its end. `traffic` counts what it leaves unfetched."""
        stream = PipelineStream(
            f"pipeline-{next(self._names)}",
            context,
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
        """Begin with a request; what is returned is to be awaited before the next one is read."""
        try:
            parsed = api_pb2.PipelineRequest.FromString(message)
        except DecodeError as error:
            # Without its number nobody could be told, so the whole stream ends.
            raise InvalidRequest(f"not a PipelineRequest: {error}") from error
        request = _Request(stream, parsed.number, len(message), self._loop.time())
        try:
            stream.share.enter(request.size_bytes)
        except RaftkvError as error:
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
        if request.kind == "commands":
            return self._check(request, parsed.commands, deadline)
        if request.kind == "reads":
            self._read(request, parsed.reads, deadline)
            return None
        raise InvalidRequest("request is not set; give commands or reads")

    # ---- commands --------------------------------------------------------------

    def _check(
        self, request: _Request, commands: bytes, deadline: float
    ) -> Coroutine[Any, Any, None] | None:
        try:
            batch = kv_pb2.CommandBatch.FromString(commands)
        except DecodeError as error:
            raise InvalidRequest(f"commands is not a CommandBatch: {error}") from error
        request.parts = len(batch.commands)
        steps = check_in_steps(batch, self._limits)
        try:
            next(steps)
        except StopIteration as done:
            self._submit(request, commands, batch, done.value, deadline)
            return None
        return self._check_on(request, commands, batch, steps, deadline)

    async def _check_on(
        self,
        request: _Request,
        commands: bytes,
        batch: kv_pb2.CommandBatch,
        steps: Steps[Checked],
        deadline: float,
    ) -> None:
        """Go on with a check that one turn of the loop has no time for."""
        try:
            while True:
                await asyncio.sleep(0)
                next(steps)
        except StopIteration as done:
            checked: Checked = done.value
        try:
            self._submit(request, commands, batch, checked, deadline)
        except RaftkvError as error:
            self._finish(request, self._failure(request, error))

    def _submit(
        self,
        request: _Request,
        commands: bytes,
        batch: kv_pb2.CommandBatch,
        checked: Checked,
        deadline: float,
    ) -> None:
        for position, refused in checked.refused:
            if position != WHOLE_BATCH:
                refused.facts["position"] = str(position)
            raise refused
        self._require_room(batch)
        results = self._node.submit(
            commands, deadline, client=request.stream.share.number, weight=checked.weight
        )
        results.add_done_callback(partial(self._submitted, request))

    def _submitted(self, request: _Request, results: asyncio.Future[bytes]) -> None:
        error = _error_of(results)
        if error is None:
            reply = self._reply(request)
            reply.results = results.result()
        else:
            reply = self._failure(request, failures.of_write(error))
        self._finish(request, reply)

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
        answer = self._reader.at_once(reads) if request.stream.has_room else None
        if answer is not None:
            self._finish_reads(request, answer)
        else:
            read = partial(self._reader.answer, reads, deadline)
            request.stream.read_in_turn(read).add_done_callback(partial(self._read_out, request))

    def _read_out(self, request: _Request, answer: asyncio.Future[api_pb2.ReadResults]) -> None:
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
        reply.failure.CopyFrom(failure_of(error))
        return reply

    def _finish(self, request: _Request, reply: api_pb2.PipelineReply) -> None:
        request.stream.share.leave(request.size_bytes)
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

"""`raftkv.rpc.v1.KV`: unary commands and reads, for generic gRPC clients."""

# ruff: noqa: N802 (gRPC finds a method by its name in the proto)

from __future__ import annotations

import asyncio

from raftkv.errors import OutcomeUnknown, RaftkvError
from raftkv.kv.limits import Limits
from raftkv.kv.validation import check_batch
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.server.calls import UnaryCall, UnaryCalls, data_call, header_of
from raftkv.server.disk_space import RequireRoom, room_for_all
from raftkv.server.node_port import NodePort
from raftkv.server.reads import ReadHandler
from raftkv.wire.failures import error_of, only_result


class KVService(api_pb2_grpc.KVServicer):
    """Commands without a session: a repeated command without an idempotency key runs again."""

    def __init__(
        self,
        node: NodePort,
        reader: ReadHandler,
        calls: UnaryCalls,
        limits: Limits,
        require_room: RequireRoom = room_for_all,
    ) -> None:
        self.calls = calls
        self._require_room = require_room
        self._node = node
        self._reader = reader
        self._limits = limits

    @data_call("kv.execute")
    async def Execute(
        self, request: api_pb2.ExecuteRequest, call: UnaryCall
    ) -> api_pb2.ExecuteReply:
        batch = kv_pb2.CommandBatch(commands=[request.command])
        checked = check_batch(batch, self._limits)
        for _, refused in checked.refused:
            raise refused
        self._require_room(batch)
        author = await call.requester.admit_command(request.command, call.deadline)
        error: RaftkvError | None = OutcomeUnknown("the caller did not wait for the result")
        try:
            results = await self._node.submit(
                batch.SerializeToString(),
                call.deadline,
                client=call.share.number,
                weight=checked.weight,
                author=author,
            )
            result = only_result(results)
            error = None
        except RaftkvError as failed:
            error = failed
            raise
        finally:
            for _, revision in checked.compactions:
                call.requester.report_compaction(revision, error)
        return api_pb2.ExecuteReply(header=header_of(self._node), result=result)

    @data_call("kv.range")
    async def Range(self, request: api_pb2.RangeRequest, call: UnaryCall) -> api_pb2.RangeReply:
        reads = api_pb2.ReadBatch(
            ranges=[request.range],
            level=request.level,
            min_revision=request.min_revision,
            max_staleness_ms=request.max_staleness_ms,
        )
        result, staleness_ms = await self._read(reads, call)
        reply = api_pb2.RangeReply(
            header=header_of(self._node), result=result.range, staleness_ms=staleness_ms
        )
        await asyncio.sleep(0)  # encoding a large reply takes some more milliseconds
        return reply

    @data_call("kv.read_transaction")
    async def ReadTransaction(
        self, request: api_pb2.ReadTransactionRequest, call: UnaryCall
    ) -> api_pb2.ReadTransactionReply:
        reads = api_pb2.ReadBatch(
            transactions=[request.transaction],
            level=request.level,
            min_revision=request.min_revision,
            max_staleness_ms=request.max_staleness_ms,
        )
        result, staleness_ms = await self._read(reads, call)
        reply = api_pb2.ReadTransactionReply(
            header=header_of(self._node), result=result.transaction, staleness_ms=staleness_ms
        )
        await asyncio.sleep(0)
        return reply

    async def _read(self, reads: api_pb2.ReadBatch, call: UnaryCall) -> tuple[kv_pb2.Result, int]:
        barrier = self._reader.barrier(reads, call.deadline)
        if barrier is not None:
            await barrier
        answer = await self._reader.answer(reads, call.requester, call.deadline)
        (result,) = answer.results
        if result.HasField("failure"):
            raise error_of(result.failure)
        await asyncio.sleep(0)
        return result, answer.staleness_ms

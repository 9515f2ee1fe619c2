"""What the steps of a walk ask with, and how they are answered.

A refusal is a fine answer if it is one of `raftkv.errors` that says that nothing happened.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import grpc

from raftkv import errors
from raftkv.errors import RaftkvError
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.wire.failures import error_of
from raftkv.wire.grpc_status import error_of_call
from tests.cluster.cluster import Cluster, eventually

PATIENCE_S = 20.0
REFUSALS = (errors.InvalidRequest, errors.Refused, errors.Overloaded)
REFUSALS_OF_READS = (*REFUSALS, errors.DeadlineExceeded)


class Walk:
    """What the steps ask, of whom, and what they were told."""

    def __init__(self, cluster: Cluster, leader: int) -> None:
        self.cluster = cluster
        self.leader = leader
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.restarted: set[int] = set()
        self.asked: set[str] = set()
        """The kinds of commands and operations that were handed in so far."""
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Walk:
        for node_id, node in self.cluster.nodes.items():
            channel = grpc.aio.insecure_channel(
                node.client_address, options=(("grpc.max_receive_message_length", -1),)
            )
            self._channels[node_id] = await self._opened.enter_async_context(channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    @property
    def followers(self) -> list[int]:
        return [node_id for node_id in self.cluster.nodes if node_id != self.leader]

    def channel(self, node_id: int = 0) -> grpc.aio.Channel:
        return self._channels[node_id or self.leader]

    def answered(self, error: RaftkvError | None, allowed: Sequence[type[RaftkvError]]) -> None:
        self.answers[error.reason if error else "ok"] += 1
        if error is not None and not isinstance(error, tuple(allowed)):
            self.faults.append(f"answered {error.reason}: {error.message[:120]}")

    async def ask(
        self, call: Callable[..., Awaitable[object]], request: object, *, read: bool
    ) -> object:
        """A unary call; its reply, or None if it was refused."""
        try:
            reply = await call(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as failed:
            error = error_of_call(failed)
            if error is None:
                self.answers[failed.code().name] += 1
                self.faults.append(f"ended with {failed.code().name}: {failed.details()}")
            else:
                self.answered(error, REFUSALS_OF_READS if read else REFUSALS)
            return None
        self.answered(None, ())
        return reply

    async def ask_stream(self, call: grpc.aio.StreamStreamCall[object, object]) -> None:
        """Read one reply of a stream, and end it."""
        try:
            reply = await call.read()
        except grpc.aio.AioRpcError as failed:
            error = error_of_call(failed)
            if error is None:
                self.faults.append(f"a stream ended with {failed.code().name}: {failed.details()}")
            else:
                self.answered(error, REFUSALS)
        else:
            self.answers["ok" if reply is not grpc.aio.EOF else "end"] += 1
        call.cancel()

    async def execute(self, command: kv_pb2.Command, node_id: int = 0) -> object:
        self._note(command)
        kv = api_pb2_grpc.KVStub(self.channel(node_id))  # type: ignore[no-untyped-call]
        return await self.ask(kv.Execute, api_pb2.ExecuteRequest(command=command), read=False)

    def _note(self, command: kv_pb2.Command) -> None:
        self.asked.add(str(command.WhichOneof("command")))
        left = [command.transaction]
        while left:
            transaction = left.pop()
            for each in (*transaction.success, *transaction.failure):
                self.asked.add(str(each.WhichOneof("operation")))
                left.append(each.transaction)

    async def read(self, request: kv_pb2.Range | kv_pb2.Transaction) -> None:
        """Of all nodes at once."""
        asked = []
        for channel in self._channels.values():
            kv = api_pb2_grpc.KVStub(channel)  # type: ignore[no-untyped-call]
            if isinstance(request, kv_pb2.Range):
                asked.append(self.ask(kv.Range, api_pb2.RangeRequest(range=request), read=True))
            else:
                of_many = api_pb2.ReadTransactionRequest(transaction=request)
                asked.append(self.ask(kv.ReadTransaction, of_many, read=True))
        await asyncio.gather(*asked)

    @asynccontextmanager
    async def pipeline(
        self, node_id: int = 0
    ) -> AsyncIterator[Callable[[api_pb2.PipelineRequest], Awaitable[None]]]:
        """One request after the other on a stream."""
        call = self.channel(node_id).stream_stream(
            "/raftkv.rpc.v1.Pipeline/Open",
            request_serializer=api_pb2.PipelineRequest.SerializeToString,
            response_deserializer=api_pb2.PipelineReply.FromString,
        )()

        async def ask(request: api_pb2.PipelineRequest) -> None:
            request.timeout_ms = int(PATIENCE_S * 1000)
            await call.write(request)
            self._heard(await call.read())

        try:
            yield ask
        finally:
            call.cancel()

    def _heard(self, reply: object) -> None:
        if not isinstance(reply, api_pb2.PipelineReply):
            self.faults.append("the pipeline ended")
            return
        if reply.HasField("failure"):
            self.answered(error_of(reply.failure), REFUSALS_OF_READS)
            return
        outcome = kv_pb2.BatchResult.FromString(reply.results)
        results = reply.reads.results or outcome.results
        failed = [each.failure for each in results if each.HasField("failure")]
        for failure in [outcome.failure] if outcome.HasField("failure") else failed:
            self.answered(error_of(failure), REFUSALS_OF_READS if reply.reads.results else REFUSALS)
        self.answers["ok"] += len(results) - len(failed)

    async def batch(
        self, commands: Sequence[kv_pb2.Command], node_id: int = 0, **fields: int
    ) -> None:
        batch = kv_pb2.CommandBatch(commands=commands, **fields)
        for command in commands:
            self._note(command)
        async with self.pipeline(node_id) as ask:
            await ask(api_pb2.PipelineRequest(number=1, commands=batch.SerializeToString()))

    async def applied(self) -> None:
        """Wait until every node has applied what the leader has committed."""
        committed = (await self.status(self.leader)).commit_index

        async def everywhere() -> bool:
            each = [await self.status(node_id) for node_id in self.cluster.nodes]
            return all(status.applied_index >= committed for status in each)

        await eventually(everywhere, f"all nodes have applied entry {committed}")

    async def status(self, node_id: int) -> api_pb2.StatusReply:
        stub = api_pb2_grpc.ClusterStub(self.channel(node_id))  # type: ignore[no-untyped-call]
        reply: api_pb2.StatusReply = await stub.Status(api_pb2.StatusRequest(), timeout=PATIENCE_S)
        return reply

    async def count(self, **of: bytes) -> int:
        stub = api_pb2_grpc.KVStub(self.channel())  # type: ignore[no-untyped-call]
        counted, more = 0, True
        while more:
            request = kv_pb2.Range(**of, page=True, count_only=True)
            reply = await stub.Range(api_pb2.RangeRequest(range=request), timeout=PATIENCE_S)
            counted, more = counted + reply.result.count, bool(reply.result.next_key)
            of["key"] = reply.result.next_key
        return counted


Step = Callable[[Walk], Awaitable[None]]


class Steps(dict[str, Step]):
    """Steps by the words of their names, in order."""

    def add(self, step: Step) -> Step:
        self[step.__name__.replace("_", " ")] = step
        return step

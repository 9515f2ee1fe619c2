"""A node that serves nothing says so to all who call, whatever they call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S
from grpc_health.v1 import health_pb2, health_pb2_grpc

from raftkv.errors import NotServing
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc
from raftkv.server.standby import FIRST_MESSAGE_S_MAX, StandbyServer
from raftkv.storage.identity import DirectoryIdentity
from raftkv.wire.grpc_status import error_of_call

WHY = "it waits until all first nodes of the cluster answer (node 2: it does not answer)"
PIPELINE = "/raftkv.rpc.v1.Pipeline/Open"
GREETING = api_pb2.PipelineRequest(reads=api_pb2.ReadBatch()).SerializeToString()


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    door = StandbyServer(DirectoryIdentity(0xC0FFEE, 1, 7, incarnation=0xF00D), lambda: WHY)
    port = await door.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await door.stop()


async def assert_refused(call: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    error = error_of_call(failed.value)
    assert isinstance(error, NotServing)
    assert WHY in error.message


async def test_status_and_health_answer(channel: grpc.aio.Channel) -> None:
    cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
    status = await cluster.Status(api_pb2.StatusRequest(), timeout=PATIENCE_S)
    assert (status.header.cluster_id, status.header.incarnation) == (0xC0FFEE, 0xF00D)
    assert status.not_serving == WHY
    health = health_pb2_grpc.HealthStub(channel)
    reply = await health.Check(health_pb2.HealthCheckRequest(service="raftkv"), timeout=PATIENCE_S)
    assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_call_is_refused_with_the_reason(channel: grpc.aio.Channel) -> None:
    kv = api_pb2_grpc.KVStub(channel)  # type: ignore[no-untyped-call]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await kv.Range(api_pb2.RangeRequest(), timeout=PATIENCE_S)
    assert isinstance(error_of_call(failed.value), NotServing)


async def test_a_stream_is_refused_once_its_first_message_is_there(
    channel: grpc.aio.Channel,
) -> None:
    """A refusal that meets a write under way would reach the caller without its reason."""
    call = channel.stream_stream(PIPELINE)(timeout=PATIENCE_S)
    refused = asyncio.create_task(assert_refused(call))
    _, waiting = await asyncio.wait({refused}, timeout=FIRST_MESSAGE_S_MAX / 4)
    assert waiting
    await call.write(GREETING)
    await refused


async def test_a_stream_without_a_message_is_refused_all_the_same(
    channel: grpc.aio.Channel,
) -> None:
    async with asyncio.timeout(FIRST_MESSAGE_S_MAX + PATIENCE_S):
        await assert_refused(channel.stream_stream(PIPELINE)())

"""grpc.health.v1, and what can be discovered without our protos."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from fake_node import PATIENCE_S, Door, open_door
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from raftkv.server import grpc_server, health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def until(door: Door, status: int) -> None:
    """Watch until the node shows this status."""
    stub = health_pb2_grpc.HealthStub(door.channel)
    async with asyncio.timeout(PATIENCE_S):
        async for reply in stub.Watch(health_pb2.HealthCheckRequest(service="raftkv")):
            if reply.status == status:
                return


@pytest.mark.parametrize("service", ["", "raftkv"])
async def test_a_node_that_has_caught_up_is_serving(door: Door, service: str) -> None:
    await until(door, SERVING)

    stub = health_pb2_grpc.HealthStub(door.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))

    assert reply.status == SERVING


async def test_a_node_that_is_not_ready_becomes_serving_when_it_is(tmp_path: Path) -> None:
    async with open_door(tmp_path, ready=False) as door:
        await until(door, NOT_SERVING)
        door.node.ready = True
        await until(door, SERVING)


async def test_those_who_watch_hear_of_the_shutdown_while_work_is_still_under_way(
    door: Door,
) -> None:
    await until(door, SERVING)
    door.node.hold = True
    pipeline = door.pipeline()
    await pipeline.send_commands(1)
    await door.node.submissions(1)

    draining = asyncio.create_task(door.front.drain(PATIENCE_S))
    await until(door, NOT_SERVING)

    assert not draining.done()
    door.node.release()
    await draining


async def test_a_watch_ends_and_may_begin_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "WATCH_S_MAX", 0.01)
    watch = health_pb2_grpc.HealthStub(door.channel).Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(PATIENCE_S):
        with suppress(grpc.aio.AioRpcError):
            while await watch.read():
                pass
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
    await until(door, SERVING)


async def test_a_stream_of_reflection_ends(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "STREAM_S_MAX", 0.01)
    stub = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    async with asyncio.timeout(PATIENCE_S):
        assert await stub.ServerReflectionInfo().code() is grpc.StatusCode.UNAVAILABLE


async def test_a_service_that_nobody_knows_is_not_found(door: Door) -> None:
    stub = health_pb2_grpc.HealthStub(door.channel)
    check = stub.Check(health_pb2.HealthCheckRequest(service="other"))
    assert await check.code() is grpc.StatusCode.NOT_FOUND
    assert set((await stub.List(health_pb2.HealthListRequest())).statuses) == {"", "raftkv"}


async def test_reflection_lists_every_service_there_is(door: Door) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    reply = await call.read()
    await call.done_writing()

    names = {service.name for service in reply.list_services_response.service}
    assert names == {
        *(
            f"raftkv.rpc.v1.{name}"
            for name in ("KV", "Lease", "Lock", "Watch", "Pipeline", "Cluster")
        ),
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }

"""grpc.health.v1, and what can be discovered without our protos."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from fake_node import PATIENCE_S, FakeServer, open_server
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from raftkv.server import grpc_server, health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def until(server: FakeServer, status: int) -> None:
    """Watch until the node shows this status."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    async with asyncio.timeout(PATIENCE_S):
        async for reply in stub.Watch(health_pb2.HealthCheckRequest(service="raftkv")):
            if reply.status == status:
                return


@pytest.mark.parametrize("service", ["", "raftkv"])
async def test_a_node_that_has_caught_up_is_serving(server: FakeServer, service: str) -> None:
    await until(server, SERVING)

    stub = health_pb2_grpc.HealthStub(server.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))

    assert reply.status == SERVING


async def test_a_node_that_is_not_ready_becomes_serving_when_it_is(tmp_path: Path) -> None:
    async with open_server(tmp_path, ready=False) as server:
        await until(server, NOT_SERVING)
        server.node.ready = True
        await until(server, SERVING)


async def test_health_watches_see_not_serving_while_requests_are_still_in_flight(
    server: FakeServer,
) -> None:
    await until(server, SERVING)
    server.node.hold = True
    pipeline = server.pipeline()
    await pipeline.send_commands(1)
    await server.node.submissions(1)

    draining = asyncio.create_task(server.client_server.drain(PATIENCE_S))
    await until(server, NOT_SERVING)

    assert not draining.done()
    server.node.release()
    await draining


async def test_a_health_watch_ends_and_may_be_opened_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "WATCH_S_MAX", 0.01)
    watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(PATIENCE_S):
        with suppress(grpc.aio.AioRpcError):
            while await watch.read():
                pass
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
    await until(server, SERVING)


async def test_a_reflection_stream_ends_after_its_time(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "STREAM_S_MAX", 0.01)
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    async with asyncio.timeout(PATIENCE_S):
        assert await stub.ServerReflectionInfo().code() is grpc.StatusCode.UNAVAILABLE


async def test_the_health_of_an_unknown_service_is_not_found(server: FakeServer) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    check = stub.Check(health_pb2.HealthCheckRequest(service="other"))
    assert await check.code() is grpc.StatusCode.NOT_FOUND
    assert set((await stub.List(health_pb2.HealthListRequest())).statuses) == {"", "raftkv"}


async def test_reflection_lists_every_service(server: FakeServer) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    reply = await call.read()
    await call.done_writing()

    names = {service.name for service in reply.list_services_response.service}
    assert names == {
        *(
            f"raftkv.rpc.v1.{name}"
            for name in (
                "KV",
                "Lease",
                "Lock",
                "Watch",
                "Pipeline",
                "Cluster",
                "Maintenance",
                "Auth",
            )
        ),
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }

"""The table of what every RPC needs: it is complete, and every server keeps to it."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S, FakeServer, open_server
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from users import Users

from raftkv.config import Settings
from raftkv.errors import RaftkvError, Unauthenticated
from raftkv.rpc.v1 import api_pb2
from raftkv.server.access import ACCESS, name_of_rpc
from raftkv.wire.grpc_status import error_of_call

DOCUMENT = Path(__file__).parents[2] / "docs" / "security-rights.part.md"

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in (api_pb2, health_pb2, reflection_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
OPEN = {
    "/raftkv.rpc.v1.Auth/Authenticate",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}


def test_the_table_has_every_rpc_of_every_service_and_no_other() -> None:
    assert ACCESS.keys() == METHODS.keys()


def test_every_rpc_that_the_port_serves_is_in_the_table(server: FakeServer) -> None:
    assert server.client_server._intake._handlers.keys() == ACCESS.keys()


def test_only_the_open_rpcs_need_no_authentication(tmp_path: Path) -> None:
    def open_with(**settings: Any) -> set[str]:
        made = Settings(data_dir=tmp_path, **settings)
        return {path for path, requirement in ACCESS.items() if requirement.open(made)}

    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert open_with() == OPEN
    assert open_with(open_health=False) == {"/raftkv.rpc.v1.Auth/Authenticate"}
    assert open_with(open_reflection=True) == OPEN | {reflection}


async def call(channel: grpc.aio.Channel, path: str) -> None:
    """Make the call with an empty request, until its first reply."""
    method: Any = METHODS[path]
    request = GetMessageClass(method.input_type)().SerializeToString()
    if method.client_streaming or method.server_streaming:
        stream = channel.stream_stream(path)(timeout=PATIENCE_S)
        await stream.write(request)
        await stream.read()
        stream.cancel()
    else:
        await channel.unary_unary(path)(request, timeout=PATIENCE_S)


async def error_of(call: Awaitable[None]) -> RaftkvError | None:
    try:
        await call
    except grpc.aio.AioRpcError as ended:
        return error_of_call(ended)
    return None


@pytest.mark.parametrize("path", METHODS)
async def test_without_a_credential_every_other_rpc_is_refused(
    server: FakeServer, path: str
) -> None:
    Users(server.node)
    error = await error_of(call(server.channel, path))
    assert isinstance(error, Unauthenticated) is (path not in OPEN)


async def test_health_is_closed_to_strangers_if_the_settings_say_so(tmp_path: Path) -> None:
    async with open_server(tmp_path, open_health=False) as server:
        await call(server.channel, "/grpc.health.v1.Health/Check")
        Users(server.node)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call(server.channel, "/grpc.health.v1.Health/Check")
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_documentation_has_the_table() -> None:
    lines = DOCUMENT.read_text().splitlines()
    for row in table():
        assert row in lines


def table() -> list[str]:
    """The rows of the documentation."""
    return [
        f"| `{name_of_rpc(path)}` | {requirement.summary} | {requirement.checked.value} |"
        for path, requirement in ACCESS.items()
    ]

"""The deny list on the client port: of new calls, and of streams that are open already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import FakeNode, put

from raftkv.config import Settings
from raftkv.logs import get_logger
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc
from raftkv.server.grpc_server import ClientServer
from raftkv.server.security import NodeSecurity
from tests.tls.authority import Authority, Issued

EXECUTE = api_pb2.ExecuteRequest(command=put("a"))
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class SecureServer:
    """A client port of a node that asks for certificates."""

    def __init__(self, directory: Path, certificates: str) -> None:
        self.authority = Authority(directory / "certificates")
        self.deny_file = directory / "denied"
        self.deny_file.touch()
        issued = self.authority.node(1)
        self.settings = Settings(
            data_dir=directory,
            client_cert_file=str(issued.cert_file),
            client_key_file=str(issued.key_file),
            client_ca_file=str(self.authority.ca_file),
            client_certificates=certificates,
            certificate_deny_file=str(self.deny_file),
        )
        self.security = NodeSecurity.of_settings(self.settings)
        self.node = FakeNode(self.settings, None)
        self.node.ready = True
        self.server = ClientServer(
            self.node, self.settings, get_logger(), pytest.fail, tls=self.security.client
        )
        self.port = 0

    def channel(self, shown: Issued) -> grpc.aio.Channel:
        credentials = self.authority.channel(shown)
        return grpc.aio.secure_channel(f"localhost:{self.port}", credentials)

    def deny(self, issued: Issued) -> None:
        self.deny_file.write_text(f"{issued.serial:x}")
        self.security.deny_list.refresh(get_logger())
        self.security.deny_list.end_denied()


@pytest.fixture(params=["required", "optional"])
async def server(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SecureServer]:
    made = SecureServer(tmp_path, request.param)
    made.port = await made.server.start("127.0.0.1:0")
    yield made
    made.node.release()
    await made.server.drain(0)
    await made.server.stop(0)


async def test_a_denied_certificate_gets_no_call_through_and_its_streams_end(
    server: SecureServer,
) -> None:
    bob, eve = server.authority.user("bob"), server.authority.user("eve")
    async with server.channel(bob) as of_bob, server.channel(eve) as of_eve:
        stubs: list[Any] = [api_pb2_grpc.KVStub(each) for each in (of_bob, of_eve)]
        streams = [api_pb2_grpc.WatchStub(each).Open() for each in (of_bob, of_eve)]
        create = api_pb2.WatchCreate(watch_id=1, key=b"a")
        for stub, stream in zip(stubs, streams, strict=True):
            await stub.Execute(EXECUTE)
            await stream.write(api_pb2.WatchRequest(creates=[create]))
            await stream.read()
        server.deny(eve)
        for ended in (streams[1].read(), stubs[1].Execute(EXECUTE)):
            with pytest.raises(grpc.aio.AioRpcError, match="deny list") as caught:
                await ended
            assert caught.value.code() is UNAUTHENTICATED
        await stubs[0].Execute(EXECUTE)
        await streams[0].write(api_pb2.WatchRequest(progress=True))
        await streams[0].read()
        streams[0].cancel()

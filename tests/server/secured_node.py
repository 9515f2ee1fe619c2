"""A real node of one, with users, behind a real client port on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from fake_node import PATIENCE_S

from jepsen_lite.ports import free_ports
from raftkv.config import Settings
from raftkv.errors import RaftkvError
from raftkv.kv.rights import ROOT
from raftkv.rpc.v1 import api_pb2 as api
from raftkv.rpc.v1 import api_pb2_grpc
from raftkv.server.process import NodeProcess
from raftkv.wire.grpc_status import error_of_call

PASSWORD = "correct horse battery staple"


@dataclass
class SecuredNode:
    process: NodeProcess
    channel: grpc.aio.Channel

    @property
    def machine(self) -> Any:
        return self.process._node.machine

    async def call(
        self, service: str, method: str, request: Any, token: str = "", **options: Any
    ) -> Any:
        """The reply; an error is raised as the client would raise it."""
        stub = getattr(api_pb2_grpc, f"{service}Stub")(self.channel)
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        try:
            return await getattr(stub, method)(
                request, timeout=PATIENCE_S, metadata=metadata, **options
            )
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error) or error from None

    async def auth(self, method: str, token: str = "", **fields: Any) -> Any:
        request = getattr(api, f"{method}Request", None) or getattr(api, f"Auth{method}Request")
        return await self.call("Auth", method, request(**fields), token)

    async def authenticate(self, name: str = ROOT, password: str = PASSWORD) -> str:
        """A session token. Waits for the first signing key."""
        await self.until(lambda: bool(self.machine.rights.signing_keys))
        reply = await self.auth("Authenticate", name=name, password=password)
        return str(reply.token)

    async def refused(self, method: str, token: str = "", **fields: Any) -> RaftkvError:
        try:
            await self.auth(method, token, **fields)
        except RaftkvError as error:
            return error
        raise AssertionError(f"{method} was not refused")

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - conditions of several objects
                await asyncio.sleep(0.005)

    async def add_root(self) -> str:
        """Add the user root; returns a session token of it."""
        await self.auth("UserAdd", name=ROOT, password=PASSWORD)
        await self.auth("UserGrantRole", name=ROOT, role=ROOT)
        return await self.authenticate()


def settings_of(data_dir: Path, **changes: Any) -> Settings:
    client, peer = (f"127.0.0.1:{port}" for port in free_ports(2))
    return Settings(
        data_dir=data_dir,
        client_listen=client,
        peer_listen=peer,
        http_listen="off",
        tick_ms=10,
        disk_reserve_bytes=0,
        **changes,
    )


@asynccontextmanager
async def secured_node(settings: Settings) -> AsyncIterator[SecuredNode]:
    process = NodeProcess(settings)
    await process.start()
    try:
        async with grpc.aio.insecure_channel(
            settings.client_listen, options=(("grpc.use_local_subchannel_pool", 1),)
        ) as channel:
            yield SecuredNode(process, channel)
    finally:
        await process.stop()

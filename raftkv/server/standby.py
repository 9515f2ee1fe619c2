"""The client port of a node that serves no requests: it waits to be founded, or is out of service.

Status reports the reason, health reports NOT_SERVING, and every other call fails with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from raftkv.errors import NotServing
from raftkv.kv.limits import Limits
from raftkv.logs import RateLimited, get_logger
from raftkv.rpc.v1 import api_pb2
from raftkv.server import resources
from raftkv.server.call_intake import (
    CallIntake,
    CallKind,
    Context,
    Method,
    StreamMethod,
    UnaryMethod,
)
from raftkv.server.grpc_server import options
from raftkv.server.health import Health
from raftkv.server.resources import CLIENT_CONNECTIONS_MAX
from raftkv.server.traffic import CallTraffic, ClientTraffic
from raftkv.storage.identity import DirectoryIdentity
from raftkv.tls.port import PLAINTEXT, GrpcPort, PortTls

FIRST_MESSAGE_S_MAX = 1.0
"""How long a refusal waits for the first message of a call."""

REFUSED: Final = CallKind("calls", 64, 256)

_STATUS = "/raftkv.rpc.v1.Cluster/Status"


class StandbyServer:
    """Listens until it is stopped. `reason` is called for each call."""

    def __init__(
        self,
        identity: DirectoryIdentity,
        reason: Callable[[], str],
        *,
        descriptors_max: int = CLIENT_CONNECTIONS_MAX,
        tls: PortTls = PLAINTEXT,
    ) -> None:
        self._identity = identity
        self._reason = reason
        log = RateLimited(get_logger(), asyncio.get_running_loop().time)
        # Every method fails before its first reply, so all can be served as streams.
        refused: dict[str, Method] = {
            f"/{service.full_name}/{method.name}": StreamMethod(self._refuse, REFUSED)
            for service in api_pb2.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        }
        status = {_STATUS: UnaryMethod(api_pb2.StatusRequest, self._answer_status)}
        methods = refused | status | Health(None).methods()
        intake = CallIntake(methods, ClientTraffic(), log, deny_list=tls.deny_list)
        self._server = GrpcPort(
            "client", intake, options(Limits()), tls, descriptors_max=descriptors_max
        )

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one). Returns the port. Raises `AddressInUse`."""
        return await self._server.start(address)

    async def stop(self) -> None:
        """Close the port."""
        await self._server.stop()

    async def _answer_status(self, _: api_pb2.StatusRequest, __: object) -> api_pb2.StatusReply:
        identity = self._identity
        return api_pb2.StatusReply(
            header=api_pb2.ReplyHeader(
                cluster_id=identity.cluster_id,
                node_id=identity.node_id,
                incarnation=identity.incarnation,
            ),
            version=resources.version(),
            not_serving=self._reason(),
        )

    async def _refuse(self, _: AsyncIterator[bytes], context: Context, __: CallTraffic) -> None:
        # Read before the refusal: a refusal during a write of the caller reaches it without its
        # reason (its gRPC reports "Internal error from Core").
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_MESSAGE_S_MAX):
                await context.read()
        raise NotServing(f"node {self._identity.node_id} serves nothing: {self._reason()}")

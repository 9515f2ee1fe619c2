"""The client port of a node that serves nothing: it waits to be founded, or is out of service.

It says so to everybody: by its status, its health, and the error of every other call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from raftkv.errors import NotServing
from raftkv.rpc import api_pb2
from raftkv.server import failures, resources
from raftkv.server.descriptors import CLIENT_CONNECTIONS_MAX
from raftkv.server.front_door import OPTIONS, listen
from raftkv.server.health import SERVICES
from raftkv.storage.identity import Identity

FIRST_MESSAGE_S_MAX = 1.0
"""A caller that has sent nothing by then is refused all the same."""

_STATUS = "/raftkv.rpc.Cluster/Status"


class _Everything(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Answers Status, and every other method with the reason why it is not served."""

    def __init__(self, identity: Identity, reason: Callable[[], str]) -> None:
        self._identity = identity
        self._reason = reason
        self._status = grpc.unary_unary_rpc_method_handler(
            self._answer_status,
            request_deserializer=api_pb2.StatusRequest.FromString,
            response_serializer=api_pb2.StatusReply.SerializeToString,
        )
        # Whatever the method's shape is: the error comes before any message.
        self._refusal = grpc.stream_stream_rpc_method_handler(self._refuse)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return self._status if details.method == _STATUS else self._refusal

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

    async def _refuse(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
        # Read before we refuse: a refusal that meets a write under way reaches the caller without
        # its reason (its gRPC says "Internal error from Core").
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_MESSAGE_S_MAX):
                await context.read()
        await failures.abort(
            context, NotServing(f"node {self._identity.node_id} serves nothing: {self._reason()}")
        )


class StandbyDoor:
    """Listens until it is stopped. `reason` is asked at each call."""

    def __init__(
        self,
        identity: Identity,
        reason: Callable[[], str],
        *,
        connections_max: int = CLIENT_CONNECTIONS_MAX,
    ) -> None:
        self._server = grpc.aio.server(
            options=(*OPTIONS, ("grpc.max_allowed_incoming_connections", connections_max))
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # not in the stubs
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((_Everything(identity, reason),))

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one). Returns the port. Raises `AddressInUse`."""
        port = listen(self._server, address)
        for service in SERVICES:
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Close the port."""
        await self._server.stop(None)

"""grpc.health.v1 for this node: whether it takes part, not whether the cluster has a majority.

A probe that fails on every node at once would have them all restarted, so a node that has once
caught up stays SERVING until it stops.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from grpc_health.v1 import health_pb2

from raftkv.errors import KeyNotFound, Unavailable
from raftkv.server.call_intake import HEALTH_WATCH, Context, Method, ServerStreamMethod, methods_of
from raftkv.server.traffic import CallTraffic

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
SERVICES = ("", "raftkv")
LOOK_INTERVAL_S = 0.05
WATCH_S_MAX = 3600.0
"""A watch ends then, and its client may begin another one."""

_Status = health_pb2.HealthCheckResponse


class HasReady(Protocol):
    @property
    def ready(self) -> bool: ...


class Health:
    """Follows a node's `ready` and tells those who watch; without a node it is never serving."""

    def __init__(self, node: HasReady | None) -> None:
        self._node = node
        self._status = _Status.NOT_SERVING
        self._changed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    def methods(self) -> dict[str, Method]:
        """What the front door's intake serves."""
        return methods_of(SERVICE, self) | {
            f"/{SERVICE.full_name}/Watch": ServerStreamMethod(
                health_pb2.HealthCheckRequest, self._watch, HEALTH_WATCH
            )
        }

    def start(self) -> None:
        """NOT_SERVING until the node is ready."""
        if self._node is not None:
            self._following = asyncio.create_task(self._follow(self._node))

    def stop(self) -> None:
        """NOT_SERVING for good."""
        if self._following is not None:
            self._following.cancel()
        self._show(_Status.NOT_SERVING)

    async def _follow(self, node: HasReady) -> None:
        while not node.ready:  # noqa: ASYNC110 (a node has no event for it; asked rarely)
            await asyncio.sleep(LOOK_INTERVAL_S)
        self._show(_Status.SERVING)

    def _show(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        self._status = status
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802 (the proto's name)
        self, request: health_pb2.HealthCheckRequest, _: Context
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in SERVICES:
            raise KeyNotFound(f"no service of this name; ask for one of {', '.join(SERVICES[1:])}")
        return _Status(status=self._status)

    async def List(  # noqa: N802 (the proto's name)
        self, _: health_pb2.HealthListRequest, __: Context
    ) -> health_pb2.HealthListResponse:
        return health_pb2.HealthListResponse(
            statuses={service: _Status(status=self._status) for service in SERVICES}
        )

    async def _watch(
        self, request: health_pb2.HealthCheckRequest, context: Context, traffic: CallTraffic
    ) -> None:
        known = request.service in SERVICES
        try:
            async with asyncio.timeout(WATCH_S_MAX):
                while True:
                    changed = self._changed
                    status = self._status if known else _Status.SERVICE_UNKNOWN
                    await traffic.write(context, _Status(status=status).SerializeToString())
                    await changed.wait()
        except TimeoutError:
            raise Unavailable("this watch is over; begin another one") from None

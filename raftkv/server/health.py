"""grpc.health.v1 for this node: whether it takes part, not whether the cluster has a majority.

A node that has caught up once stays SERVING until it stops: if the probes of all nodes failed
together, for example without a majority, an orchestrator would restart all of them.
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
POLL_INTERVAL_S = 0.05
WATCH_S_MAX = 3600.0
"""A watch ends then; its client may open another one."""

_Status = health_pb2.HealthCheckResponse


class HasReady(Protocol):
    @property
    def ready(self) -> bool: ...


class Health:
    """The health service. Polls `node.ready`; without a node the status is always NOT_SERVING."""

    def __init__(self, node: HasReady | None) -> None:
        self._node = node
        self._status = _Status.NOT_SERVING
        self._changed = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None

    def methods(self) -> dict[str, Method]:
        """The methods, for the `CallIntake`."""
        return methods_of(SERVICE, self) | {
            f"/{SERVICE.full_name}/Watch": ServerStreamMethod(
                health_pb2.HealthCheckRequest, self._watch, HEALTH_WATCH
            )
        }

    def start(self) -> None:
        """Begin to poll: NOT_SERVING until the node is ready."""
        if self._node is not None:
            self._polling = asyncio.create_task(self._poll(self._node))

    def stop(self) -> None:
        """NOT_SERVING from now on."""
        if self._polling is not None:
            self._polling.cancel()
        self._set_status(_Status.NOT_SERVING)

    async def _poll(self, node: HasReady) -> None:
        while not node.ready:  # noqa: ASYNC110 (the node has no event for it; polled rarely)
            await asyncio.sleep(POLL_INTERVAL_S)
        self._set_status(_Status.SERVING)

    def _set_status(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
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

"""grpc.health.v1 for this node: whether it takes part, not whether the cluster has a majority.

A probe that fails on every node at once would have them all restarted, so a node that has once
caught up stays SERVING until it stops.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICES = ("", "raftkv")
LOOK_INTERVAL_S = 0.05


class HasReady(Protocol):
    @property
    def ready(self) -> bool: ...


class Health:
    """Follows a node's `ready` and tells those who watch."""

    def __init__(self, node: HasReady) -> None:
        self._node = node
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # not in the stubs
        self._following: asyncio.Task[None] | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server that has not started."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """NOT_SERVING until the node is ready."""
        await self._show(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """NOT_SERVING for good."""
        if self._following is not None:
            self._following.cancel()
        await self._servicer.enter_graceful_shutdown()

    async def _follow(self) -> None:
        while not self._node.ready:  # noqa: ASYNC110 (a node has no event for it; asked rarely)
            await asyncio.sleep(LOOK_INTERVAL_S)
        await self._show(health_pb2.HealthCheckResponse.SERVING)

    async def _show(self, status: int) -> None:
        for service in SERVICES:
            await self._servicer.set(service, status)

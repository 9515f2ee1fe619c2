"""gRPC's reflection, by which a generic client learns what this port serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection import SERVICE_NAME
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from raftkv.errors import InvalidRequest, Unavailable
from raftkv.server.call_intake import REFLECTION, Context, Method, Stream
from raftkv.server.traffic import CallTraffic

STREAM_S_MAX = 60.0
"""A stream ends then; who wants to know more begins another one."""


class Reflection:
    """Tells of `services`, by their full names."""

    def __init__(self, services: Sequence[str]) -> None:
        self._servicer: Any = ReflectionServicer((*services, SERVICE_NAME))

    def methods(self) -> dict[str, Method]:
        """What the front door's intake serves."""
        return {f"/{SERVICE_NAME}/ServerReflectionInfo": Stream(self._tell, REFLECTION)}

    async def _tell(self, _: AsyncIterator[bytes], context: Context, traffic: CallTraffic) -> None:
        try:
            async with asyncio.timeout(STREAM_S_MAX):
                replies = self._servicer.ServerReflectionInfo(_requests(context, traffic), context)
                async for reply in replies:
                    await traffic.write(context, reply.SerializeToString())
        except TimeoutError:
            raise Unavailable("this stream is over; begin another one") from None


async def _requests(
    context: Context, traffic: CallTraffic
) -> AsyncIterator[ServerReflectionRequest]:
    while isinstance(message := await context.read(), bytes):
        traffic.connection.received += len(message)
        try:
            yield ServerReflectionRequest.FromString(message)
        except DecodeError as error:
            raise InvalidRequest(f"not a ServerReflectionRequest: {error}") from error

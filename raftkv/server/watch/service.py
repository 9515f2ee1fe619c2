"""`raftkv.rpc.v1.Watch`: the tasks of each watch stream, from its opening to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from raftkv.config import Settings
from raftkv.errors import (
    InvalidRequest,
    InvariantViolation,
    RaftkvError,
    ShuttingDown,
)
from raftkv.metrics import table
from raftkv.metrics.samples import SampleSet
from raftkv.rpc.v1 import api_pb2
from raftkv.server import failures
from raftkv.server.access import rpc_path
from raftkv.server.admission import Admission
from raftkv.server.authorization import Authorizer
from raftkv.server.calls import header_of
from raftkv.server.node_port import NodePort
from raftkv.server.traffic import CallTraffic
from raftkv.server.watch.session import WatchSession
from raftkv.server.watch.stream import ResponseStream
from raftkv.server.watch.synced import SyncedWatchers

OPEN: Final = rpc_path("Watch", "Open")


class WatchService:
    """All watch streams of this node.

    `on_broken` is called with damaged data or a broken invariant: such a node must stop.
    """

    def __init__(
        self,
        node: NodePort,
        authorizer: Authorizer,
        admission: Admission,
        settings: Settings,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self._node = node
        self._authorizer = authorizer
        self._admission = admission
        self._settings = settings
        self._on_broken = on_broken
        self._synced = SyncedWatchers(node, settings.watch_progress_interval_ms / 1000)
        self._streams: dict[ResponseStream, None] = {}

    def sample(self, samples: SampleSet) -> None:
        synced = self._synced
        samples.set(table.WATCHES, synced.watcher_count)
        samples.set(table.WATCH_STREAMS, len(self._streams))
        samples.set(table.WATCH_EVENTS, synced.events_sent)
        samples.set(table.WATCH_FALLBACKS, synced.fallbacks)

    def apply(self, settings: Settings) -> None:
        """Use the bounds of these settings for streams that are opened from now on."""
        self._settings = settings

    def end_streams(self) -> None:
        """Send queued responses and end every stream: clients resume at another node."""
        for stream in self._streams:
            stream.end()

    async def open(
        self,
        _requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
        traffic: CallTraffic | None = None,
    ) -> None:
        """Serve one stream to its end. `traffic` counts the replies that its client has not
        read.
        """
        settings = self._settings
        requester = await self._authorizer.requester_of_stream(OPEN, context)
        if requester is None:
            return
        stream = ResponseStream(
            context.write,
            lambda: header_of(self._node),
            settings.watch_buffer_bytes_max,
            traffic=traffic,
        )
        session = WatchSession(
            self._node,
            self._synced,
            stream,
            requester,
            settings.limits,
            settings.watches_max,
            settings.watches_per_stream_max,
        )
        if self._admission.closed:
            stream.end()
        self._streams[stream] = None
        try:
            await self._serve(context, stream, session)
        except (RaftkvError, InvariantViolation) as error:
            refused = failures.of_read(error)
            requester.report(refused)
            await failures.abort(context, refused, header_of(self._node))
        finally:
            del self._streams[stream]
            session.close()

    async def _serve(
        self,
        context: grpc.aio.ServicerContext[bytes, bytes],
        stream: ResponseStream,
        session: WatchSession,
    ) -> None:
        """Run until the client ends its requests or disconnects. Raises `ShuttingDown` if
        `stream.end` ends the stream, and `Unauthenticated` once its user is not authenticated any
        more.
        """
        loop = asyncio.get_running_loop()
        reading = loop.create_task(
            _read_requests(context, session, self._settings.watches_per_stream_max)
        )
        writing = loop.create_task(stream.run())
        reading_history = loop.create_task(self._read_history(session))
        tasks = (reading, writing, reading_history, session.refused)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # gRPC can't end a call while a message of it is being written.
            stream.end()
            await writing
            for task in done:
                task.result()
            if reading not in done:
                raise ShuttingDown("this node is stopping; ask another one")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_history(self, session: WatchSession) -> None:
        try:
            await session.run()
        except (RaftkvError, InvariantViolation) as error:
            if failures.ends_service(error):
                self._on_broken(error)
            raise


async def _read_requests(
    context: grpc.aio.ServicerContext[bytes, bytes], session: WatchSession, creates_max: int
) -> None:
    while True:
        message = await context.read()
        if not isinstance(message, bytes):  # the end of the client's requests
            return
        session.stream.traffic.connection.received += len(message)
        try:
            request = api_pb2.WatchRequest.FromString(message)
        except DecodeError as error:
            raise InvalidRequest(f"not a WatchRequest: {error}") from error
        if len(request.creates) > creates_max:
            raise InvalidRequest(
                f"creates has {len(request.creates)} entries, but a stream has at most"
                f" {creates_max} watches; send fewer",
                field="creates",
                limit=creates_max,
            )
        session.handle(request)
        # Errors are responses too: a client that reads no responses has no more requests handled.
        await session.stream.wait_for_room()

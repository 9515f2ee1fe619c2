"""The client server of a simulated node: the production handlers behind simulated connections.

Composed as `raftkv.server.grpc_server` does it, without a gRPC server.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
import structlog

from jepsen_lite.sim.net.pipes import Pipe
from jepsen_lite.sim.process import Process
from raftkv.client.connection.grpc_link import bearer
from raftkv.client.connection.link import PIPELINE, WATCH
from raftkv.config import Settings
from raftkv.node.node import Node
from raftkv.rpc.v1 import api_pb2
from raftkv.server.admission import Admission
from raftkv.server.authentication import TokenTimes
from raftkv.server.authorization import Authorizer
from raftkv.server.calls import Deadlines, UnaryCalls
from raftkv.server.passwords import check_password
from raftkv.server.pipeline.service import PipelineService
from raftkv.server.reads import ReadHandler
from raftkv.server.services.auth import AuthService
from raftkv.server.services.cluster import ClusterService
from raftkv.server.services.lease import LeaseService
from raftkv.server.services.lock import LockService
from raftkv.server.watch.service import WatchService

END_OF_STREAM = b""
TOKEN_TIMES = TokenTimes(session_ttl_ms=6_000, fresh_key_ms=600)
"""Tokens are renewed within a run."""
EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # missing from the stubs


class Aborted(Exception):
    """What `context.abort` raises: the status that the caller gets."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Any) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.metadata = metadata


class UnaryContext:
    """What the handlers of unary calls use of a gRPC context."""

    def __init__(self, peer: str, token: str, remaining_s: float) -> None:
        self._peer = peer
        self._token = token
        self._remaining_s = remaining_s

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> float:
        return self._remaining_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer(self._token)

    def auth_context(self) -> dict[str, Any]:
        return {}

    async def abort(self, code: grpc.StatusCode, details: str = "", metadata: Any = ()) -> NoReturn:
        raise Aborted(code, details, metadata)


class StreamContext:
    """What the streams use of a gRPC context. `outgoing` carries the replies to the client.

    `aborted`: the status with which the stream has ended, for the client once it receives the end.
    """

    def __init__(self, token: str, outgoing: Pipe) -> None:
        self.aborted: Aborted | None = None
        self._token = token
        self._outgoing = outgoing
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()

    def peer(self) -> str:
        return self._outgoing.target

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer(self._token)

    def auth_context(self) -> dict[str, Any]:
        return {}

    def arrived(self, message: bytes) -> None:
        self._incoming.put_nowait(message)

    async def read(self) -> Any:
        message = await self._incoming.get()
        return message if message != END_OF_STREAM else EOF

    async def write(self, message: bytes) -> None:
        self._outgoing.send(message)

    async def abort(self, code: grpc.StatusCode, details: str = "", metadata: Any = ()) -> NoReturn:
        raise Aborted(code, details, metadata)


class SimulatedPasswords:
    """`Passwords` without threads: hashed at once, and not for safety."""

    async def hash(self, password: str, address: str) -> str:
        check_password(password)
        return hashlib.sha256(password.encode()).hexdigest()

    async def verify(
        self, password: str, password_hash: str, address: str, begin: Callable[[], None]
    ) -> bool:
        begin()
        return await self.hash(password, address) == password_hash

    def close(self) -> None:
        """Nothing is under way."""


class SimulatedClientServer:
    """Serves clients of one incarnation of a node. Made while its process runs."""

    def __init__(
        self,
        process: Process,
        node: Node,
        settings: Settings,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self.process = process
        self._open: dict[Pipe, None] = {}
        log = structlog.get_logger()
        admission = self.admission = Admission(
            requests_max=settings.submissions_in_flight_max,
            requests_per_client_max=settings.requests_per_client_max,
            bytes_max=settings.uncommitted_bytes_max,
        )
        deadlines = Deadlines.of_settings(settings)
        reader = ReadHandler(node, settings.limits, on_broken)
        authorizer = Authorizer(node, settings, log, TOKEN_TIMES)
        calls = UnaryCalls(node, authorizer, admission, deadlines, log, on_broken)
        self._pipelines = PipelineService(
            reader, authorizer, admission, deadlines, settings.limits, log
        )
        self._watches = WatchService(node, authorizer, admission, settings, on_broken)
        self._streams: dict[str, Callable[[Any, Any], Awaitable[None]]] = {
            PIPELINE: self._pipelines.open,
            WATCH: self._watches.open,
        }
        cluster = ClusterService(node, reader, calls, settings.data_dir)
        lease = LeaseService(node, reader, calls, deadlines)
        self._locks = LockService(node, reader, calls, settings.limits)
        auth = AuthService(node, reader, calls, SimulatedPasswords())
        self.handlers = (self._pipelines, self._watches, self._locks, calls)
        """What keeps state for the node's clients."""
        self._methods: dict[str, tuple[Any, Callable[[Any, Any], Awaitable[Any]]]] = {}
        for service, servicer in (
            ("Cluster", cluster),
            ("Lease", lease),
            ("Lock", self._locks),
            ("Auth", auth),
        ):
            descriptor = api_pb2.DESCRIPTOR.services_by_name[service]
            for method in descriptor.methods:
                request_type = getattr(api_pb2, method.input_type.name)
                handler = getattr(servicer, method.name)
                self._methods[f"/{descriptor.full_name}/{method.name}"] = (request_type, handler)

    def open_stream(
        self,
        method: str,
        token: str,
        outgoing: Pipe,
        opened: Callable[[StreamContext, Any], None],
    ) -> None:
        """A client's stream begins; runs in the node's process."""
        context = StreamContext(token, outgoing)
        self._open[outgoing] = None
        task = self.process.create_task(self._serve(method, context, outgoing))
        opened(context, task)

    async def _serve(self, method: str, context: StreamContext, outgoing: Pipe) -> None:
        try:
            await self._streams[method](None, context)
        except Aborted as aborted:
            context.aborted = aborted
        finally:
            if self._open.pop(outgoing, True) is None:
                outgoing.send(END_OF_STREAM)

    def call(
        self,
        peer: str,
        method: str,
        token: str,
        request: bytes,
        remaining_s: float,
        answer: Callable[[bytes | Aborted], None],
    ) -> None:
        """A unary call; runs in the node's process."""
        context = UnaryContext(peer, token, remaining_s)
        self.process.create_task(self._call(context, method, request, answer))

    async def _call(
        self,
        context: UnaryContext,
        method: str,
        request: bytes,
        answer: Callable[[bytes | Aborted], None],
    ) -> None:
        request_type, handler = self._methods[method]
        try:
            reply = await handler(request_type.FromString(request), context)
        except Aborted as aborted:
            answer(aborted)
        else:
            answer(reply.SerializeToString())

    async def drain(self, grace_s: float) -> None:
        """Let nothing in any more; wait until the rest is done or the grace is over."""
        self.admission.close()
        self._watches.end_streams()
        self._locks.end_waits()
        try:
            async with asyncio.timeout(grace_s):
                await self.admission.idle()
        except TimeoutError:
            return

    def cut(self) -> None:
        """The process is about to die: its clients' streams end, and nothing more is sent."""
        for outgoing in self._open:
            outgoing.send(END_OF_STREAM)
        self._open.clear()

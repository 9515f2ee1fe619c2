"""The peer port: admits peers, and passes their frames and snapshots to the node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import grpc

from raftkv.clocks import LamportClock, LamportTime
from raftkv.errors import InvalidRequest, RaftkvError
from raftkv.logs import RateLimited, get_logger
from raftkv.peer.bounds import LAMPORT_JUMP_MAX
from raftkv.peer.codec import decode_founding, decode_frame, encode_founding, parse_frame
from raftkv.peer.grpc_options import CONNECTIONS_MAX, SERVER_OPTIONS
from raftkv.peer.handshake import (
    HELLO_KEY,
    PROOF_KEY,
    REASON_KEY,
    SERVICE,
    Caller,
    Credentials,
    HandshakeRefused,
    IncomingHandshake,
    PeerIdentity,
    Refusal,
)
from raftkv.peer.ports import FounderPort, Frame, PeerHandler
from raftkv.peer.snapshot_receive import SnapshotReceiver, parse_chunk
from raftkv.peer.snapshot_send import STALL_TIMEOUT_S
from raftkv.raft.breach import ProtocolBreach
from raftkv.rpc.v1 import peer_pb2
from raftkv.tls.certificates import certificate_of, real_peer
from raftkv.tls.port import GrpcPort

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

HANDSHAKE_TIMEOUT_S = 5.0
"""A caller has this long to answer its challenge."""

HANDSHAKES_MAX = 16
"""Callers without a verified proof; members are few, and a handshake takes a moment."""

STREAMS_PER_CALLER_MAX = 2
"""Streams of one node: the current one, and an older one that is not known to be broken yet."""

STREAMS_MAX = 128
"""Streams of all nodes together."""

_ADMITTED = peer_pb2.PeerReply(admitted=True).SerializeToString()

_FULL = HandshakeRefused(Refusal.NOT_READY, "this node has as many peer streams as it accepts")


@dataclass(frozen=True, slots=True)
class PeerPortLimits:
    """Bounds of the peer port."""

    connections_max: int = CONNECTIONS_MAX
    stall_timeout_s: float = STALL_TIMEOUT_S  # of a snapshot whose sender sends nothing


DEFAULT_LIMITS = PeerPortLimits()


class PeerServer:
    """Serves the Peer service: to founders from the start, to peers after `admit_peers`.

    The executor `disk` writes snapshot files. `clock` observes the time of each frame. `decode` is
    `decode_frame` or a wrapper of it. Peers are refused with `not_started` until `admit_peers`.
    """

    def __init__(
        self,
        credentials: Credentials,
        founder: FounderPort,
        disk: Executor,
        clock: LamportClock,
        not_started: HandshakeRefused,
        *,
        decode: Callable[[bytes, int, int], Frame] = decode_frame,
        limits: PeerPortLimits = DEFAULT_LIMITS,
    ) -> None:
        self._limits = limits
        self._credentials = credentials
        self._founder = founder
        self._disk = disk
        self._clock = clock
        self._not_started = not_started
        self._decode = decode
        self._pending = PendingHandshakes()
        self._admitted = AdmittedStreams()
        self._log = RateLimited(get_logger(node=credentials.identity.node_id), time.monotonic)
        self._handler: PeerHandler | None = None
        self._contacted: Callable[[Caller], None]
        self._snapshots: SnapshotReceiver
        self._server: GrpcPort | None = None

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one). Returns the port.

        Raises `AddressInUse`.
        """
        # Without (de)serialisers gRPC passes bytes; the codec parses them.
        methods = {
            "Connect": grpc.stream_stream_rpc_method_handler(self._connect),
            "SendSnapshot": grpc.stream_stream_rpc_method_handler(self._send_snapshot),
        }
        server = GrpcPort(
            "peer",
            grpc.method_handlers_generic_handler(SERVICE, methods),
            SERVER_OPTIONS,
            self._credentials.tls,
            descriptors_max=self._limits.connections_max,
        )
        self._server = server
        return await server.start(address)

    def admit_peers(
        self, identity: PeerIdentity, handler: PeerHandler, contacted: Callable[[Caller], None]
    ) -> None:
        """The node has started: admit peers from now on. `contacted` is called for each of them."""
        self._credentials = replace(self._credentials, identity=identity)
        self._contacted = contacted
        self._snapshots = SnapshotReceiver(
            identity, handler, self._disk, self._limits.stall_timeout_s
        )
        self._handler = handler

    async def stop(self) -> None:
        """Close the port and cancel all streams."""
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def _connect(self, _: object, context: Context) -> None:
        handshake, data = await self._challenge(context)
        if data is None:
            return
        frame = await self._parse(context, handshake, data)
        caller = await self._verify(context, handshake, frame.proof)
        if frame.HasField("founding"):
            await self._found(context, handshake, caller, frame.founding)
            return
        handler = await self._admit(context, handshake, caller)
        if self._admitted.full:
            await self._refuse(context, handshake, _FULL)
        with suppress(TimeoutError):
            async with self._admitted.slot(caller.node_id):
                await context.write(_ADMITTED)
                self._contacted(caller)
                await self._receive(context, handshake, caller, handler)

    async def _receive(
        self, context: Context, handshake: IncomingHandshake, caller: Caller, handler: PeerHandler
    ) -> None:
        """Pass all frames of the stream to the node."""
        node_id, sender, decode = self._credentials.identity.node_id, caller.node_id, self._decode
        while isinstance(data := await context.read(), bytes):
            refused = handshake.refusal_of_certificate() or handler.refusal_of(caller)
            if refused is not None:
                await self._refuse(context, handshake, refused)
            try:
                frame = decode(data, sender, node_id)
                if 0 < frame.lamport - self._clock.now.value <= LAMPORT_JUMP_MAX:
                    self._clock.observe(LamportTime(frame.lamport))
                handler.receive(sender, frame)
            except (InvalidRequest, ProtocolBreach) as error:
                await self._refuse(context, handshake, HandshakeRefused(Refusal.BREACH, str(error)))

    async def _found(
        self,
        context: Context,
        handshake: IncomingHandshake,
        caller: Caller,
        report: peer_pb2.Founding,
    ) -> None:
        try:
            answer = self._founder.answer(caller.node_id, decode_founding(report, caller.node_id))
        except InvalidRequest as error:
            await self._refuse(context, handshake, HandshakeRefused(Refusal.BREACH, error.message))
        reply = peer_pb2.PeerReply(founding=encode_founding(answer))
        await context.write(reply.SerializeToString())

    async def _send_snapshot(self, _: object, context: Context) -> None:
        # Read before any refusal: a refusal during a write of the sender reaches it without its
        # reason (its gRPC reports INTERNAL).
        handshake, data = await self._challenge(context)
        try:
            opening = parse_chunk(data)
            caller = await self._verify(context, handshake, opening.proof)
            await self._admit(context, handshake, caller)
            bytes_received = await self._snapshots.receive(
                caller.node_id, opening, context.read, lambda: context.write(_ADMITTED)
            )
        except RaftkvError as error:
            self._log.warning(
                "snapshot_not_taken",
                caller=real_peer(context),
                reason=error.reason,
                error=error.message,
            )
            await abort(context, error.reason, error.message)
        await context.write(peer_pb2.PeerReply(bytes_received=bytes_received).SerializeToString())

    async def _challenge(self, context: Context) -> tuple[IncomingHandshake, bytes | None]:
        """Send the challenge; the handshake, and the caller's next message (None: none in time)."""
        hello = dict(context.invocation_metadata() or ()).get(HELLO_KEY)
        handshake = IncomingHandshake(hello, self._credentials, certificate_of(context))
        if isinstance(handshake.caller, HandshakeRefused):
            await self._refuse(context, handshake, handshake.caller)
        version = (
            self._handler.cluster_version
            if self._handler
            else self._credentials.identity.versions.maximum
        )
        try:
            async with self._pending.wait():
                await context.write(handshake.challenge(version))
                data = await context.read()
        except TimeoutError:
            return handshake, None
        return handshake, data if isinstance(data, bytes) else None

    async def _verify(self, context: Context, handshake: IncomingHandshake, proof: bytes) -> Caller:
        caller = handshake.verify(proof)
        if isinstance(caller, HandshakeRefused):
            await self._refuse(context, handshake, caller)
        return caller

    async def _admit(
        self, context: Context, handshake: IncomingHandshake, caller: Caller
    ) -> PeerHandler:
        handler = self._handler
        if handler is None:
            await self._refuse(context, handshake, self._not_started)
        refused = (
            await handler.admit(caller)
            if caller.incarnation
            else HandshakeRefused(
                Refusal.BAD_HELLO, f"node {caller.node_id} belongs to no cluster yet"
            )
        )
        if refused is not None:
            await self._refuse(context, handshake, refused)
        return handler

    async def _parse(
        self, context: Context, handshake: IncomingHandshake, data: bytes
    ) -> peer_pb2.Frame:
        try:
            return parse_frame(data, 0)
        except InvalidRequest as error:
            await self._refuse(
                context, handshake, HandshakeRefused(Refusal.BAD_HELLO, error.message)
            )

    async def _refuse(
        self, context: Context, handshake: IncomingHandshake, refused: HandshakeRefused
    ) -> NoReturn:
        (self._log.info if refused.reason is Refusal.NOT_READY else self._log.warning)(
            "peer_refused",
            caller=real_peer(context),
            reason=str(refused.reason),
            details=refused.message,
        )
        proof = handshake.proof_of_refusal(refused.reason)
        await abort(context, refused.reason, refused.message, proof)


async def abort(context: Context, reason: str, message: str, proof: bytes = b"") -> NoReturn:
    """End the call with `reason`, for the calling program, and `message`, for its operator."""
    trailing = ((REASON_KEY, str(reason)), (PROOF_KEY, proof))
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, message, trailing)


class PendingHandshakes:
    """The handshakes that wait for a proof. One above the bound ends the oldest."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Timeout, None] = {}

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Raises `TimeoutError` in the body after `HANDSHAKE_TIMEOUT_S`, or when over the bound."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S) as own:
            self._waiting[own] = None
            if len(self._waiting) > HANDSHAKES_MAX:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                _expire(oldest, loop.time())
            try:
                yield
            finally:
                self._waiting.pop(own, None)


class AdmittedStreams:
    """The admitted streams. One above the bound of its node ends the oldest of that node."""

    def __init__(self) -> None:
        self._of_caller: dict[int, dict[asyncio.Timeout, None]] = {}
        self._count = 0

    @property
    def full(self) -> bool:
        return self._count >= STREAMS_MAX

    @asynccontextmanager
    async def slot(self, node_id: int) -> AsyncIterator[None]:
        """Raises `TimeoutError` in the body when newer streams of this node exceed the bound."""
        loop = asyncio.get_running_loop()
        streams = self._of_caller.setdefault(node_id, {})
        async with asyncio.timeout(None) as own:
            streams[own] = None
            self._count += 1
            if len(streams) > STREAMS_PER_CALLER_MAX:
                # Removed at once: the next stream may open before this one has ended.
                oldest = next(iter(streams))
                del streams[oldest]
                _expire(oldest, loop.time())
            try:
                yield
            finally:
                streams.pop(own, None)
                self._count -= 1
                if not streams and self._of_caller.get(node_id) is streams:
                    del self._of_caller[node_id]


def _expire(timeout: asyncio.Timeout, now: float) -> None:
    """End the block with `TimeoutError`, unless its own timeout has expired already."""
    if not timeout.expired():
        timeout.reschedule(now)

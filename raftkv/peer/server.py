"""The peer port: admits peers, hands their frames and snapshots to the node. Sends nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import grpc

from raftkv.clocks import LamportClock, LamportTime
from raftkv.errors import AddressInUse, InvalidRequest, RaftkvError
from raftkv.logs import RateLimited, get_logger
from raftkv.peer.bounds import LAMPORT_JUMP_MAX
from raftkv.peer.codec import decode_founding, decode_frame, encode_founding, parse_frame
from raftkv.peer.handshake import HELLO_KEY, PROOF_KEY, REASON_KEY, SERVICE, Caller, HandshakeRefused, PeerIdentity, Refusal
from raftkv.peer.grpc_options import CONNECTIONS_MAX, SERVER_OPTIONS
from raftkv.peer.introduction import Visitor
from raftkv.peer.incoming import AdmittedStreams, Introductions
from raftkv.peer.ports import FounderPort, Frame, PeerHandler
from raftkv.peer.secret import ClusterSecret
from raftkv.peer.snapshot_receive import SnapshotReceiver, parse_chunk
from raftkv.peer.snapshot_send import STALL_TIMEOUT_S
from raftkv.raft.breach import ProtocolBreach
from raftkv.rpc.v1 import peer_pb2

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

_ADMITTED = peer_pb2.PeerReply(admitted=True).SerializeToString()

_FULL = HandshakeRefused(Refusal.NOT_READY, "as many nodes as this one takes are connected already")


class PeerServer:
    """Serves only the Peer service: founders from the start, peers once `admit_peers` was called.

    `disk` runs the writing of snapshot files. `clock` follows what frames tell;
    `decode` is `decode_frame`, or what does more than it. `absent` is why there is no node yet.
    """

    def __init__(
        self,
        identity: PeerIdentity,
        secret: ClusterSecret,
        founder: FounderPort,
        disk: Executor,
        clock: LamportClock,
        absent: HandshakeRefused,
        *,
        decode: Callable[[bytes, int, int], Frame] = decode_frame,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._connections_max = connections_max
        self._identity = identity
        self._secret = secret
        self._founder = founder
        self._disk = disk
        self._clock = clock
        self._absent = absent
        self._decode = decode
        self._stall_timeout_s = stall_timeout_s
        self._introductions = Introductions()
        self._admitted = AdmittedStreams()
        self._log = RateLimited(get_logger(node=identity.node_id), time.monotonic)
        self._handler: PeerHandler | None = None
        self._contacted: Callable[[Caller], None]
        self._snapshots: SnapshotReceiver
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one). Returns the port.

        Raises `AddressInUse`.
        """
        bound = ("grpc.max_allowed_incoming_connections", self._connections_max)
        server = grpc.aio.server(options=(*SERVER_OPTIONS, bound))
        # Without (de)serialisers gRPC hands over bytes; the codec reads them in one go.
        methods = {
            "Connect": grpc.stream_stream_rpc_method_handler(self._connect),
            "SendSnapshot": grpc.stream_stream_rpc_method_handler(self._send_snapshot),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise AddressInUse(
                f"peers can't be listened to on {address}: stop the process that does, "
                f"or choose another peer_listen address ({error})"
            ) from error
        self._server = server
        await begin_to_serve(server)
        return port

    def admit_peers(
        self, identity: PeerIdentity, handler: PeerHandler, contacted: Callable[[Caller], None]
    ) -> None:
        """The node has started: from now on peers reach it. `contacted` gets each one admitted."""
        self._identity = identity
        self._contacted = contacted
        self._snapshots = SnapshotReceiver(identity, handler, self._disk, self._stall_timeout_s)
        self._handler = handler

    async def stop(self) -> None:
        """Close the port and break off what is under way."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def _connect(self, _: object, context: Context) -> None:
        visitor, data = await self._challenge(context)
        if data is None:
            return
        frame = await self._parse(context, visitor, data)
        caller = await self._verify(context, visitor, frame.proof)
        if frame.HasField("founding"):
            await self._found(context, visitor, caller, frame.founding)
            return
        handler = await self._admit(context, visitor, caller)
        if self._admitted.full:
            await self._refuse(context, visitor, _FULL)
        with suppress(TimeoutError):
            async with self._admitted.place(caller.node_id):
                await context.write(_ADMITTED)
                self._contacted(caller)
                await self._receive(context, visitor, caller, handler)

    async def _receive(
        self, context: Context, visitor: Visitor, caller: Caller, handler: PeerHandler
    ) -> None:
        """Hand all frames of the stream to the node."""
        node_id, sender, decode = self._identity.node_id, caller.node_id, self._decode
        while isinstance(data := await context.read(), bytes):
            refused = handler.refusal_of(caller)
            if refused is not None:
                await self._refuse(context, visitor, refused)
            try:
                frame = decode(data, sender, node_id)
                if 0 < frame.lamport - self._clock.now.value <= LAMPORT_JUMP_MAX:
                    self._clock.observe(LamportTime(frame.lamport))
                handler.receive(sender, frame)
            except (InvalidRequest, ProtocolBreach) as error:
                await self._refuse(context, visitor, HandshakeRefused(Refusal.BREACH, str(error)))

    async def _found(
        self, context: Context, visitor: Visitor, caller: Caller, said: peer_pb2.Founding
    ) -> None:
        try:
            answer = self._founder.answer(caller.node_id, decode_founding(said, caller.node_id))
        except InvalidRequest as error:
            await self._refuse(context, visitor, HandshakeRefused(Refusal.BREACH, error.message))
        reply = peer_pb2.PeerReply(founding=encode_founding(answer))
        await context.write(reply.SerializeToString())

    async def _send_snapshot(self, _: object, context: Context) -> None:
        # Read before we refuse anything: a refusal that meets a write under way reaches the sender
        # without its reason (its gRPC says INTERNAL).
        visitor, data = await self._challenge(context)
        try:
            opening = parse_chunk(data)
            caller = await self._verify(context, visitor, opening.proof)
            await self._admit(context, visitor, caller)
            bytes_received = await self._snapshots.receive(
                caller.node_id, opening, context.read, lambda: context.write(_ADMITTED)
            )
        except RaftkvError as error:
            self._log.warning(
                "snapshot_not_taken",
                caller=context.peer(),
                reason=error.reason,
                error=error.message,
            )
            await abort(context, error.reason, error.message)
        await context.write(peer_pb2.PeerReply(bytes_received=bytes_received).SerializeToString())

    async def _challenge(self, context: Context) -> tuple[Visitor, bytes | None]:
        """The caller with its answer to the challenge; None if there is none in time."""
        said = dict(context.invocation_metadata() or ()).get(HELLO_KEY)
        visitor = Visitor(said, self._identity, self._secret)
        if isinstance(visitor.caller, HandshakeRefused):
            await self._refuse(context, visitor, visitor.caller)
        version = (
            self._handler.cluster_version if self._handler else self._identity.versions.maximum
        )
        try:
            async with self._introductions.wait():
                await context.write(visitor.challenge(version))
                data = await context.read()
        except TimeoutError:
            return visitor, None
        return visitor, data if isinstance(data, bytes) else None

    async def _verify(self, context: Context, visitor: Visitor, proof: bytes) -> Caller:
        caller = visitor.verify(proof)
        if isinstance(caller, HandshakeRefused):
            await self._refuse(context, visitor, caller)
        return caller

    async def _admit(self, context: Context, visitor: Visitor, caller: Caller) -> PeerHandler:
        handler = self._handler
        if handler is None:
            await self._refuse(context, visitor, self._absent)
        refused = (
            await handler.admit(caller)
            if caller.incarnation
            else HandshakeRefused(
                Refusal.BAD_HELLO, f"node {caller.node_id} has no part in a cluster yet"
            )
        )
        if refused is not None:
            await self._refuse(context, visitor, refused)
        return handler

    async def _parse(self, context: Context, visitor: Visitor, data: bytes) -> peer_pb2.Frame:
        try:
            return parse_frame(data, 0)
        except InvalidRequest as error:
            await self._refuse(context, visitor, HandshakeRefused(Refusal.BAD_HELLO, error.message))

    async def _refuse(
        self, context: Context, visitor: Visitor, refused: HandshakeRefused
    ) -> NoReturn:
        (self._log.info if refused.reason is Refusal.NOT_READY else self._log.warning)(
            "peer_refused",
            caller=context.peer(),
            reason=str(refused.reason),
            details=refused.message,
        )
        proof = visitor.proof_of_refusal(refused.reason)
        await abort(context, refused.reason, refused.message, proof)


async def abort(context: Context, reason: str, message: str, proof: bytes = b"") -> NoReturn:
    """End the call; `reason` is what the caller's machine reads, `message` what its person does."""
    trailing = ((REASON_KEY, str(reason)), (PROOF_KEY, proof))
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, message, trailing)


async def begin_to_serve(server: grpc.aio.Server) -> None:
    """Start it to the end, even if the caller is cancelled: gRPC stops no half started server."""
    starting = asyncio.ensure_future(server.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        raise

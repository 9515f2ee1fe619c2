"""The peer port: lets peers in, hands their frames and snapshots to the node. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import grpc
import structlog

from raftkv.clocks import LamportClock, LamportTime
from raftkv.errors import AddressInUse, InvalidRequest, RaftkvError
from raftkv.rpc import peer_pb2
from raftkv.transport.codec import decode_frame
from raftkv.transport.handshake import (
    LET_IN,
    REASON_KEY,
    SERVER_OPTIONS,
    SERVICE,
    Caller,
    Identity,
    Refusal,
    Refused,
    check_hello,
)
from raftkv.transport.ports import Frame, PeerHandler
from raftkv.transport.snapshot_receiver import SnapshotReceiver
from raftkv.transport.snapshots import STALL_TIMEOUT_S

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

_log = structlog.get_logger()


class PeerServer:
    """Serves only the Peer service. `contacted` is told of every peer that was let in.

    `disk` runs the writing of snapshot files. `clock` follows what frames tell;
    `decode` is `decode_frame`, or what does more than it.
    """

    def __init__(
        self,
        identity: Identity,
        handler: PeerHandler,
        contacted: Callable[[Caller], None],
        disk: Executor,
        clock: LamportClock,
        *,
        decode: Callable[[bytes, int, int], Frame] = decode_frame,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._identity = identity
        self._handler = handler
        self._contacted = contacted
        self._clock = clock
        self._decode = decode
        self._snapshots = SnapshotReceiver(identity, handler, disk, stall_timeout_s)
        self._welcome = peer_pb2.Welcome(node_id=identity.node_id).SerializeToString()
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one). Returns the port.

        Raises `AddressInUse`.
        """
        server = grpc.aio.server(options=SERVER_OPTIONS)
        # Without (de)serialisers gRPC hands over bytes; the codec reads them in one go.
        methods = {
            "Connect": grpc.stream_stream_rpc_method_handler(self._connect),
            "SendSnapshot": grpc.stream_unary_rpc_method_handler(self._send_snapshot),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise AddressInUse(
                f"peers can't be listened to on {address}: stop the process that does, "
                f"or choose another peer_listen address ({error})"
            ) from error
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """Close the port and break off what is under way."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def _connect(self, _: object, context: Context) -> None:
        caller = await self._admit(context)
        await context.write(self._welcome)
        self._contacted(caller)
        handler, node_id, sender = self._handler, self._identity.node_id, caller.node_id
        decode = self._decode
        while isinstance(data := await context.read(), bytes):
            if not handler.is_member(sender):
                await self._refuse(context, removed(sender))
            try:
                frame = decode(data, sender, node_id)
                if frame.lamport > self._clock.now.value:
                    self._clock.observe(LamportTime(frame.lamport))
            except InvalidRequest as error:
                _log.error("peer_frame_bad", node=node_id, peer=sender, error=error.message)
                await abort(context, error.reason, error.message)
            handler.receive(sender, frame)

    async def _send_snapshot(self, _: object, context: Context) -> bytes:
        read = context.read
        try:
            # Read before we refuse anything: a refusal that meets a write under way reaches
            # the sender without its reason (its gRPC says INTERNAL).
            opening = await self._snapshots.next_chunk(read)
            caller = await self._admit(context)
            bytes_received = await self._snapshots.receive(
                caller.node_id, opening, read, lambda: context.send_initial_metadata((LET_IN,))
            )
        except RaftkvError as error:
            _log.warning(
                "snapshot_not_taken",
                node=self._identity.node_id,
                caller=context.peer(),
                reason=error.reason,
                error=error.message,
            )
            await abort(context, error.reason, error.message)
        return peer_pb2.SnapshotReceipt(bytes_received=bytes_received).SerializeToString()

    async def _admit(self, context: Context) -> Caller:
        caller = check_hello(context.invocation_metadata(), self._identity)
        if isinstance(caller, Refused):
            await self._refuse(context, caller)
        if not self._handler.is_member(caller.node_id):
            await self._refuse(context, removed(caller.node_id))
        return caller

    async def _refuse(self, context: Context, refused: Refused) -> NoReturn:
        _log.warning(
            "peer_refused",
            node=self._identity.node_id,
            caller=context.peer(),
            reason=str(refused.reason),
            details=refused.message,
        )
        await abort(context, refused.reason, refused.message)


def removed(peer: int) -> Refused:
    """What a node that has left the cluster is told."""
    return Refused(Refusal.REMOVED, f"node {peer} has been removed from the cluster")


async def abort(context: Context, reason: str, message: str) -> NoReturn:
    """End the call; `reason` is what the caller's machine reads, `message` what its person does."""
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, message, ((REASON_KEY, str(reason)),))

"""One outgoing link: a stream of frames to one peer that reconnects until it is closed.

A link is one task. While the stream is up, the task is its writer: `send` queues a frame and wakes
the task. All frames sent in one turn of the event loop, or during a write, leave in the next write.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

import grpc
import structlog

from raftkv.backoff import Backoff
from raftkv.clocks import LamportClock, LamportTime
from raftkv.peer.codec import encode_by_queue, encode_stamp
from raftkv.peer.connection import connect_to
from raftkv.peer.handshake import (
    CONNECT,
    HELLO_KEY,
    Credentials,
    Ending,
    HandshakeFailed,
    HandshakeRefused,
    Refusal,
    encode_hello,
    ending_of,
    is_admitted,
    prove,
)
from raftkv.peer.outbox import FrameOutbox
from raftkv.peer.ports import Frame, PeerHandler
from raftkv.rpc.v1 import peer_pb2

CONNECT_TIMEOUT_S = 2.0
RECONNECT_DELAY_S_MIN = 0.05
RECONNECT_DELAY_S_MAX = 1.0

Encode: TypeAlias = Callable[[Frame], tuple[bytes, bytes]]
"""A frame as the bytes of the control and of the bulk queue: `encode_by_queue`, or a wrapper."""

_log = structlog.get_logger()


class PeerLink:
    """Writes frames to `peer` until closed, at the first of `addresses` where the peer admits this
    node. Must be constructed inside a running event loop.
    """

    def __init__(
        self,
        credentials: Credentials,
        peer: int,
        addresses: Sequence[str],
        handler: PeerHandler,
        random: Random,
        clock: LamportClock,
        encode: Encode = encode_by_queue,
    ) -> None:
        self.peer = peer
        self.up = False
        self.leaving = False  # this node is stopping, so a peer that disconnects is expected
        self._was_up = False
        self._was_admitted = False  # by the last call
        self._fell_back = False  # to plaintext, at the last connection
        self._credentials = credentials
        self._addresses = tuple(addresses)
        self._attempt = 0
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] | None = None
        self._handler = handler
        self._backoff = Backoff(random, RECONNECT_DELAY_S_MIN, RECONNECT_DELAY_S_MAX, jitter=0.5)
        self._clock = clock
        self._encode = encode
        self._outbox = FrameOutbox()
        self._wake = asyncio.Event()
        self._contacted = asyncio.Event()
        self._last_ending: Ending | None = None
        self.task = asyncio.get_running_loop().create_task(self._run(), name=f"link-to-{peer}")

    @property
    def address(self) -> str:
        """The address of the connection, or of the next attempt."""
        return self._addresses[self._attempt % len(self._addresses)]

    @property
    def queued_bytes(self) -> int:
        """The bytes of frames that wait to be written."""
        return self._outbox.control.bytes + self._outbox.bulk.bytes

    def readdress(self, addresses: Sequence[str]) -> None:
        """Replace the peer's addresses; the first is the most likely one."""
        if self._addresses == tuple(addresses) or not addresses:
            return
        before, self._addresses, self._attempt = self.address, tuple(addresses), 0
        if self.address != before and self._call is not None:
            self._call.cancel()
        self.contacted()

    def send(self, frame: Frame) -> None:
        """Queue the frame for the writer; it is dropped if the link is down or its queue is
        full.
        """
        if not self.up:
            return
        control, bulk = self._encode(frame)
        if control:
            self._outbox.control.put(control)
        if bulk:
            self._outbox.bulk.put(bulk)
        self._wake.set()

    def contacted(self) -> None:
        """The peer has just connected to this node, so it is alive: skip the rest of the
        back-off.
        """
        self._contacted.set()

    def close(self) -> None:
        """Cancel the link; `task` ends soon after."""
        self.task.cancel()

    async def _run(self) -> None:
        while True:
            self._contacted.clear()
            tried, self._was_admitted = self._addresses, False
            ending = await self._connect_and_write()
            # gRPC swallows a cancellation that coincides with the failure of the awaited call.
            if _is_cancelled():
                return
            self._ended(ending)
            # Reconnect first at the address where the peer was; try another after a failed attempt.
            if self._addresses is tried and not self._was_admitted:
                self._attempt += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.next_s()):
                    await self._contacted.wait()
                    self._backoff.reset()

    async def _connect_and_write(self) -> Ending:
        connection = await connect_to(self.peer, self.address, self._credentials)
        self._log_plaintext(connection.fell_back)
        channel, credentials = connection.channel, connection.credentials
        try:
            connect = channel.stream_stream(CONNECT, None, None)
            hello = encode_hello(
                self._credentials.identity, self.peer, self._handler.last_log_index
            )
            call = self._call = connect(None, metadata=((HELLO_KEY, hello),))
            try:
                # Any of these may report the end of the stream; the call itself has the reason.
                with contextlib.suppress(
                    grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError
                ):
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        proof = await prove(call.read, hello, self.peer, credentials)
                        await call.write(peer_pb2.Frame(proof=proof).SerializeToString())
                        admitted = is_admitted(await call.read())
                    if admitted:
                        self._admitted()
                        await self._write(call)
            except HandshakeFailed as error:
                call.cancel()
                return Ending("REFUSED_HERE", error.refused.reason, error.refused.message)
            except asyncio.CancelledError:
                # gRPC raises this as well after `readdress` has cancelled the call.
                if _is_cancelled():
                    raise
            return await ending_of(call, hello, credentials.secret)
        finally:
            self._call = None
            await channel.close(None)

    def _log_plaintext(self, fell_back: bool) -> None:
        if fell_back and not self._fell_back:
            _log.warning(
                "peer_link_plaintext",
                node=self._credentials.identity.node_id,
                peer=self.peer,
                address=self.address,
                message="the peer does not accept TLS, and peer_tls is optional",
            )
        self._fell_back = fell_back

    async def _write(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        outbox, wake, clock = self._outbox, self._wake, self._clock
        stamp, stamped_at = b"", LamportTime()
        call.add_done_callback(lambda _: wake.set())
        while not call.done():
            wake.clear()
            while data := outbox.take():
                # Only log lines advance the Lamport clock, not frames, so most frames carry the
                # same time as the frame before and its encoding is reused.
                if clock.now is not stamped_at:
                    stamped_at = clock.now
                    stamp = encode_stamp(stamped_at)
                await call.write(data + stamp)
            await wake.wait()

    def _admitted(self) -> None:
        self.up = self._was_up = self._was_admitted = True
        self._backoff.reset()
        self._last_ending = None
        self._handler.link_up(self.peer)
        _log.info("peer_link_up", node=self._credentials.identity.node_id, peer=self.peer)

    def _ended(self, ending: Ending) -> None:
        if ending != self._last_ending:
            # A peer that has not started yet is expected; a peer that was up and is gone may be a
            # fault.
            starting = ending.reason == Refusal.NOT_READY
            is_fault = not starting and (ending.reason or (self._was_up and not self.leaving))
            texts = {"reason": ending.reason, "details": ending.details}
            (_log.warning if is_fault else _log.info)(
                "peer_link_down",
                node=self._credentials.identity.node_id,
                peer=self.peer,
                address=self.address,
                code=ending.code,
                **{name: text for name, text in texts.items() if text},
            )
        self._last_ending = ending
        if self.up:
            self.up = False
            self._outbox.clear()
            self._handler.link_down(self.peer)
        if ending.proven and ending.reason in Refusal.__members__:
            self._handler.refused(
                self.peer, HandshakeRefused(Refusal(ending.reason), ending.details)
            )


def _is_cancelled() -> bool:
    """Whether this task is cancelled, and not only a call that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

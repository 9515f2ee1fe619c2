"""One outgoing link: a stream to one peer that is always up or trying to be. Knows no Raft.

A link is one task. While the stream is up the task is its writer: `send` only queues and wakes
it, so everything that is sent in one turn of the loop, or while a write is under way, leaves in
one write, and a lone frame leaves in the next turn.
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
from raftkv.peer.codec import encode_lanes, encode_stamp
from raftkv.peer.handshake import (
    CHANNEL_OPTIONS,
    CONNECT,
    HELLO_KEY,
    Ending,
    HandshakeRefused,
    PeerIdentity,
    Refusal,
    ending_of,
    hello,
)
from raftkv.peer.introduction import NotIntroduced, is_admitted, prove
from raftkv.peer.outbox import FrameOutbox
from raftkv.peer.ports import Frame, PeerHandler
from raftkv.peer.secret import ClusterSecret
from raftkv.rpc.v1 import peer_pb2

CONNECT_TIMEOUT_S = 2.0
RECONNECT_DELAY_S_MIN = 0.05
RECONNECT_DELAY_S_MAX = 1.0

Encode: TypeAlias = Callable[[Frame], tuple[bytes, bytes]]
"""The bytes of a frame's two lanes: `encode_lanes`, or what does more than it."""

_log = structlog.get_logger()


class PeerLink:
    """Writes to `peer` until closed, at the first of its `addresses` that is the peer's. Must be
    made inside a running loop.
    """

    def __init__(
        self,
        identity: PeerIdentity,
        secret: ClusterSecret,
        peer: int,
        addresses: Sequence[str],
        handler: PeerHandler,
        random: Random,
        clock: LamportClock,
        encode: Encode = encode_lanes,
    ) -> None:
        self.peer = peer
        self.up = False
        self.leaving = False  # this node stops: that others go, too, is no news
        self._was_up = False
        self._was_admitted = False  # by the last call
        self._identity = identity
        self._secret = secret
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
        """Where the peer is, or is tried next."""
        return self._addresses[self._attempt % len(self._addresses)]

    def readdress(self, addresses: Sequence[str]) -> None:
        """The peer is at one of these, most likely at the first."""
        if self._addresses == tuple(addresses) or not addresses:
            return
        before, self._addresses, self._attempt = self.address, tuple(addresses), 0
        if self.address != before and self._call is not None:
            self._call.cancel()
        self.contacted()

    def send(self, frame: Frame) -> None:
        """Queue the frame for the writer; dropped if the link is down or its lane is full."""
        if not self.up:
            return
        control, bulk = self._encode(frame)
        if control:
            self._outbox.control.put(control)
        if bulk:
            self._outbox.bulk.put(bulk)
        self._wake.set()

    def contacted(self) -> None:
        """The peer has just called us, so it lives: do not wait out the back-off."""
        self._contacted.set()

    def close(self) -> None:
        """Break off; `task` ends soon after."""
        self.task.cancel()

    async def _run(self) -> None:
        while True:
            self._contacted.clear()
            tried, self._was_admitted = self._addresses, False
            ending = await self._connect_and_write()
            # gRPC swallows a cancellation that meets the failure of the call awaited.
            if _is_cancelled():
                return
            self._ended(ending)
            # Where it was is where it will be.
            if self._addresses is tried and not self._was_admitted:
                self._attempt += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.next_s()):
                    await self._contacted.wait()
                    self._backoff.reset()

    async def _connect_and_write(self) -> Ending:
        channel = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        try:
            connect = channel.stream_stream(CONNECT, None, None)
            said = hello(self._identity, self.peer, self._handler.last_log_index)
            call = self._call = connect(None, metadata=((HELLO_KEY, said),))
            try:
                # Which of these tells us that the stream has ended is chance; the call knows why.
                with contextlib.suppress(
                    grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError
                ):
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        admitted = await self._introduce(call, said)
                    if admitted:
                        self._admitted()
                        await self._write(call)
            except NotIntroduced as error:
                call.cancel()
                return Ending("REFUSED_HERE", error.refused.reason, error.refused.message)
            except asyncio.CancelledError:
                # So, too, gRPC says that `readdress` has cancelled the call.
                if _is_cancelled():
                    raise
            return await ending_of(call, said, self._secret)
        finally:
            self._call = None
            await channel.close(None)

    async def _introduce(self, call: grpc.aio.StreamStreamCall[bytes, bytes], said: bytes) -> bool:
        """Whether the peer has admitted this node."""
        proof = await prove(call.read, said, self.peer, self._identity, self._secret)
        await call.write(peer_pb2.Frame(proof=proof).SerializeToString())
        return is_admitted(await call.read())

    async def _write(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        outbox, wake, clock = self._outbox, self._wake, self._clock
        stamp, stamped_at = b"", LamportTime()
        call.add_done_callback(lambda _: wake.set())
        while not call.done():
            wake.clear()
            while data := outbox.take():
                # Log lines are the only events: a frame says up to where its writer's have come,
                # and is none itself. So most frames carry the stamp of the one before.
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
        _log.info("peer_link_up", node=self._identity.node_id, peer=self.peer)

    def _ended(self, ending: Ending) -> None:
        if ending != self._last_ending:
            # A peer that has yet to start is no fault, one that was there and is gone may be one.
            starting = ending.reason == Refusal.NOT_READY
            is_fault = not starting and (ending.reason or (self._was_up and not self.leaving))
            said = {"reason": ending.reason, "details": ending.details}
            (_log.warning if is_fault else _log.info)(
                "peer_link_down",
                node=self._identity.node_id,
                peer=self.peer,
                address=self.address,
                code=ending.code,
                **{name: text for name, text in said.items() if text},
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
    """Whether it is this task that is to end, not only a call that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

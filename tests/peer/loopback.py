"""The peer sides of several nodes on loopback, in one event loop, with a handler that records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from jepsen_lite.ports import free_ports
from raftkv.clocks import LamportClock
from raftkv.errors import RaftkvError
from raftkv.peer.codec import decode_frame
from raftkv.peer.handshake import (
    CONNECT,
    HELLO_KEY,
    Caller,
    Credentials,
    HandshakeRefused,
    PeerIdentity,
    Refusal,
    encode_hello,
)
from raftkv.peer.links import GrpcPeerLinks
from raftkv.peer.message_trace import MessageTrace, TracedPeerLinks
from raftkv.peer.ports import FounderStage, Founding, Frame
from raftkv.peer.secret import ClusterSecret
from raftkv.peer.server import PeerPortLimits, PeerServer
from raftkv.raft.entry import Address
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.rpc.v1 import peer_pb2
from raftkv.storage.ports import Start
from raftkv.tls.port import PLAINTEXT, PortTls

DEADLINE_S = 20.0
INCARNATION = 0xF00D
NOT_STARTED = HandshakeRefused(Refusal.NOT_READY, "this node has not started yet")


class FixedFounder:
    """A `FounderPort` that records reports and always answers the same."""

    def __init__(self, reply: Founding) -> None:
        self.reply = reply
        self.received: list[tuple[int, Founding]] = []

    def answer(self, sender: int, said: Founding) -> Founding:
        self.received.append((sender, said))
        return self.reply


class Recorder:
    """A `PeerHandler` that records its calls, and lets tests wait for them."""

    def __init__(self, snapshot_root: Path) -> None:
        self.snapshot_root = snapshot_root
        self.frames: list[tuple[int, Frame]] = []
        self.broken: list[int] = []
        self.linked: list[int] = []
        self.callers: list[Caller] = []
        self.refusals: list[tuple[int, HandshakeRefused]] = []
        self.refusals_of: dict[int, HandshakeRefused] = {}
        self.last_log_index = 0
        self.cluster_version = 1
        self.breach: Exception | None = None
        self.finished: list[tuple[InstallSnapshot, Path]] = []
        self.refuse_snapshot: RaftkvError | None = None
        self.before_finish: Callable[[], Awaitable[object]] | None = None
        self._changed = asyncio.Event()

    @property
    def messages(self) -> list[Message]:
        return [message for _, frame in self.frames for message in frame.messages]

    async def admit(self, caller: Caller) -> HandshakeRefused | None:
        self.callers.append(caller)
        self._changed.set()
        return self.refusals_of.get(caller.node_id)

    def refusal_of(self, caller: Caller) -> HandshakeRefused | None:
        return self.refusals_of.get(caller.node_id)

    def receive(self, sender: int, frame: Frame) -> None:
        if self.breach is not None:
            raise self.breach
        self.frames.append((sender, frame))
        self._changed.set()

    def begin_snapshot(self, message: InstallSnapshot) -> Path:
        if self.refuse_snapshot is not None:
            raise self.refuse_snapshot
        root = self.snapshot_root / f"incoming-{message.snapshot.last_included_index}"
        root.mkdir(parents=True)
        return root

    async def finish_snapshot(self, message: InstallSnapshot, received: Path) -> None:
        if self.before_finish is not None:
            await self.before_finish()
        self.finished.append((message, received))
        self._changed.set()

    def link_down(self, peer: int) -> None:
        self.broken.append(peer)
        self._changed.set()

    def link_up(self, peer: int) -> None:
        self.linked.append(peer)
        self._changed.set()

    def refused(self, by: int, refused: HandshakeRefused) -> None:
        self.refusals.append((by, refused))
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds`, which is evaluated after each call of the handler."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


@dataclass
class PeerSide:
    """One node's handler, links and peer port."""

    identity: PeerIdentity
    handler: Recorder
    links: GrpcPeerLinks
    server: PeerServer
    clock: LamportClock
    secret: ClusterSecret
    founder: FixedFounder
    tls: PortTls = PLAINTEXT

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.identity, self.secret, self.tls, "raftkv")

    @property
    def address(self) -> str:
        return self.identity.address.peer

    def admit_peers(self) -> None:
        """The node has started."""
        self.server.admit_peers(self.identity, self.handler, self.links.contacted)

    async def listen(self) -> None:
        """Open the peer port, or open it again."""
        await self.server.start(self.address)

    def connect(self, *peers: PeerSide) -> None:
        self.links.set_peers({peer.identity.node_id: peer.address for peer in peers})

    async def until_connected(self, *peers: int) -> None:
        """Wait until the links are up; a frame is dropped while its link is down."""
        async with asyncio.timeout(DEADLINE_S):
            # There is no event for a link that comes up.
            while not self.links.connected.issuperset(peers):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        await self.links.close()
        await self.server.stop()


@dataclass
class Loopback:
    """Opens peer sides of nodes and closes them."""

    directory: Path
    disk: Executor
    sides: list[PeerSide] = field(default_factory=list)

    async def open(
        self,
        node_id: int,
        *,
        stall_timeout_s: float = 10.0,
        trace: MessageTrace | None = None,
        secret: bytes = b"",
        hints: Mapping[int, str] | None = None,
        started: bool = True,
        tls: PortTls = PLAINTEXT,
        **changed: Any,
    ) -> PeerSide:
        """The peer side of a node; `changed` are fields of its identity."""
        (port,) = free_ports(1)
        address = Address(f"127.0.0.1:{port}", "127.0.0.1:1")
        identity = replace(PeerIdentity(7, INCARNATION, node_id, address, node_id), **changed)
        handler = Recorder(self.directory / f"node-{len(self.sides)}")
        clock, rng = LamportClock(), Random(node_id)
        credentials = Credentials(identity, ClusterSecret(secret), tls, "raftkv")
        links = (
            GrpcPeerLinks(
                credentials, rng, self.disk, clock, hints, stall_timeout_s=stall_timeout_s
            )
            if trace is None
            else TracedPeerLinks(credentials, rng, self.disk, clock, hints, trace=trace)
        )
        links.start(handler, Start(1, node_id))
        founder = FixedFounder(Founding(FounderStage.EMPTY, disk_id=node_id))
        server = PeerServer(
            credentials,
            founder,
            self.disk,
            clock,
            NOT_STARTED,
            decode=decode_frame if trace is None else trace.decode,
            limits=PeerPortLimits(stall_timeout_s=stall_timeout_s),
        )
        side = PeerSide(identity, handler, links, server, clock, credentials.secret, founder, tls)
        if started:
            side.admit_peers()
        await side.listen()
        self.sides.append(side)
        return side

    async def pair(self) -> tuple[PeerSide, PeerSide]:
        """Two nodes, linked both ways."""
        one, two = await self.open(1), await self.open(2)
        one.connect(two)
        two.connect(one)
        await one.until_connected(2)
        await two.until_connected(1)
        return one, two


async def open_call(
    channel: grpc.aio.Channel,
    said: bytes,
    secret: ClusterSecret | None = None,
    method: str = CONNECT,
) -> tuple[grpc.aio.StreamStreamCall[bytes, bytes], bytes]:
    """Call with this Hello; returns the call and the proof that the callee expects."""
    call = channel.stream_stream(method)(metadata=((HELLO_KEY, said),))
    challenge = peer_pb2.PeerReply.FromString(await call.read()).challenge
    return call, (secret or ClusterSecret()).of_caller(said, challenge.nonce)


async def stream_to(
    channel: grpc.aio.Channel, caller: PeerSide, to: int
) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    """A stream on which `caller` has been admitted."""
    call, proof = await open_call(channel, encode_hello(caller.identity, to), caller.secret)
    await call.write(peer_pb2.Frame(proof=proof).SerializeToString())
    assert peer_pb2.PeerReply.FromString(await call.read()).admitted
    return call


async def ending(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> dict[str, str | bytes]:
    """The trailing metadata with which the callee ends a call."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert raised.value.details()
    return dict(raised.value.trailing_metadata() or ())

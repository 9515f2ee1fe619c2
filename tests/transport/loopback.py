"""Nodes' transport halves on loopback, in one event loop, with a handler that records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from jepsen_lite.ports import free_ports
from raftkv.clocks import LamportClock
from raftkv.errors import RaftkvError
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.transport.codec import decode_frame
from raftkv.transport.handshake import Identity
from raftkv.transport.links import GrpcPeerLinks
from raftkv.transport.ports import Frame
from raftkv.transport.server import PeerServer
from raftkv.transport.tracing import MessageTrace, TracedPeerLinks

DEADLINE_S = 20.0


class Recorder:
    """A `PeerHandler` that keeps what it is told and wakes whoever waits for it."""

    def __init__(self, snapshot_root: Path) -> None:
        self.snapshot_root = snapshot_root
        self.frames: list[tuple[int, Frame]] = []
        self.broken: list[int] = []
        self.removed_by: list[int] = []
        self.strangers: set[int] = set()
        self.finished: list[tuple[InstallSnapshot, Path]] = []
        self.refuse_snapshot: RaftkvError | None = None
        self.before_finish: Callable[[], Awaitable[object]] | None = None
        self._news = asyncio.Event()

    @property
    def messages(self) -> list[Message]:
        return [message for _, frame in self.frames for message in frame.messages]

    def receive(self, sender: int, frame: Frame) -> None:
        self.frames.append((sender, frame))
        self._news.set()

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
        self._news.set()

    def link_down(self, peer: int) -> None:
        self.broken.append(peer)
        self._news.set()

    def removed(self, by: int) -> None:
        self.removed_by.append(by)
        self._news.set()

    def is_member(self, peer: int) -> bool:
        return peer not in self.strangers

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds`, which only news can make true."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self._news.clear()
                await self._news.wait()


@dataclass
class Half:
    """One node's transport: handler, links, peer port."""

    identity: Identity
    handler: Recorder
    links: GrpcPeerLinks
    server: PeerServer
    clock: LamportClock

    @property
    def address(self) -> str:
        return self.identity.address

    async def listen(self) -> None:
        """Open the peer port, or open it again."""
        await self.server.start(self.address)

    def connect(self, *peers: Half) -> None:
        self.links.set_peers({peer.identity.node_id: peer.address for peer in peers})

    async def until_connected(self, *peers: int) -> None:
        """A frame is dropped while a link is down, so tests begin with links that are up."""
        async with asyncio.timeout(DEADLINE_S):
            # Links tell nobody that they are up.
            while not self.links.connected.issuperset(peers):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        await self.links.close()
        await self.server.stop()


@dataclass
class Loopback:
    """Makes halves and closes them."""

    directory: Path
    disk: Executor
    halves: list[Half] = field(default_factory=list)

    async def half(
        self,
        node_id: int,
        *,
        cluster_id: int = 7,
        stall_timeout_s: float = 10.0,
        trace: MessageTrace | None = None,
    ) -> Half:
        (port,) = free_ports(1)
        address = f"127.0.0.1:{port}"
        identity = Identity(cluster_id, node_id, address)
        handler = Recorder(self.directory / f"node-{len(self.halves)}")
        clock = LamportClock()
        links = (
            GrpcPeerLinks(
                identity, Random(node_id), self.disk, clock, stall_timeout_s=stall_timeout_s
            )
            if trace is None
            else TracedPeerLinks(identity, Random(node_id), self.disk, clock, trace)
        )
        links.start(handler)
        server = PeerServer(
            identity,
            handler,
            links.contacted,
            self.disk,
            clock,
            decode=decode_frame if trace is None else trace.decode,
            stall_timeout_s=stall_timeout_s,
        )
        half = Half(identity, handler, links, server, clock)
        await half.listen()
        self.halves.append(half)
        return half

    async def pair(self) -> tuple[Half, Half]:
        """Two nodes, linked both ways."""
        one, two = await self.half(1), await self.half(2)
        one.connect(two)
        two.connect(one)
        await one.until_connected(2)
        await two.until_connected(1)
        return one, two

"""Links between simulated nodes: production frames and chunks over the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Protocol

from jepsen_lite.sim.disk_losses import Replica
from jepsen_lite.sim.network import Network
from jepsen_lite.sim.pipes import Pipe
from jepsen_lite.sim.process import Process
from jepsen_lite.sim.traffic import Sending, Traffic
from jepsen_lite.sim.world import World
from raftkv.errors import ConnectionFailed, RaftkvError, Unavailable
from raftkv.raft.messages import InstallSnapshot
from raftkv.storage.ports import Checkpoint
from raftkv.transport.codec import decode_frame, encode_frame, encode_lanes
from raftkv.transport.handshake import Caller, Identity
from raftkv.transport.link_table import LinkTable
from raftkv.transport.ports import Frame, PeerHandler
from raftkv.transport.snapshot_receiver import SnapshotReceiver
from raftkv.transport.snapshots import STALL_TIMEOUT_S, encode_chunks

END_OF_STREAM = b""


class PeerPorts(Protocol):
    """Finds who listens at an address now, and writes down what passes."""

    traffic: Traffic

    def peer_port(self, address: str) -> PeerPort | None: ...


class PeerPort:
    """The receiving side of one incarnation of a node, and the links that it sends on."""

    def __init__(
        self,
        world: World,
        network: Network,
        ports: PeerPorts,
        process: Process,
        host: str,
        replica: Replica,
        identity: Identity,
        on_send: Callable[[Frame], None],
        on_accept: Callable[[Replica, Frame], None],
    ) -> None:
        """`on_accept` gets each frame that this node handles, and the replica that has sent it."""
        self.host = host
        self.process = process
        self.replica = replica
        self.caller = Caller(identity.node_id, identity.address)
        self.handler: PeerHandler
        self.links = SimulatedPeerLinks(world, network, ports, self, on_send)
        self._world = world
        self._network = network
        self._traffic = ports.traffic
        self._on_accept = on_accept
        self._identity = identity
        self._snapshots: SnapshotReceiver
        self._incoming: dict[Pipe, None] = {}

    def begin(self, handler: PeerHandler) -> None:
        self.handler = handler
        self._snapshots = SnapshotReceiver(self._identity, handler, Executor(), STALL_TIMEOUT_S)

    def datagram(self, sender: PeerPort, link: SimulatedLink, sending: Sending) -> None:
        """Bytes of a frame have arrived on this link of the sender's."""
        self.process.enter(self._receive, sender, link, sending)

    def _receive(self, sender: PeerPort, link: SimulatedLink, sending: Sending) -> None:
        self._traffic.receive(sending)
        if not self.handler.is_member(sender.caller.node_id):
            self._network.datagram(
                self.host,
                sender.host,
                64,
                lambda: sender.process.enter(sender.handler.removed, self.caller.node_id),
            )
            return
        if link.reached is not self:
            link.reached = self
            self.links.contacted(sender.caller)
        frame = decode_frame(sending.data, sender.caller.node_id, self.caller.node_id)
        self._on_accept(sender.replica, frame)
        self.handler.receive(sender.caller.node_id, frame)

    def snapshot(
        self,
        sender: PeerPort,
        sending: Sending,
        chunks: asyncio.Queue[bytes | None],
        reply: Pipe,
    ) -> None:
        """Take a snapshot's chunks; the reply is empty, or says why it was not taken."""
        self._incoming[reply] = None
        self.process.create_task(self._take_snapshot(sender, sending, chunks, reply))

    async def _take_snapshot(
        self,
        sender: PeerPort,
        sending: Sending,
        chunks: asyncio.Queue[bytes | None],
        reply: Pipe,
    ) -> None:
        try:
            opening = await self._snapshots.next_chunk(chunks.get)
            await self._snapshots.receive(sender.caller.node_id, opening, chunks.get, _let_in)
        except RaftkvError as error:
            reply.send(error.message.encode())
        else:
            self._traffic.receive(sending)
            reply.send(END_OF_STREAM)
        finally:
            self._incoming.pop(reply, None)

    def cut(self) -> None:
        """The process is about to die: nothing leaves it any more, its peers see links break."""
        self.links.cut()
        for reply in self._incoming:
            reply.send(b"the node died")


class SimulatedLink:
    """A link that is up from the start: whether anything arrives is the network's."""

    def __init__(self, address: str) -> None:
        self.address = address
        # Whom its stream has been opened at: as in production, a peer is told of the caller once,
        # and hears of it again only from another link or after a restart.
        self.reached: PeerPort | None = None

    def contacted(self) -> None:
        """There is no back-off to cut short."""


class SimulatedPeerLinks:
    """A `PeerLinks` over the simulated network."""

    def __init__(
        self,
        world: World,
        network: Network,
        ports: PeerPorts,
        port: PeerPort,
        on_send: Callable[[Frame], None],
    ) -> None:
        self._world = world
        self._network = network
        self._ports = ports
        self._traffic = ports.traffic
        self._port = port
        self._on_send = on_send
        self._links = LinkTable(lambda _, address: SimulatedLink(address), lambda _: None)
        self._cut = False

    def start(self, handler: PeerHandler) -> None:
        self._port.begin(handler)

    @property
    def connected(self) -> frozenset[int]:
        """Links without a connection are always up."""
        return frozenset(peer for peer, _ in self._links)

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        self._links.set_peers(addresses)

    def contacted(self, caller: Caller) -> None:
        self._links.contacted(caller)

    def send(self, to: int, frame: Frame) -> None:
        link = self._links.get_or_answer(to)
        if link is None or self._cut:
            return
        self._on_send(frame)
        for data in encode_lanes(frame):
            if data:
                self._send(link, data)

    def _send(self, link: SimulatedLink, data: bytes) -> None:
        source, target = self._port.host, host_of(link.address)
        sending = self._traffic.send(source, target, data)

        def lose() -> None:
            self._traffic.lose(sending)

        def deliver() -> None:
            port = self._ports.peer_port(link.address)
            if port is not None:
                port.datagram(self._port, link, sending)
            else:
                lose()

        self._network.datagram(source, target, len(data), deliver, lose)

    async def send_snapshot(
        self, to: int, message: InstallSnapshot, checkpoint: Checkpoint
    ) -> None:
        link = self._links.get(to)
        target = self._ports.peer_port(link.address) if link is not None else None
        await asyncio.sleep(0.001)
        if target is None or self._cut:
            raise ConnectionFailed(f"node {to} takes no connection")
        ended: asyncio.Future[str] = self._port.process.create_future()
        source = self._port
        announcement = encode_frame(Frame(messages=(message,)))
        sending = self._traffic.send(source.host, target.host, announcement)

        def end(reason: str) -> None:
            if not ended.done():
                ended.set_result(reason)

        def say(reason: str) -> None:
            source.process.enter(end, reason)

        def lost() -> None:
            say("the connection broke")

        network, world = self._network, self._world
        reply = Pipe(
            world, network, target.host, source.host, lambda data: say(data.decode()), lost
        )
        chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

        def arrive(data: bytes) -> None:
            target.process.enter(chunks.put_nowait, data or None)

        def lose() -> None:
            # Both ends notice: each has its own keepalive.
            arrive(END_OF_STREAM)
            lost()

        forth = Pipe(world, network, source.host, target.host, arrive, lose)
        target.process.enter(target.snapshot, source, sending, chunks, reply)
        try:
            for chunk in encode_chunks(checkpoint.path, message):
                forth.send(chunk)
                await asyncio.sleep(0.001)
            async with asyncio.timeout(STALL_TIMEOUT_S):
                reason = await ended
        except TimeoutError:
            reason = "it did not answer"
        finally:
            # Also when this process is being killed: the other end learns that it is over.
            forth.send(END_OF_STREAM)
        if reason:
            self._traffic.lose(sending)
            raise Unavailable(f"node {to} did not take the snapshot: {reason}")

    async def close(self) -> None:
        self._links.close()

    def cut(self) -> None:
        self._cut = True


def host_of(address: str) -> str:
    return address.rpartition(":")[0]


async def _let_in() -> None:
    """The sender does not wait for it here."""

"""Links between simulated nodes: production frames and chunks over the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Protocol

from jepsen_lite.sim.checks.disk_losses import Replica
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.net.pipes import Pipe
from jepsen_lite.sim.net.traffic import SentFrame, Traffic
from jepsen_lite.sim.process import Process
from raftkv.errors import ConnectionFailed, InvalidRequest, RaftkvError, Unavailable
from raftkv.peer.codec import (
    decode_founding,
    decode_frame,
    encode_by_queue,
    encode_founding,
    encode_frame,
)
from raftkv.peer.handshake import Caller, HandshakeRefused, PeerIdentity, check_hello, encode_hello
from raftkv.peer.links import LinkTable
from raftkv.peer.ports import FounderPort, Founding, Frame, PeerHandler
from raftkv.peer.snapshot_receive import SnapshotReceiver
from raftkv.peer.snapshot_send import STALL_TIMEOUT_S, encode_chunks
from raftkv.raft.breach import ProtocolBreach
from raftkv.raft.messages import InstallSnapshot
from raftkv.storage.ports import Checkpoint, Start

END_OF_STREAM = b""
HELLO_BYTES = 64
ASK_TRY_S = 0.1
ASK_TRIES = 10


class PeerPorts(Protocol):
    """Finds the listener at an address, and records the traffic."""

    traffic: Traffic

    def peer_port(self, address: str) -> PeerPort | None: ...


class PeerPortOwner(Protocol):
    """The machine of a peer port. It is shown every frame and snapshot, to be checked."""

    name: str
    replica: Replica

    def sends(self, frame: Frame) -> None: ...

    def sends_snapshot(self, checkpoint: Checkpoint) -> None: ...

    def accepts(self, sender: Replica, frame: Frame) -> None:
        """The node handles this frame, which the replica `sender` has sent."""


class PeerPort:
    """The receiving side of one incarnation of a node, and the links that it sends on."""

    def __init__(
        self,
        context: SimulationContext,
        ports: PeerPorts,
        process: Process,
        owner: PeerPortOwner,
        identity: PeerIdentity,
    ) -> None:
        self.host = owner.name
        self.process = process
        self.replica = owner.replica
        self.identity = identity
        self.founder: FounderPort | None = None
        self.handler: PeerHandler | None = None
        self.links = SimulatedPeerLinks(context, ports, self, owner)
        self._network = context.network
        self._ports = ports
        self._traffic = ports.traffic
        self._owner = owner
        self._snapshots: SnapshotReceiver
        self._incoming: dict[Pipe, None] = {}
        self._waiting: dict[SimulatedPeerLink, list[SentFrame]] = {}

    @property
    def node_id(self) -> int:
        return self.identity.node_id

    def begin(self, handler: PeerHandler, start: Start) -> None:
        self.identity = replace(self.identity, start=start)
        self.handler = handler
        self._snapshots = SnapshotReceiver(self.identity, handler, Executor(), STALL_TIMEOUT_S)

    def datagram(self, sender: PeerPort, link: SimulatedPeerLink, sending: SentFrame) -> None:
        """Bytes of a frame have arrived on this link of the sender's."""
        self.process.enter(self._receive, sender, link, sending)

    def _receive(self, sender: PeerPort, link: SimulatedPeerLink, sending: SentFrame) -> None:
        self._traffic.receive(sending)
        if self.handler is None or sender.handler is None:
            return
        if link.reached is self:
            self._deliver(sender, link, sending)
        elif link in self._waiting:
            self._waiting[link].append(sending)
        else:
            # A stream's first bytes: the caller introduces itself, and the rest waits for that.
            self._waiting[link] = [sending]
            self.process.create_task(self._introduce(sender, link))

    async def _introduce(self, sender: PeerPort, link: SimulatedPeerLink) -> None:
        caller = await self._admit(sender)
        waiting = self._waiting.pop(link)
        if isinstance(caller, HandshakeRefused):
            link.reached = None
            self._refuse(sender, caller)
            return
        link.reached, link.caller = self, caller
        self.links.contacted(caller)
        self._answer(sender, lambda handler: handler.link_up(self.node_id))
        for sending in waiting:
            if link.reached is self:
                self._deliver(sender, link, sending)

    async def _admit(self, sender: PeerPort) -> Caller | HandshakeRefused:
        """The caller, or why it is refused."""
        if self.handler is None or sender.handler is None:
            raise Unavailable("one of the two has not started")
        hello = encode_hello(sender.identity, self.node_id, sender.handler.last_log_index)
        caller = check_hello(hello, self.identity)
        if isinstance(caller, HandshakeRefused):
            return caller
        return await self.handler.admit(caller) or caller

    def _deliver(self, sender: PeerPort, link: SimulatedPeerLink, sending: SentFrame) -> None:
        if self.handler is None:
            return
        refused = self.handler.refusal_of(link.caller) if link.caller is not None else None
        if refused is not None:
            link.reached = None
            self._refuse(sender, refused)
            return
        frame = decode_frame(sending.data, sender.node_id, self.node_id)
        self._owner.accepts(sender.replica, frame)
        try:
            self.handler.receive(sender.node_id, frame)
        except (InvalidRequest, ProtocolBreach):
            link.reached = None  # the stream ends

    def _refuse(self, sender: PeerPort, refused: HandshakeRefused) -> None:
        self._answer(sender, lambda handler: handler.refused(self.node_id, refused))

    def _answer(self, sender: PeerPort, call: Callable[[PeerHandler], None]) -> None:
        def arrive() -> None:
            if sender.handler is not None:
                sender.process.enter(call, sender.handler)

        self._network.datagram(self.host, sender.host, HELLO_BYTES, arrive)

    async def ask_founder(self, to: int, address: str, founding: Founding) -> Founding:
        """The answer of node `to` to a founder's message; as `peer.founders.ask_founder`."""
        answered: asyncio.Future[Founding | str] = self.process.create_future()

        def end(result: Founding | str) -> None:
            if not answered.done():
                answered.set_result(result)

        def reply(target: PeerPort) -> None:
            caller = check_hello(encode_hello(self.identity, to), target.identity)
            result: Founding | str = ""
            if isinstance(caller, HandshakeRefused):
                result = caller.message
            elif target.founder is not None:
                received = decode_founding(encode_founding(founding), self.node_id)
                answer = target.founder.answer(self.node_id, received)
                result = decode_founding(encode_founding(answer), to)
            self._network.datagram(
                target.host, self.host, HELLO_BYTES, lambda: self.process.enter(end, result)
            )

        def arrive() -> None:
            target = self._ports.peer_port(address)
            if target is not None:
                target.process.enter(reply, target)

        result: Founding | str = f"node {to} does not answer"
        for _ in range(ASK_TRIES):  # a connection sends again what is lost
            self._network.datagram(self.host, host_of(address), HELLO_BYTES, arrive)
            done, _ = await asyncio.wait([answered], timeout=ASK_TRY_S)
            if done:
                result = answered.result()
                break
        if isinstance(result, str):
            raise Unavailable(result)
        return result

    def snapshot(
        self,
        sender: PeerPort,
        sending: SentFrame,
        chunks: asyncio.Queue[bytes | None],
        reply: Pipe,
    ) -> None:
        """Take a snapshot's chunks; the reply is empty, or says why it was not taken."""
        self._incoming[reply] = None
        self.process.create_task(self._take_snapshot(sender, sending, chunks, reply))

    async def _take_snapshot(
        self,
        sender: PeerPort,
        sending: SentFrame,
        chunks: asyncio.Queue[bytes | None],
        reply: Pipe,
    ) -> None:
        try:
            caller = await self._admit(sender)
            if isinstance(caller, HandshakeRefused):
                raise Unavailable(caller.message)
            opening = await self._snapshots.next_chunk(chunks.get)
            await self._snapshots.receive(caller.node_id, opening, chunks.get, _let_in)
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


class SimulatedPeerLink:
    """A link that is up from the start: whether anything arrives is the network's."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.address = addresses[0]
        # The port that has admitted its stream: as in production, the caller introduces itself
        # once, and again only after a restart of either node.
        self.reached: PeerPort | None = None
        self.caller: Caller | None = None

    def readdress(self, addresses: Sequence[str]) -> None:
        self.address = addresses[0]

    def contacted(self) -> None:
        """There is no back-off to cut short."""


class SimulatedPeerLinks:
    """A `PeerLinks` over the simulated network."""

    def __init__(
        self,
        context: SimulationContext,
        ports: PeerPorts,
        port: PeerPort,
        owner: PeerPortOwner,
    ) -> None:
        self._world = context.world
        self._network = context.network
        self._ports = ports
        self._traffic = ports.traffic
        self._port = port
        self._owner = owner
        self._links = LinkTable(lambda _, addresses: SimulatedPeerLink(addresses), lambda _: None)
        self._cut = False

    def start(self, handler: PeerHandler, start: Start) -> None:
        self._port.begin(handler, start)

    @property
    def connected(self) -> frozenset[int]:
        """The peers that have admitted this node, as long as they run."""
        return frozenset(
            peer
            for peer, link in self._links
            if link.reached is not None and link.reached is self._ports.peer_port(link.address)
        )

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        self._links.set_peers(addresses)

    def contacted(self, caller: Caller) -> None:
        self._links.contacted(caller)

    def send(self, to: int, frame: Frame) -> None:
        link = self._links.get_or_open(to)
        if link is None or self._cut:
            return
        self._owner.sends(frame)
        for data in encode_by_queue(frame):
            if data:
                self._send(link, data)

    def _send(self, link: SimulatedPeerLink, data: bytes) -> None:
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
        self._owner.sends_snapshot(checkpoint)
        ended: asyncio.Future[str] = self._port.process.create_future()
        source = self._port
        announcement = encode_frame(Frame(messages=(message,)))
        sending = self._traffic.send(source.host, target.host, announcement)

        def end(reason: str) -> None:
            if not ended.done():
                ended.set_result(reason)

        def finish(reason: str) -> None:
            source.process.enter(end, reason)

        def lost() -> None:
            finish("the connection broke")

        network, world = self._network, self._world
        reply = Pipe(
            world,
            network,
            target.host,
            source.host,
            lambda data: finish(data.decode()),
            lost,
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

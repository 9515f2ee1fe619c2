"""The peer side of a node: the founder, the outgoing links and the peer port, put together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random

from raftkv.config import Settings
from raftkv.logs import CLOCK
from raftkv.node.founder import Founder
from raftkv.node.node import Node
from raftkv.peer.codec import decode_frame
from raftkv.peer.founders import ask_founder
from raftkv.peer.handshake import Credentials, HandshakeRefused, PeerIdentity, Refusal
from raftkv.peer.links import GrpcPeerLinks
from raftkv.peer.message_trace import MessageTrace, TracedPeerLinks
from raftkv.peer.ports import Founding, Frame
from raftkv.peer.secret import ClusterSecret
from raftkv.peer.server import PeerPortLimits, PeerServer
from raftkv.storage.directory import DataDirectory
from raftkv.storage.identity import DirectoryIdentity
from raftkv.tls.port import PortTls


class PeerNetwork:
    """Answers founders from `start` on, and peers from `admit_peers` on."""

    def __init__(
        self,
        settings: Settings,
        directory: DataDirectory,
        identity: DirectoryIdentity,
        secret: ClusterSecret,
        tls: PortTls,
        rng: Random,
        connections_max: int,
    ) -> None:
        """Raises `ConfigurationError` if the message trace can't be written."""
        self._settings = settings
        self._secret = secret
        self._tls = tls
        self._opened = ExitStack()
        self._files = ThreadPoolExecutor(max_workers=2, thread_name_prefix="raftkv-files")
        self._opened.callback(self._files.shutdown, wait=False, cancel_futures=True)
        self.founder = Founder(
            directory,
            identity,
            settings.initial_members,
            settings.bootstrap_without_ids,
            rng,
        )
        credentials = self._credentials(identity)
        try:
            self.links, decode = self._links(credentials, rng)
        except BaseException:
            self._opened.close()
            raise
        self._server = PeerServer(
            credentials,
            self.founder,
            self._files,
            CLOCK,
            HandshakeRefused(Refusal.NOT_READY, f"node {settings.node_id} has not started yet"),
            decode=decode,
            limits=PeerPortLimits(connections_max=connections_max),
        )

    async def start(self, address: str) -> int:
        """Open the peer port on `host:port`. Returns the port. Raises `AddressInUse`."""
        return await self._server.start(address)

    async def ask_founder(self, to: int, report: Founding) -> Founding:
        """Ask founder `to`; see `raftkv.peer.founders.ask_founder`."""
        founder = self.founder
        own = self._credentials(founder.identity)
        return await ask_founder(own, to, founder.founders[to].peer, report)

    def set_identity(self, identity: DirectoryIdentity) -> None:
        """Set the identity of the outgoing links, now that the node has a cluster."""
        self.links.set_identity(self._credentials(identity).identity)

    def admit_peers(self, node: Node, identity: DirectoryIdentity) -> None:
        """The node has started: admit its peers."""
        self.founder.started(node.identity, lambda: node.membership)
        self._server.admit_peers(
            self._credentials(identity).identity, node.peer_handler, self.links.contacted
        )

    async def stop(self) -> None:
        """Close the peer port and the message trace. The links are closed by their owner before."""
        try:
            await self._server.stop()
        finally:
            self._opened.close()

    def _credentials(self, identity: DirectoryIdentity) -> Credentials:
        return Credentials(
            PeerIdentity(
                identity.cluster_id,
                identity.incarnation,
                identity.node_id,
                self._settings.advertised,
                identity.disk_id,
            ),
            self._secret,
            self._tls,
            self._settings.cluster_name,
        )

    def _links(
        self, credentials: Credentials, rng: Random
    ) -> tuple[GrpcPeerLinks, Callable[[bytes, int, int], Frame]]:
        """The links, and the decoder of the frames that peers send."""
        settings = self._settings
        hints = {id: at.peer for id, at in settings.initial_members.items()}
        if not settings.trace_messages:
            return GrpcPeerLinks(credentials, rng, self._files, CLOCK, hints), decode_frame
        path = Path(settings.trace_messages)
        trace = MessageTrace(settings.node_id, path, settings.trace_messages_bytes_max)
        self._opened.callback(trace.close)
        links = TracedPeerLinks(credentials, rng, self._files, CLOCK, hints, trace=trace)
        return links, trace.decode

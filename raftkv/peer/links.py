"""All outgoing links of a node: one per member, and one per other node that has connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from random import Random
from typing import Generic, Protocol, TypeVar

from raftkv.clocks import LamportClock
from raftkv.errors import ConnectionFailed
from raftkv.peer.codec import encode_by_queue
from raftkv.peer.handshake import Caller, Credentials, PeerIdentity
from raftkv.peer.link import Encode, PeerLink
from raftkv.peer.ports import Frame, PeerHandler
from raftkv.peer.snapshot_send import STALL_TIMEOUT_S, SnapshotSender
from raftkv.raft.messages import InstallSnapshot
from raftkv.storage.ports import Checkpoint, Start


class GrpcPeerLinks:
    """`PeerLinks` over gRPC. `start` sets the handler, because node and links need each other.

    The executor `disk` reads snapshot files, so that the event loop never waits for a disk. Each
    frame carries the time of `clock`. `hints` are peer addresses from this node's settings.
    """

    def __init__(
        self,
        credentials: Credentials,
        random: Random,
        disk: Executor,
        clock: LamportClock,
        hints: Mapping[int, str] | None = None,
        *,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._credentials = credentials
        self._random = random
        self._clock = clock
        self._snapshots = SnapshotSender(disk, stall_timeout_s)
        self._handler: PeerHandler | None = None
        self._links = LinkTable(self._open, self._close, hints)
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> frozenset[int]:
        """The peers whose link is up at this moment."""
        return frozenset(peer for peer, link in self._links if link.up)

    def set_identity(self, identity: PeerIdentity) -> None:
        """Set the identity, now that the cluster is founded. Before `start`."""
        self._credentials = replace(self._credentials, identity=identity)

    def start(self, handler: PeerHandler, start: Start) -> None:
        """See `PeerLinks.start`."""
        self._handler = handler
        self.set_identity(replace(self._credentials.identity, start=start))

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        """Open and close links so that there is exactly one to each of these peers (node id ->
        `host:port`), and later one to each other node that connects.
        """
        self._links.set_peers(addresses)

    def send(self, to: int, frame: Frame) -> None:
        """See `PeerLinks.send`."""
        link = self._links.get_or_open(to)
        if link is not None:
            link.send(frame)

    def contacted(self, caller: Caller) -> None:
        """A peer has connected to this node, and may wait for replies."""
        self._links.contacted(caller)

    async def send_snapshot(
        self, to: int, message: InstallSnapshot, checkpoint: Checkpoint
    ) -> None:
        """Stream the files of `checkpoint.path`; returns when the peer has taken all of it.

        Raises `Unavailable` if the connection breaks, stalls, or the peer refuses, and
        `StorageError` if the files can't be read.
        """
        link = self._links.get(to)
        if link is None or self._handler is None:
            raise ConnectionFailed(f"there is no link to node {to}: it is not a member")
        await self._snapshots.send(
            self._credentials,
            self._handler.last_log_index,
            to,
            link.address,
            message,
            checkpoint.path,
        )

    def queued_bytes(self) -> dict[int, int]:
        """The bytes of frames that wait to be written, by peer."""
        return {peer: link.queued_bytes for peer, link in self._links}

    def leave(self) -> None:
        """This node is about to stop: peers that disconnect are no longer reported as a fault."""
        for _, link in self._links:
            link.leaving = True

    async def close(self) -> None:
        """Close every link. Calls to `send` have no effect any more."""
        self._links.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _open(self, peer: int, addresses: Sequence[str]) -> PeerLink:
        if self._handler is None:
            raise RuntimeError("links have no handler yet: call start() first")
        return PeerLink(
            self._credentials,
            peer,
            addresses,
            self._handler,
            self._random,
            self._clock,
            self._encoder(peer),
        )

    def _encoder(self, peer: int) -> Encode:
        """The encoder of one link's frames; called once per link."""
        return encode_by_queue

    def _close(self, link: PeerLink) -> None:
        # An unreferenced task may be collected before it has closed its channel.
        self._closing.add(link.task)
        link.task.add_done_callback(self._closing.discard)
        link.close()


class OutgoingLink(Protocol):
    """A link, as the table uses it."""

    def readdress(self, addresses: Sequence[str]) -> None:
        """Replace the peer's addresses; the first is the most likely one."""

    def contacted(self) -> None:
        """The peer has just connected to this node, so it is alive."""


LinkT = TypeVar("LinkT", bound=OutgoingLink)


UNKNOWN_PEERS_MAX = 8
"""Links to callers that are not in this node's configuration: a node catching up has few."""


class LinkTable(Generic[LinkT]):
    """Opens and closes links as the membership changes and as peers connect to this node.

    A link tries the address that the peer itself has given, then the address in the membership,
    then the hint from this node's settings.
    """

    def __init__(
        self,
        open_link: Callable[[int, Sequence[str]], LinkT],
        close_link: Callable[[LinkT], None],
        hints: Mapping[int, str] | None = None,
    ) -> None:
        self._open_link = open_link
        self._close_link = close_link
        self._links: dict[int, LinkT] = {}
        self._members: dict[int, str] = {}  # addresses in the membership
        self._callers: dict[int, str] = {}  # addresses that callers gave
        self._hints = hints or {}
        self._closed = False

    def __iter__(self) -> Iterator[tuple[int, LinkT]]:
        """Pairs of peer and link."""
        return iter(self._links.items())

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        """See `GrpcPeerLinks.set_peers`."""
        if self._closed:
            return
        for peer in self._members.keys() - addresses.keys():
            self._callers.pop(peer, None)
        self._members = dict(addresses)
        for peer in self._links.keys() - addresses.keys():
            self._close_link(self._links.pop(peer))
        for peer in addresses:
            if peer in self._links:
                self._links[peer].readdress(self._addresses_of(peer))
            else:
                self._open(peer)

    def contacted(self, caller: Caller) -> None:
        """A peer has connected to this node, so a link to it may come up again at once.

        A caller outside the membership gets a link too: a node that is behind, or has just been
        added, must be able to reply to a leader that it does not know yet.
        """
        if self._closed:
            return
        peer = caller.node_id
        self._callers.pop(peer, None)
        self._callers[peer] = caller.address.peer
        unknown = [each for each in self._callers if each not in self._members]
        if len(unknown) > UNKNOWN_PEERS_MAX:
            self._forget(unknown[0])
        link = self._links.get(peer)
        if link is not None:
            link.readdress(self._addresses_of(peer))
            link.contacted()
        else:
            self._open(peer)

    def get(self, peer: int) -> LinkT | None:
        """The link to this peer, if there is one."""
        return self._links.get(peer)

    def get_or_open(self, peer: int) -> LinkT | None:
        """The link to this peer; opened if the peer has connected to this node."""
        link = self._links.get(peer)
        if link is None and peer in self._callers:
            # A node catching up may hold an old configuration that does not yet include its
            # leader. Without this node's replies the leader could never replicate past it.
            link = self._open(peer)
        return link

    def close(self) -> None:
        """Close every link, and open none for later callers."""
        self._closed = True
        for link in self._links.values():
            self._close_link(link)
        self._links.clear()
        self._callers.clear()

    def _forget(self, peer: int) -> None:
        del self._callers[peer]
        link = self._links.pop(peer, None)
        if link is not None:
            self._close_link(link)

    def _open(self, peer: int) -> LinkT:
        link = self._links[peer] = self._open_link(peer, self._addresses_of(peer))
        return link

    def _addresses_of(self, peer: int) -> Sequence[str]:
        addresses = (self._callers.get(peer), self._members.get(peer), self._hints.get(peer))
        return tuple(dict.fromkeys(address for address in addresses if address))

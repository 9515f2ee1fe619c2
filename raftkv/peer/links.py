"""All outgoing links of a node: follows the membership, hands frames to the right link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from random import Random
from typing import Generic, Protocol, TypeVar

from raftkv.clocks import LamportClock
from raftkv.errors import ConnectionFailed
from raftkv.peer.codec import encode_lanes
from raftkv.peer.handshake import Caller, PeerIdentity
from raftkv.peer.link import Encode, PeerLink
from raftkv.peer.ports import Frame, PeerHandler
from raftkv.peer.secret import ClusterSecret
from raftkv.peer.snapshot_send import STALL_TIMEOUT_S, SnapshotSender
from raftkv.raft.messages import InstallSnapshot
from raftkv.storage.ports import Checkpoint, Start


class GrpcPeerLinks:
    """`PeerLinks` over gRPC. `start` names the handler, because node and links need each other.

    `disk` runs the reading of snapshot files, so that the loop never waits for a disk. Each
    frame tells the time of `clock`. `hints` are peer addresses beside those of the membership.
    """

    def __init__(
        self,
        identity: PeerIdentity,
        secret: ClusterSecret,
        random: Random,
        disk: Executor,
        clock: LamportClock,
        hints: Mapping[int, str] | None = None,
        *,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._identity = identity
        self._secret = secret
        self._random = random
        self._clock = clock
        self._snapshots = SnapshotSender(secret, disk, stall_timeout_s)
        self._handler: PeerHandler | None = None
        self._links = LinkTable(self._open, self._close, hints)
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> frozenset[int]:
        """The peers whose link is up at this moment."""
        return frozenset(peer for peer, link in self._links if link.up)

    def belong_to(self, identity: PeerIdentity) -> None:
        """The cluster is founded now. Before `start`."""
        self._identity = identity

    def start(self, handler: PeerHandler, start: Start) -> None:
        """Say who handles what happens to links, and which start this is. Before `set_peers`."""
        self._handler = handler
        self._identity = replace(self._identity, start=start)

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        """Open and close links so that they are exactly those (node id -> `host:port`), until
        somebody else who has called is to be answered.
        """
        self._links.set_peers(addresses)

    def send(self, to: int, frame: Frame) -> None:
        """Queue a frame and return at once; dropped if the link is down or its buffer is full."""
        link = self._links.get_or_answer(to)
        if link is not None:
            link.send(frame)

    def contacted(self, caller: Caller) -> None:
        """A peer has called us, and may be waiting for an answer."""
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
            self._identity,
            self._handler.last_log_index,
            to,
            link.address,
            message,
            checkpoint.path,
        )

    def leave(self) -> None:
        """This node is about to stop: from now on a peer that goes is no fault to report."""
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
            self._identity,
            self._secret,
            peer,
            addresses,
            self._handler,
            self._random,
            self._clock,
            self._encoder(peer),
        )

    def _encoder(self, peer: int) -> Encode:
        """Asked once for each link."""
        return encode_lanes

    def _close(self, link: PeerLink) -> None:
        # A task that nobody holds may be collected before it has closed its channel.
        self._closing.add(link.task)
        link.task.add_done_callback(self._closing.discard)
        link.close()


class OutgoingLink(Protocol):
    """What the table needs to know of a link."""

    def readdress(self, addresses: Sequence[str]) -> None:
        """The peer is at one of these, most likely at the first."""

    def contacted(self) -> None:
        """The peer has just called us, so it lives."""


LinkT = TypeVar("LinkT", bound=OutgoingLink)


STRANGERS_MAX = 8
"""Callers that are no members here and get a link all the same: a node that catches up has few."""


class LinkTable(Generic[LinkT]):
    """Has links opened and closed as the membership changes and as peers call.

    A peer is looked for where it says itself that it is, then where the membership says, then at
    its hint, an address from this node's settings.
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
        self._members: dict[int, str] = {}  # where the membership says that they are
        self._callers: dict[int, str] = {}  # who has called us, and where they can be answered
        self._hints = hints or {}
        self._closed = False

    def __iter__(self) -> Iterator[tuple[int, LinkT]]:
        """Each peer that has a link, and its link."""
        return iter(self._links.items())

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        """Open and close links so that they are exactly those (node id -> `host:port`), until
        somebody else who has called is to be answered.
        """
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
        """A peer has called us: whatever kept our link to it down may be over.

        Somebody we have not heard of gets a link, too: a node that is behind, or has just
        been added, must be able to answer a leader that it does not know yet.
        """
        if self._closed:
            return
        peer = caller.node_id
        self._callers.pop(peer, None)
        self._callers[peer] = caller.address.peer
        strangers = [each for each in self._callers if each not in self._members]
        if len(strangers) > STRANGERS_MAX:
            self._forget(strangers[0])
        link = self._links.get(peer)
        if link is not None:
            link.readdress(self._addresses_of(peer))
            link.contacted()
        else:
            self._open(peer)

    def get(self, peer: int) -> LinkT | None:
        """The link to this peer, if there is one."""
        return self._links.get(peer)

    def get_or_answer(self, peer: int) -> LinkT | None:
        """The link to this peer; it is opened for one that has called us."""
        link = self._links.get(peer)
        if link is None and peer in self._callers:
            # A node that catches up may pass a membership that its leader did not belong to yet;
            # without its answers the leader would never get it past that.
            link = self._open(peer)
        return link

    def close(self) -> None:
        """Close every link; nobody is answered any more, whoever may still call."""
        self._closed = True
        for link in self._links.values():
            self._close_link(link)
        self._links.clear()
        self._callers.clear()

    def _forget(self, stranger: int) -> None:
        del self._callers[stranger]
        link = self._links.pop(stranger, None)
        if link is not None:
            self._close_link(link)

    def _open(self, peer: int) -> LinkT:
        link = self._links[peer] = self._open_link(peer, self._addresses_of(peer))
        return link

    def _addresses_of(self, peer: int) -> Sequence[str]:
        places = (self._callers.get(peer), self._members.get(peer), self._hints.get(peer))
        return tuple(dict.fromkeys(address for address in places if address))

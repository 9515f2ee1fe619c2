"""All outgoing links of a node: follows the membership, hands frames to the right link."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from random import Random

from raftkv.clocks import LamportClock
from raftkv.errors import ConnectionFailed
from raftkv.raft.messages import InstallSnapshot
from raftkv.storage.ports import Checkpoint, Start
from raftkv.transport.codec import encode_lanes
from raftkv.transport.handshake import Caller, Identity
from raftkv.transport.link import Encode, PeerLink
from raftkv.transport.link_table import LinkTable
from raftkv.transport.ports import Frame, PeerHandler
from raftkv.transport.secret import ClusterSecret
from raftkv.transport.snapshots import STALL_TIMEOUT_S, SnapshotSender


class GrpcPeerLinks:
    """`PeerLinks` over gRPC. `start` names the handler, because node and links need each other.

    `disk` runs the reading of snapshot files, so that the loop never waits for a disk. Each
    frame tells the time of `clock`. `hints` are peer addresses beside those of the membership.
    """

    def __init__(
        self,
        identity: Identity,
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

    def belong_to(self, identity: Identity) -> None:
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

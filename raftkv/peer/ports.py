"""What a node needs of its peers' links, and what the links need of the node."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from raftkv.errors import RaftkvError
from raftkv.peer.handshake import Caller, HandshakeRefused
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.storage.ports import Checkpoint, Start
from raftkv.versions import SUPPORTED, VersionRange


class FounderStage(enum.IntEnum):
    """How far a node has come in founding its cluster. The numbers are those of the wire."""

    EMPTY = 0  # nothing was ever stored
    STORED = 1  # incarnation and first membership are on its disk, and it has not voted
    STARTED = 2  # it takes part in a cluster, or has


@dataclass(frozen=True, slots=True)
class Founding:
    """What a founder says of its disk in the round that founds a cluster.

    `founders` is a digest of its initial members. `membership` is the payload of the log's first
    entry, if that is stored. `refusal` says why the called node takes no part in this round.
    """

    stage: FounderStage
    incarnation: int = 0
    membership: bytes = b""
    all_stored: bool = False
    disk_id: int = 0
    founders: bytes = b""
    refusal: str = ""
    versions: VersionRange = SUPPORTED


@dataclass(frozen=True, slots=True)
class Submission:
    """A CommandBatch that the process `origin` handed in as its `number`-th.

    `client` tells its clients apart, 0 where it does not say. `weight` is what the batch costs, in
    commands on one key, as far as it can be seen; each node weighs for itself. Both decide whose
    turn it is, and are in no log.
    """

    origin: int
    number: int
    commands: bytes
    client: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Forward:
    """A follower's submissions for the leader of just `term`; none <= `settled` is waited for."""

    term: int
    settled: int
    submissions: tuple[Submission, ...]


@dataclass(frozen=True, slots=True)
class ForwardRefused:
    """The leader of `term` takes the origin's `number`-th submission for none that a client may
    send: it has not been proposed.
    """

    term: int
    number: int
    error: RaftkvError = field(compare=False)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A member has acknowledged all entries up to `index`, which is committed, since the start of
    its process whose id is `start_id`.
    """

    index: int
    start_id: int


@dataclass(frozen=True, slots=True)
class Frame:
    """All that one driver round has for one peer."""

    messages: Sequence[Message] = ()
    forwards: Sequence[Forward] = ()
    forwards_refused: Sequence[ForwardRefused] = ()
    # Of a leader: up to where each member has acknowledged what is committed.
    acknowledged: Mapping[int, Acknowledged] = field(default_factory=dict)
    # The writer's Lamport time, 0 if it does not say: nothing that Raft or a comparison goes by.
    lamport: int = field(default=0, compare=False)


class PeerLinks(Protocol):
    """Outgoing links, one per peer. Fair-loss: what is sent may be dropped, never altered."""

    def start(self, handler: PeerHandler, start: Start) -> None:
        """Say who handles what happens to links, and which start this is. Before `set_peers`."""

    @property
    def connected(self) -> frozenset[int]:
        """The peers whose link is up at this moment."""

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        """Open and close links so that they are exactly those (node id -> `host:port`)."""

    def send(self, to: int, frame: Frame) -> None:
        """Queue a frame and return at once; dropped if the link is down or its buffer is full."""

    async def send_snapshot(
        self, to: int, message: InstallSnapshot, checkpoint: Checkpoint
    ) -> None:
        """Stream the files, then the announcement. Returns when the peer has taken all of it.

        Raises `Unavailable` if the link breaks or the peer refuses, `StorageError` if the files
        can't be read.
        """

    async def close(self) -> None:
        """Close every link."""


class PeerHandler(Protocol):
    """The node, as its links see it. Called on the event loop, never concurrently."""

    @property
    def last_log_index(self) -> int:
        """The end of the log on this node's disk."""

    @property
    def cluster_version(self) -> int:
        """The cluster version in force here."""

    async def admit(self, caller: Caller) -> HandshakeRefused | None:
        """A peer wants to talk to this node: why it may not, None if it may.

        What it says of its disk is on ours when this returns None.
        """

    def receive(self, sender: int, frame: Frame) -> None:
        """A frame of an admitted peer has arrived. Raises `ProtocolBreach` or `InvalidRequest` if
        nothing more is to be taken from it.
        """

    def begin_snapshot(self, message: InstallSnapshot) -> Path:
        """A peer offers a snapshot: where its files go. Raises `Unavailable` if unwanted."""

    async def finish_snapshot(self, message: InstallSnapshot, received: Path) -> None:
        """All files are there, as they were sent. Raises `DamagedData` if that is damaged,
        `Unavailable` if it is not installed.
        """

    def link_down(self, peer: int) -> None:
        """The link to this peer broke."""

    def link_up(self, peer: int) -> None:
        """The peer has admitted this node."""

    def refused(self, by: int, refused: HandshakeRefused) -> None:
        """A peer that knows the cluster's secret, if there is one, does not admit this node."""

    def refusal_of(self, caller: Caller) -> HandshakeRefused | None:
        """Why nothing more is taken from this caller, which was admitted; None if it is."""


class FounderPort(Protocol):
    """Answers founders, before the node takes part and afterwards."""

    def answer(self, sender: int, said: Founding) -> Founding:
        """What this node says to a founder that has said this."""

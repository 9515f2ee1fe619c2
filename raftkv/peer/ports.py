"""The interfaces between a node and its peer connections, and the values that cross them."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from raftkv.errors import RaftkvError
from raftkv.kv.state_hash import StateMark
from raftkv.peer.handshake import Caller, HandshakeRefused
from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.storage.ports import Checkpoint, Start
from raftkv.versions import SUPPORTED, VersionRange


class FounderStage(enum.IntEnum):
    """A founder's progress in founding its cluster. The numbers are those of the wire."""

    EMPTY = 0  # the disk is empty
    STORED = 1  # incarnation and first membership are on its disk, and it has not voted
    STARTED = 2  # the node has taken part in a cluster


@dataclass(frozen=True, slots=True)
class Founding:
    """What a founder reports of its disk in the round that founds a cluster.

    `founders` is a digest of its initial members. `membership` is the payload of the log's first
    entry, if that is stored. `refusal` is why the called node takes no part in this round.
    """

    stage: FounderStage
    incarnation: int = 0
    membership: bytes = b""
    all_stored: bool = False
    disk_id: int = 0
    founders: bytes = b""
    refusal: str = ""
    versions: VersionRange = SUPPORTED


class Author(NamedTuple):
    """The user who sent commands, whose rights were checked against users and roles of
    `auth_revision`.
    """

    user: int = 0
    """The user's id, 0 for none."""

    auth_revision: int = 0


NO_AUTHOR: Final = Author()


@dataclass(frozen=True, slots=True)
class Submission:
    """A CommandBatch: submission `number` of the process `origin`.

    `client` identifies the client within that process (0: unknown). `weight` is the batch's
    estimated cost, in commands on one key; each node estimates it for itself. These two serve fair
    scheduling and are not written to the log.
    """

    origin: int
    number: int
    commands: bytes = field(repr=False)  # it has values and secrets of clients
    client: int = 0
    weight: int = 1
    author: Author = NO_AUTHOR


@dataclass(frozen=True, slots=True)
class Forward:
    """A follower's submissions, for the leader of exactly `term`.

    The follower waits for the result of no submission with a number <= `settled`.
    """

    term: int
    settled: int
    submissions: tuple[Submission, ...]


@dataclass(frozen=True, slots=True)
class ForwardRefused:
    """The leader of `term` refused the origin's submission `number`: it has not proposed it, and
    will not.
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
    """All that one driver round sends to one peer."""

    messages: Sequence[Message] = ()
    forwards: Sequence[Forward] = ()
    forwards_refused: Sequence[ForwardRefused] = ()
    # From a leader: how far each member has acknowledged the committed entries. From another node
    # without a meaning, so that a frame arrives.
    acknowledged: Mapping[int, Acknowledged] = field(default_factory=dict)
    # The last marks of the sender's state, oldest first.
    state_marks: Sequence[StateMark] = ()
    # To the leader: the oldest revision that the sender needs. 0: not stated.
    history_needed: int = 0
    # The sender's Lamport time, 0 if unknown. Neither Raft nor equality of frames depends on it.
    lamport: int = field(default=0, compare=False)


class PeerLinks(Protocol):
    """Outgoing links, one per peer. Fair-loss: a frame may be dropped, never altered."""

    def start(self, handler: PeerHandler, start: Start) -> None:
        """Set the handler of link events, and this node's start. Before `set_peers`."""

    @property
    def connected(self) -> frozenset[int]:
        """The peers whose link is up at this moment."""

    def set_peers(self, addresses: Mapping[int, str]) -> None:
        """Open and close links so that there is exactly one to each (node id -> `host:port`)."""

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
    """The node, as its peer connections use it. Called on the event loop, never concurrently."""

    @property
    def last_log_index(self) -> int:
        """The end of the log on this node's disk."""

    @property
    def cluster_version(self) -> int:
        """The cluster version in force here."""

    async def admit(self, caller: Caller) -> HandshakeRefused | None:
        """Admit a caller: returns None, or why it is refused.

        The caller's disk and start are stored on this node's disk before this returns None.
        """

    def receive(self, sender: int, frame: Frame) -> None:
        """Handle a frame of an admitted peer. Raises `ProtocolBreach` or `InvalidRequest` if the
        stream must end.
        """

    def begin_snapshot(self, message: InstallSnapshot) -> Path:
        """A peer offers a snapshot: returns where its files go. Raises `Unavailable` if
        unwanted.
        """

    async def finish_snapshot(self, message: InstallSnapshot, received: Path) -> None:
        """All files are there, as they were sent. Raises `DamagedData` if that is damaged,
        `Unavailable` if it is not installed.
        """

    def link_down(self, peer: int) -> None:
        """The link to this peer broke."""

    def link_up(self, peer: int) -> None:
        """The peer has admitted this node."""

    def refused(self, by: int, refused: HandshakeRefused) -> None:
        """A peer that has proven the cluster's secret, if there is one, refused this node."""

    def refusal_of(self, caller: Caller) -> HandshakeRefused | None:
        """Why an admitted caller is to be disconnected; None if it is not."""


class FounderPort(Protocol):
    """Answers founders, before the node has started and afterwards."""

    def answer(self, sender: int, report: Founding) -> Founding:
        """This node's answer to a founder's report."""

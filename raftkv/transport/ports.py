"""What a node needs of its peers' links, and what the links need of the node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from raftkv.raft.messages import InstallSnapshot, Message
from raftkv.storage.ports import Checkpoint


@dataclass(frozen=True, slots=True)
class Submission:
    """A CommandBatch that the process `origin` handed in as its `number`-th."""

    origin: int
    number: int
    commands: bytes


@dataclass(frozen=True, slots=True)
class Forward:
    """A follower's submissions for the leader of just `term`; none <= `settled` is waited for."""

    term: int
    settled: int
    submissions: tuple[Submission, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """All that one driver round has for one peer."""

    messages: Sequence[Message] = ()
    forwards: Sequence[Forward] = ()
    # The writer's Lamport time, 0 if it does not say: nothing that Raft or a comparison goes by.
    lamport: int = field(default=0, compare=False)


class PeerLinks(Protocol):
    """Outgoing links, one per peer. Fair-loss: what is sent may be dropped, never altered."""

    def start(self, handler: PeerHandler) -> None:
        """Say who is told of broken links. Before everything else."""

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

    def receive(self, sender: int, frame: Frame) -> None:
        """A frame has arrived."""

    def begin_snapshot(self, message: InstallSnapshot) -> Path:
        """A peer offers a snapshot: where its files go. Raises `Unavailable` if unwanted."""

    async def finish_snapshot(self, message: InstallSnapshot, received: Path) -> None:
        """All files are there, as they were sent. Raises `DamagedData` if that is damaged,
        `Unavailable` if it is not installed.
        """

    def link_down(self, peer: int) -> None:
        """The link to this peer broke."""

    def removed(self, by: int) -> None:
        """A peer says that this node has been removed from the cluster."""

    def is_member(self, peer: int) -> bool:
        """Whether this peer may talk to us: false only for one known to have been removed."""

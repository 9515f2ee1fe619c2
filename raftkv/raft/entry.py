"""The values of the log and of the hard state: entries, memberships and snapshot points."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class EntryKind(enum.IntEnum):
    """What an entry's payload means. The numbers are those on disk."""

    NOOP = 0
    COMMANDS = 1
    MEMBERSHIP = 2
    VERSION = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot of the log. The payload is opaque to Raft unless the kind is MEMBERSHIP."""

    term: int
    index: int
    kind: EntryKind
    payload: bytes = field(default=b"", repr=False)  # it has values and secrets of clients


_VERSION_BYTES = 4


def encode_version(version: int) -> bytes:
    """The payload of a VERSION entry."""
    return version.to_bytes(_VERSION_BYTES, "big")


def decode_version(payload: bytes) -> int:
    """The cluster version that a VERSION entry raises the cluster to."""
    return int.from_bytes(payload, "big")


@dataclass(frozen=True, slots=True)
class HardState:
    """What must be on disk before a promise leaves the node (Raft figure 2, persistent state).

    `commit_index` is only a hint that saves work after a restart.
    """

    current_term: int = 0
    voted_for: int = 0
    commit_index: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a member is reached, `host:port` each. Opaque to Raft."""

    peer: str
    client: str


@dataclass(frozen=True, slots=True)
class Membership:
    """The configuration (Raft section 6): voters, learners, and how to reach them.

    `voters_outgoing` is not empty only in joint consensus.
    An id in `removed` never comes back, so every member can refuse that node for good.
    `disk_ids` has the members that have started, each with the id of its disk: such a member never
    starts again from another one.
    """

    voters: frozenset[int] = frozenset()
    voters_outgoing: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    addresses: Mapping[int, Address] = field(default_factory=dict)
    removed: frozenset[int] = frozenset()
    disk_ids: Mapping[int, int] = field(default_factory=dict)

    @property
    def joint(self) -> bool:
        return bool(self.voters_outgoing)

    @property
    def all_voters(self) -> frozenset[int]:
        """The voters of both configurations."""
        return self.voters | self.voters_outgoing

    @property
    def members(self) -> frozenset[int]:
        return self.all_voters | self.learners

    def started(self, node_id: int) -> bool:
        """Whether a disk may hold data under this id: false only for a learner that was never
        started. Without recorded disk ids (older clusters) it is true for all.
        """
        unclaimed = node_id in self.learners and node_id not in self.disk_ids
        return not unclaimed or not self.disk_ids


@dataclass(frozen=True, slots=True)
class SnapshotPoint:
    """The last entry that a snapshot replaces, with the log's running hash and the membership as of
    it, in the cluster of that incarnation.
    """

    last_included_index: int = 0
    last_included_term: int = 0
    membership: Membership = field(default_factory=Membership)
    last_included_hash: int = 0
    incarnation: int = 0

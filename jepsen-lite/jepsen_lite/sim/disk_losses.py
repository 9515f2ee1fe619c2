"""Disks that are gone, old, another node's or doubled, and what is expected of their nodes.

Everything that is expected is stated here:

- A node whose disk is in `NEVER_TAKES_PART` takes no part in the cluster (`takes_part`), as long as
  it runs. It is refused, waits, or leaves service with one of `REASONS_TO_LEAVE`.
- Of two nodes that run from one disk (`Loss.TWIN`) one leaves service soon after both reach the
  other members. Either may be the one.
- A cluster whose disks are a majority serves (`must_serve`), once an operator has replaced the
  others. A cluster that has lost a majority of its disks serves nothing any more.
"""

from __future__ import annotations

import enum
from collections.abc import Set
from typing import NamedTuple

from jepsen_lite.sim.durable_log import is_majority
from raftkv.errors import (
    ConfigurationError,
    DamagedData,
    DirectoryMismatch,
    OutOfService,
    RemovedFromCluster,
    WrongCluster,
)
from raftkv.raft.entry import Membership
from raftkv.raft.messages import (
    AppendEntriesReply,
    HeartbeatReply,
    Message,
    RequestVote,
    RequestVoteReply,
)


class Loss(enum.Enum):
    """What is wrong with a disk."""

    EMPTIED = "its disk was emptied"
    OLDER = "its disk is an older copy"
    FOREIGN = "its disk is a copy of another node's"
    TWIN = "its disk is a copy of one that runs elsewhere"


class Replica(NamedTuple):
    """A node with the disk that it runs from, as the checkers see it. With a disk that was emptied
    or replaced by a copy it is another replica.

    `number` counts the disks that nodes have run from under this id; the first is 0.
    """

    node_id: int
    number: int = 0
    loss: Loss | None = None

    def __str__(self) -> str:
        """As it is told: the node's id, and what is wrong with its disk."""
        return f"{self.node_id} ({self.loss.value})" if self.loss is not None else f"{self.node_id}"


NEVER_TAKES_PART = frozenset({Loss.EMPTIED, Loss.OLDER, Loss.FOREIGN})

REASONS_TO_LEAVE = (
    OutOfService,
    RemovedFromCluster,
    WrongCluster,
    DamagedData,
    DirectoryMismatch,
    ConfigurationError,
)
"""Why a node may stop by itself if something is wrong with its disk, or if it has a twin."""


def takes_part(message: Message) -> bool:
    """Whether a message counts for a majority, of voters or of disks. The leader's own messages are
    not asked about: to lead is to take part.
    """
    match message:
        case RequestVote():
            return not message.pre_vote
        case RequestVoteReply():
            return message.granted and not message.pre_vote
        case AppendEntriesReply():
            return message.success
        case HeartbeatReply():
            return True
    return False


def must_serve(membership: Membership, lost: Set[int]) -> bool:
    """Whether the members that have their disks are enough to elect a leader."""
    return is_majority(set(membership.members - lost), membership)

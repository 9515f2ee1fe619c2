"""The outcome that is required when a disk is emptied, replaced by a copy or doubled.

All of it is stated here; the fault injection, the invariants and the run ask this module:

- A node whose disk is in `NEVER_TAKES_PART` never takes part in the cluster (`takes_part`). Its
  peers refuse it, or it waits, or it leaves service for one of `REASONS_TO_LEAVE`.
- Of a node and its twin (`Loss.TWIN`) at least one leaves service once both reach all members.
- While a majority of the members have their disks, the cluster serves (`must_serve`); the operator
  replaces the others. Otherwise the cluster serves nothing any more.
"""

from __future__ import annotations

import enum
from collections.abc import Set
from typing import NamedTuple

from jepsen_lite.sim.checks.durable_log import is_majority
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
    """What is wrong with the disk that a node runs from."""

    EMPTIED = "its disk was emptied"
    OLDER = "its disk is an older copy"
    FOREIGN = "its disk is a copy of another node's"
    TWIN = "its disk is a copy of one that runs elsewhere"


class Replica(NamedTuple):
    """A node together with the disk that it runs from. A node whose disk was emptied or replaced by
    a copy is another replica.

    `number` counts the disks from which nodes of this id have run; the first is 0.
    """

    node_id: int
    number: int = 0
    loss: Loss | None = None

    def __str__(self) -> str:
        """The node's id, and what is wrong with its disk."""
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
"""A node may stop for these if its disk is wrong, or if it has a twin; any other node may not."""


def takes_part(message: Message) -> bool:
    """Whether the recipient counts the sender by this message: in an election, for a commit, or
    for a read. A leader's own messages need no answer here, because leading is taking part.
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
    """Whether the members that are not `lost` can elect a leader."""
    return is_majority(set(membership.members - lost), membership)

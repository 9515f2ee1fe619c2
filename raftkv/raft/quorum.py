"""Quorum arithmetic: which index a majority has reached, in simple and joint configurations."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Set

from raftkv.raft.entry import Membership


class Vote(enum.Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority(voters: frozenset[int]) -> int:
    """How many of `voters` are more than half of them."""
    return len(voters) // 2 + 1


def configurations(membership: Membership) -> Iterable[frozenset[int]]:
    """The sets of voters whose majorities must each agree: two in joint consensus, else one."""
    yield membership.voters
    if membership.voters_outgoing:
        yield membership.voters_outgoing


def agreed(membership: Membership, number_of: Callable[[int], int]) -> int:
    """The highest number that a majority of each configuration has reached.

    0 if a configuration is empty: it commits nothing.
    """
    lowest: int | None = None
    for voters in configurations(membership):
        if not voters:
            return 0
        reached = sorted((number_of(voter) for voter in voters), reverse=True)
        number = reached[majority(voters) - 1]
        lowest = number if lowest is None else min(lowest, number)
    return lowest or 0


def has_majorities(membership: Membership, acknowledging: Set[int]) -> bool:
    """Whether `acknowledging` holds a majority of every configuration."""
    return all(
        len(voters & acknowledging) >= majority(voters) for voters in configurations(membership)
    )


def tally(membership: Membership, votes: Mapping[int, bool]) -> Vote:
    """Whether the votes cast so far decide an election, in every configuration."""
    outcome = Vote.WON
    for voters in configurations(membership):
        granted = sum(1 for voter in voters if votes.get(voter) is True)
        refused = sum(1 for voter in voters if votes.get(voter) is False)
        if refused > len(voters) - majority(voters) or not voters:
            return Vote.LOST
        if granted < majority(voters):
            outcome = Vote.PENDING
    return outcome

"""Which membership holds at which index, and how one becomes another. Knows no messages.

A membership takes effect when its entry is appended, committed or not (Raft section 6), so
cutting the log off can take it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from raftkv.raft.entry import Address, Membership


@dataclass(frozen=True, slots=True)
class MembershipCodec:
    """How a membership is written in an entry's payload; Raft itself knows no encoding."""

    encode: Callable[[Membership], bytes]
    decode: Callable[[bytes], Membership]


class MembershipLog:
    """The memberships of the log, oldest first; the last one is in force."""

    def __init__(self, index: int, membership: Membership) -> None:
        self._history: list[tuple[int, Membership]] = [(index, membership)]
        self.version = 0  # changes with every change of the history

    @property
    def current(self) -> Membership:
        return self._history[-1][1]

    @property
    def current_index(self) -> int:
        return self._history[-1][0]

    def voters_since(self, commit_index: int) -> frozenset[int]:
        """Who votes in the last committed membership, or in a later one that may be cut off."""
        voters: frozenset[int] = frozenset()
        for index, membership in reversed(self._history):
            voters |= membership.voters | membership.voters_outgoing
            if index <= commit_index:
                break
        return voters

    @property
    def members(self) -> frozenset[int]:
        """Of the membership in force, and of earlier ones that are not applied yet."""
        return frozenset().union(*(membership.members for _, membership in self._history))

    @property
    def addresses(self) -> Mapping[int, Address]:
        """Where all of them are reached, as the latest membership that names each says."""
        return {
            peer: address
            for _, membership in self._history
            for peer, address in membership.addresses.items()
        }

    def append(self, index: int, membership: Membership) -> None:
        self._history.append((index, membership))
        self.version += 1

    def truncate(self, index: int) -> None:
        """Entries at and after `index` are gone."""
        while len(self._history) > 1 and self._history[-1][0] >= index:
            self._history.pop()
            self.version += 1

    def compact(self, index: int) -> None:
        """Nothing at or before `index` will be cut off any more."""
        while len(self._history) > 1 and self._history[1][0] <= index:
            self._history.pop(0)
            self.version += 1

    def reset(self, index: int, membership: Membership) -> None:
        self._history = [(index, membership)]
        self.version += 1


def enter(present: Membership, target: Membership) -> Membership:
    """The first step from `present` to `target`: joint if the voters change, else `target`.

    `target` names voters, learners and addresses; the rest follows from `present`.
    """
    gone = present.members - target.members
    if target.voters == present.voters:
        return replace(target, voters_outgoing=frozenset(), removed=present.removed | gone)
    return replace(
        target,
        voters_outgoing=present.voters,
        # A voter that leaves keeps its address until the joint membership is left, and is not
        # called removed before: nobody may turn away a node whose vote is still needed.
        addresses={**present.addresses, **target.addresses},
        removed=present.removed | (gone - present.voters),
    )


def leave(joint: Membership) -> Membership:
    """The second step: the outgoing voters have no say any more."""
    members = joint.voters | joint.learners
    return replace(
        joint,
        voters_outgoing=frozenset(),
        addresses={peer: known for peer, known in joint.addresses.items() if peer in members},
        removed=joint.removed | (joint.voters_outgoing - members),
    )

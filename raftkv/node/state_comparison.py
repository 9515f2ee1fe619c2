"""The comparison of the members' states by their marks: who differs from a majority of voters.

Each member sends its last marks (`raftkv.kv.state_hash`) to all others, and judges for itself. What
differs once differs from then on, because each hash continues the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from raftkv.kv.state_hash import StateMark
from raftkv.raft import quorum
from raftkv.raft.entry import Membership

DISPUTE_S_MAX: Final = 3.0
"""A dispute that lasts for longer than this is left to the operator. Most end before, with the
marks of a member that lags."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`wrong`: members that differ from a majority of voters. `disputed`: two or more voters that
    differ from each other, when no majority agrees on either. Both map a member to an index at
    which it differs.
    """

    wrong: Mapping[int, int]
    disputed: Mapping[int, int]


NOTHING_FOUND: Final = Judgement({}, {})


def judge(marks: Mapping[int, Sequence[StateMark]], membership: Membership) -> Judgement:
    """Compare the marks of the members at each index that several of them have."""
    by_index: dict[int, dict[int, int]] = {}
    for member in sorted(membership.members & marks.keys()):
        for mark in marks[member]:
            by_index.setdefault(mark.index, {})[member] = mark.state_hash
    wrong: dict[int, int] = {}
    undecided: dict[int, dict[int, int]] = {}
    for index, hashes in by_index.items():
        if len(set(hashes.values())) == 1:
            continue
        majority = _majority(hashes, membership)
        if majority is None:
            undecided[index] = hashes
        else:
            wrong |= {id: index for id, found in hashes.items() if found != majority}
    disputed: dict[int, int] = {}
    for index, hashes in undecided.items():
        voters = {id for id in hashes.keys() - wrong.keys() if _votes(id, membership)}
        if len({hashes[id] for id in voters}) > 1:
            disputed |= dict.fromkeys(sorted(voters), index)
    return Judgement(wrong, disputed) if wrong or disputed else NOTHING_FOUND


def _majority(hashes: Mapping[int, int], membership: Membership) -> int | None:
    """The hash on which a majority of voters agrees; None if there is none."""
    for found in set(hashes.values()):
        agreeing: Set[int] = {id for id, each in hashes.items() if each == found}
        if quorum.has_majorities(membership, agreeing):
            return found
    return None


def _votes(member: int, membership: Membership) -> bool:
    return any(member in voters for voters in quorum.configurations(membership))


class StateComparison:
    """The marks that the other members have sent, and what follows from them and from the own."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._reported: dict[int, Sequence[StateMark]] = {}
        self._judged: tuple[object, ...] = ()
        self._disputed_since_s: float | None = None
        self.found = NOTHING_FOUND

    def reported(self, member: int, marks: Sequence[StateMark]) -> None:
        """A member has sent its marks; its earlier ones do not count any more."""
        self._reported[member] = marks

    def judge(self, own: Sequence[StateMark], membership: Membership, now_s: float) -> Judgement:
        """Compare the marks, those of members only, if they have changed since the last call."""
        members = membership.members
        self._reported = {id: marks for id, marks in self._reported.items() if id in members}
        marks = {**self._reported, self._node_id: own}
        judged = (marks, membership)
        if judged != self._judged:
            self._judged = judged
            self.found = judge(marks, membership)
        if not self.found.disputed:
            self._disputed_since_s = None
        elif self._disputed_since_s is None:
            self._disputed_since_s = now_s
        return self.found

    @property
    def in_dispute(self) -> bool:
        """Whether voters differ and no majority agrees: this node must propose nothing."""
        return self._disputed_since_s is not None

    def is_for_operator(self, now_s: float) -> bool:
        """Whether the dispute has lasted so long that nobody but the operator will end it."""
        since_s = self._disputed_since_s
        return since_s is not None and now_s - since_s >= DISPUTE_S_MAX

    def describe_dispute(self) -> str:
        """The dispute for messages, with what the operator does about it."""
        disputed = self.found.disputed
        nodes = " and ".join(map(str, disputed))
        index = max(disputed.values(), default=0)
        return (
            f"the states of nodes {nodes} differ at index {index}, and no majority of voters agrees"
            " on either: no write is proposed. It ends by itself if another voter comes back whose"
            " state decides. Otherwise choose the node to believe, make it the leader (`raftkv"
            " transfer-leader NODE`), and rebuild the other: `raftkv member replace OLD NEW`"
        )

"""The durable log and hard state of a node's disk, as the invariants track them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from raftkv.raft.entry import Entry, Membership


@dataclass(slots=True)
class DurableLog:
    """The terms of the entries on one node's disk, by index, and its hard state."""

    term: int = 0
    voted_for: int = 0
    compacted_index: int = 0
    compacted_term: int = 0
    terms: list[int] = field(default_factory=list)

    @property
    def last_index(self) -> int:
        return self.compacted_index + len(self.terms)

    @property
    def end(self) -> tuple[int, int]:
        """(last term, last index): the greater one is more up to date (section 5.4.1)."""
        return (self.terms[-1] if self.terms else self.compacted_term), self.last_index

    def term_at(self, index: int) -> int | None:
        position = index - self.compacted_index - 1
        if 0 <= position < len(self.terms):
            return self.terms[position]
        return self.compacted_term if index == self.compacted_index else None

    def holds(self, index: int, term: int) -> bool:
        """The entry is here; or below the compaction, where only committed ones are."""
        return self.term_at(index) == term or self.compacted_index > index

    def write(self, entries: tuple[Entry, ...]) -> None:
        """Cut at the first entry, then append all."""
        del self.terms[entries[0].index - self.compacted_index - 1 :]
        self.terms += [entry.term for entry in entries]

    def compact(self, index: int, term: int) -> None:
        del self.terms[: index - self.compacted_index]
        self.compacted_index, self.compacted_term = index, term

    def reset(self, index: int, term: int) -> None:
        self.terms.clear()
        self.compacted_index, self.compacted_term = index, term

    def last_membership(self, known: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
        """(index, term) of the last one in this log, of all that any log ever had."""
        here = [name for name in known if self.holds(*name) and name[0] <= self.last_index]
        return max(here, default=None)

    def membership(self, known: Mapping[tuple[int, int], Membership]) -> Membership | None:
        """The last one in this log, of all that any log ever had, by (index, term)."""
        last = self.last_membership(known)
        return known[last] if last is not None else None


def voter_sets(membership: Membership) -> list[frozenset[int]]:
    """Those whose majorities must each agree."""
    outgoing = [membership.voters_outgoing] if membership.joint else []
    return [membership.voters, *outgoing]


def is_majority(nodes: set[int], membership: Membership) -> bool:
    """Whether these are more than half of each set of voters."""
    return all(2 * len(voters & nodes) > len(voters) for voters in voter_sets(membership))


def rival_of(
    index: int,
    term: int,
    disks: Mapping[int, DurableLog],
    memberships: Mapping[tuple[int, int], Membership],
) -> int | None:
    """A node that lacks the entry and could be elected as the disks are now; None if none could.

    While there is one, the entry is not safe, however many have it (section 5.4.2, figure 8).
    """
    for node_id, disk in disks.items():
        if disk.holds(index, term):
            continue
        membership = disk.membership(memberships)
        if membership is None or not any(node_id in each for each in voter_sets(membership)):
            continue
        would_vote = {voter for voter, other in disks.items() if other.end <= disk.end}
        if is_majority(would_vote, membership):
            return node_id
    return None

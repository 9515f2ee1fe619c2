"""Memberships in the log, and the steps of a membership change (section 6).

A membership takes effect when its entry is appended, committed or not (Raft section 6), so
cutting the log off can take it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from raftkv.errors import MembershipRefused
from raftkv.raft import quorum
from raftkv.raft.entry import Address, Entry, EntryKind, Membership
from raftkv.raft.log import Log

EVERYTHING = 1 << 62  # bytes


@dataclass(frozen=True, slots=True)
class MembershipCodec:
    """The encoding of memberships in entries, which the caller chooses."""

    encode: Callable[[Membership], bytes]
    decode: Callable[[bytes], Membership]


class MembershipLog:
    """The memberships of the log, oldest first; the last one is in force."""

    def __init__(self, index: int, membership: Membership, codec: MembershipCodec) -> None:
        self._history: list[tuple[int, Membership]] = [(index, membership)]
        """Indexes and memberships in ascending order, never empty. The first one is applied; the
        others are entries of the log, and truncation may take them back."""

        self._codec = codec
        self.version = 0
        """Increases with every change of `_history`."""

    @property
    def current(self) -> Membership:
        return self._history[-1][1]

    @property
    def current_index(self) -> int:
        return self._history[-1][0]

    def voters_since(self, commit_index: int) -> frozenset[int]:
        """The voters of the last committed membership and of all later ones."""
        voters: frozenset[int] = frozenset()
        for index, membership in reversed(self._history):
            voters |= membership.all_voters
            if index <= commit_index:
                break
        return voters

    @property
    def members(self) -> frozenset[int]:
        """The members of the membership in force and of earlier ones that are not applied yet."""
        return frozenset().union(*(membership.members for _, membership in self._history))

    @property
    def addresses(self) -> Mapping[int, Address]:
        """The address of each of `members` in the latest membership that has it."""
        return {
            peer: address
            for _, membership in self._history
            for peer, address in membership.addresses.items()
        }

    def append(self, entry: Entry) -> None:
        """The entry has been appended to the log."""
        if entry.kind is EntryKind.MEMBERSHIP:
            self._history.append((entry.index, self._codec.decode(entry.payload)))
            self.version += 1

    def read(self, log: Log, start: int) -> None:
        """Append the memberships of the log from `start` on."""
        for entry in log.entries(start, log.last_index + 1, EVERYTHING):
            self.append(entry)

    def follow(self, log: Log, entries: Sequence[Entry]) -> None:
        """The log has just been merged with `entries`."""
        if entries and (
            self.current_index >= entries[0].index
            or any(entry.kind is EntryKind.MEMBERSHIP for entry in entries)
        ):
            self._truncate(entries[0].index)
            self.read(log, entries[0].index)

    def _truncate(self, index: int) -> None:
        while len(self._history) > 1 and self._history[-1][0] >= index:
            self._history.pop()
            self.version += 1

    def compact(self, index: int) -> None:
        """The state machine has applied `index`: truncation stays above it."""
        while len(self._history) > 1 and self._history[1][0] <= index:
            self._history.pop(0)
            self.version += 1

    def reset(self, index: int, membership: Membership) -> None:
        """A snapshot with this membership has replaced the log up to `index`."""
        self._history = [(index, membership)]
        self.version += 1


def enter(present: Membership, target: Membership) -> Membership:
    """The first step from `present` to `target`: joint if the voters change, else `target`.

    `target` names voters, learners, addresses and disks; the rest follows from `present`. An id
    that leaves is spent for good, unless no node was ever started under it. Raises
    `MembershipRefused` if no cluster may be so.
    """
    if not target.voters:
        raise MembershipRefused("a cluster needs at least one voter")
    if target.members & present.removed:
        raise MembershipRefused("a removed node id never comes back; choose a new one")
    spent = frozenset(filter(present.started, present.members - target.members))
    if target.voters == present.voters:
        return replace(target, voters_outgoing=frozenset(), removed=present.removed | spent)
    return replace(
        target,
        voters_outgoing=present.voters,
        # A leaving voter keeps its address until the joint membership is left, and is removed only
        # then: its vote is still needed, so no node may refuse its handshake.
        addresses={**present.addresses, **target.addresses},
        disk_ids={**present.disk_ids, **target.disk_ids},
        removed=present.removed | (spent - present.voters),
    )


def leave(joint: Membership) -> Membership:
    """The second step: the outgoing voters vote no more."""
    members = joint.voters | joint.learners
    return replace(
        joint,
        voters_outgoing=frozenset(),
        addresses={peer: known for peer, known in joint.addresses.items() if peer in members},
        disk_ids={peer: known for peer, known in joint.disk_ids.items() if peer in members},
        removed=joint.removed | (joint.voters_outgoing - members),
    )


def require_majorities(
    present: Membership, entered: Membership, acknowledging: frozenset[int]
) -> None:
    """Refuse a change that leaves the cluster without a majority that acknowledges.

    `entered` is the first step from `present`, as `enter` makes it: committing it takes majorities
    of the old and of the new voters, and whatever comes later one of the new. A learner counts
    in no majority, so adding or removing one takes no more than committing it: also while a
    voter is dead, for that is how a dead voter is replaced. Raises `MembershipRefused` with the
    arithmetic.
    """
    if quorum.has_majorities(entered, acknowledging):
        return
    old, new = present.voters, entered.voters
    now = _acknowledge(old, acknowledging)
    if not quorum.has_majorities(present, acknowledging):
        raise MembershipRefused(
            f"{now}, and a majority is {quorum.majority(old)}: the change could not be committed."
            f" Start {_nodes(old - acknowledging)} first; --force proposes it anyway"
        )
    missing = new - acknowledging
    lost = missing & old
    replacing = f", or `raftkv member replace {min(lost)} NEW`" if lost else ""
    raise MembershipRefused(
        f"{now}; after this change {len(new & acknowledging)} of {len(new)} would, and a majority"
        f" is {quorum.majority(new)}: nothing could be committed while {_nodes(missing)}"
        f" {'does' if len(missing) == 1 else 'do'} not acknowledge. Start {_nodes(missing)} first"
        f"{replacing}; --force does it anyway"
    )


def _acknowledge(voters: frozenset[int], acknowledging: frozenset[int]) -> str:
    count = len(voters & acknowledging)
    who = f" ({_nodes(voters & acknowledging)})" if count else ""
    return f"{count} of {len(voters)} voters acknowledge{'s' if count == 1 else ''}{who}"


def _nodes(node_ids: frozenset[int]) -> str:
    return f"node{'' if len(node_ids) == 1 else 's'} {', '.join(map(str, sorted(node_ids)))}"

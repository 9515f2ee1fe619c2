"""What a simulated node keeps over a crash. Knows how writes land, nothing about Raft."""

from __future__ import annotations

import json
from collections.abc import Sequence

from raftkv.raft.entry import Address, Entry, EntryKind, HardState, Membership
from raftkv.raft.membership import MembershipCodec
from raftkv.raft.running_hash import next_hash

FOUNDED = 0x0F00DED
"""The running hash with which the logs of a cluster begin: its incarnation."""


def _encode(membership: Membership) -> bytes:
    addresses = membership.addresses
    return json.dumps(
        [
            sorted(membership.voters),
            sorted(membership.voters_outgoing),
            sorted(membership.learners),
            sorted(membership.removed),
            sorted((node, address.peer, address.client) for node, address in addresses.items()),
        ]
    ).encode()


def _decode(payload: bytes) -> Membership:
    voters, outgoing, learners, removed, addresses = json.loads(payload)
    return Membership(
        frozenset(voters),
        frozenset(outgoing),
        frozenset(learners),
        {node: Address(peer, client) for node, peer, client in addresses},
        frozenset(removed),
    )


CODEC = MembershipCodec(_encode, _decode)


class LogDisk:
    """The log and the hard state. Every write is atomic and synced when it returns."""

    def __init__(self, founded: int = FOUNDED) -> None:
        self.hard_state = HardState()
        self.compacted_index = 0
        self.compacted_term = 0
        self.compacted_hash = founded
        self.entries: list[Entry] = []

    @property
    def last_index(self) -> int:
        return self.compacted_index + len(self.entries)

    def term(self, index: int) -> int | None:
        if index == self.compacted_index:
            return self.compacted_term
        position = index - self.compacted_index - 1
        return self.entries[position].term if 0 <= position < len(self.entries) else None

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            position = entries[0].index - self.compacted_index - 1
            assert 0 <= position <= len(self.entries), "a write leaves a gap on disk"
            self.entries[position:] = entries

    def compact(self, index: int, running_hash: int) -> None:
        term = self.term(index)
        assert term is not None, "compacted past the end of the log"
        del self.entries[: index - self.compacted_index]
        self._begin_after(index, term, running_hash)

    def reset(self, index: int, term: int, running_hash: int) -> None:
        self.entries = []
        self._begin_after(index, term, running_hash)

    def _begin_after(self, index: int, term: int, running_hash: int) -> None:
        self.compacted_index, self.compacted_term = index, term
        self.compacted_hash = running_hash


class State:
    """The state machine: it remembers every entry that it applied. Written without sync."""

    def __init__(self, membership: Membership, founded: int = FOUNDED) -> None:
        self.history: list[Entry] = []
        self.founded = founded
        self.durable_index = 0
        self._memberships: list[tuple[int, Membership]] = [(0, membership)]

    @property
    def applied_index(self) -> int:
        return len(self.history)

    @property
    def applied_term(self) -> int:
        return self.history[-1].term if self.history else 0

    @property
    def applied_hash(self) -> int:
        """The running hash of all that was applied, from the first entry on."""
        running_hash = self.founded
        for entry in self.history:
            running_hash = next_hash(running_hash, entry)
        return running_hash

    @property
    def membership(self) -> Membership:
        return self._memberships[-1][1]

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.applied_index + 1, "a gap at apply"
            self.history.append(entry)
            if entry.kind is EntryKind.MEMBERSHIP:
                self._memberships.append((entry.index, CODEC.decode(entry.payload)))

    def sync(self) -> None:
        self.durable_index = self.applied_index

    def lose_unsynced(self, keep_index: int) -> None:
        """A power cut: whatever was applied after `keep_index` is gone unless it was synced."""
        keep = max(self.durable_index, min(keep_index, self.applied_index))
        del self.history[keep:]
        while self._memberships[-1][0] > keep:
            self._memberships.pop()

    def copy(self) -> State:
        clone = State(self.membership, self.founded)
        clone.history = list(self.history)
        clone.durable_index = self.applied_index
        clone._memberships = list(self._memberships)
        return clone

"""The log in memory, from the last compaction to the end (section 5.3)."""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.errors import check
from raftkv.raft.entry import Entry
from raftkv.raft.running_hash import UNKNOWN, agree, next_hash

ENTRY_OVERHEAD_BYTES = 64


def size_of(entry: Entry) -> int:
    """What an entry costs in memory and on the wire, about."""
    return len(entry.payload) + ENTRY_OVERHEAD_BYTES


class Log:
    """Entries `first_index` .. `last_index`; the state machine has all entries before them.

    `compacted_index <= persisted_index <= handed_index <= last_index`. Indexes have no gap and
    terms never decrease. Committed entries are never cut off.
    """

    def __init__(
        self,
        compacted_index: int = 0,
        compacted_term: int = 0,
        entries: Sequence[Entry] = (),
        compacted_hash: int = UNKNOWN,
    ) -> None:
        self.compacted_index = compacted_index
        """The last entry that was dropped because the state machine has it (section 7); 0 if none.
        Never decreases."""

        self.compacted_term = compacted_term
        """The term of that entry."""

        self.compacted_hash = compacted_hash
        """The running hash of the log up to that entry."""

        self._entries: list[Entry] = []
        """`_entries[i].index == compacted_index + 1 + i`."""

        self._hashes: list[int] = []
        """`_hashes[i]` is the running hash of the log up to `_entries[i]`."""

        self.bytes = 0
        """The sum of `size_of` of all entries."""

        for entry in entries:
            self._push(entry)
        self.handed_index = self.last_index
        """The last entry that went to the disk, written or not. Truncation moves it back."""

        self.persisted_index = self.last_index
        """The last entry that is on the disk. Truncation moves it back."""

    @property
    def first_index(self) -> int:
        return self.compacted_index + 1

    @property
    def last_index(self) -> int:
        return self.compacted_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.compacted_term

    def term(self, index: int) -> int | None:
        """The term at `index`, or None if it is not there (compacted away, or past the end)."""
        position = index - self.compacted_index - 1
        if 0 <= position < len(self._entries):
            return self._entries[position].term
        return self.compacted_term if index == self.compacted_index else None

    def hash(self, index: int) -> int | None:
        """The running hash up to `index`, or None where `term` is None."""
        position = index - self.compacted_index - 1
        if 0 <= position < len(self._hashes):
            return self._hashes[position]
        return self.compacted_hash if index == self.compacted_index else None

    def contradicts(self, index: int, term: int, hash_there: int) -> bool:
        """Whether this log up to `index` differs from a log with this term and hash at `index`.

        False if this log does not have `index`.
        """
        own_term, own_hash = self.term(index), self.hash(index)
        if own_term is None or own_hash is None:
            return False
        return own_term != term or not agree(own_hash, hash_there)

    def first_difference(self, entries: Sequence[Entry]) -> Entry | None:
        """The first of `entries` that has index and term of an entry here but differs from it."""
        for entry in entries:
            position = entry.index - self.compacted_index - 1
            if position >= len(self._entries):
                break
            if position >= 0:
                present = self._entries[position]
                if present.term == entry.term and present != entry:
                    return entry
        return None

    def matches(self, index: int, term: int) -> bool:
        """Log Matching's test: the entry at `index` has this term (Raft section 5.3)."""
        return self.term(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as complete as this one (section 5.4.1).

        The term decides before the length.
        """
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append the leader's own entries."""
        for entry in entries:
            self._push(entry)

    def merge(self, entries: Sequence[Entry], commit_index: int) -> None:
        """Append what is new and cut off what conflicts; entries already there stay (figure 2)."""
        for position, entry in enumerate(entries):
            present = self.term(entry.index)
            if present == entry.term:
                continue
            if present is not None:
                self._truncate(entry.index, commit_index)
            self.append(entries[position:])
            return

    def last_agreement(self, index: int, term: int) -> tuple[int, int]:
        """The last (index, term) here at or before `index` whose term is at most `term`.

        Everything after it has a higher term and can't agree with a log that has `term` at
        `index`, so a leader skips whole terms of a follower's log at once (section 5.3).
        """
        index = min(index, self.last_index)
        while index > self.compacted_index:
            present = self.term(index)
            if present is None or present <= term:
                return index, present or 0
            index -= 1
        return index, self.term(index) or 0

    def entries(self, start: int, stop: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries start .. stop - 1, fewer if they exceed `bytes_max`, but never none."""
        position = start - self.compacted_index - 1
        check(position >= 0, "no entry is read below the compaction", start=start)
        chosen = self._entries[position : stop - self.compacted_index - 1]
        total = 0
        for count, entry in enumerate(chosen):
            total += size_of(entry)
            if total > bytes_max and count > 0:
                return tuple(chosen[:count])
        return tuple(chosen)

    def hand_over(self) -> tuple[Entry, ...]:
        """The entries that have not gone to the disk yet."""
        entries = tuple(self._entries[self.handed_index - self.compacted_index :])
        self.handed_index = self.last_index
        return entries

    def persisted(self, index: int, term: int) -> None:
        """The disk has everything up to `index`, unless the tail was replaced in the meantime."""
        if index > self.persisted_index and self.matches(index, term):
            self.persisted_index = index

    def compact(self, index: int) -> None:
        """Drop all entries up to and including `index`."""
        term = self.term(index)
        check(
            term is not None and index <= self.persisted_index,
            "only persisted entries are compacted",
            index=index,
            persisted=self.persisted_index,
        )
        gone = index - self.compacted_index
        if gone:
            self.compacted_hash = self._hashes[gone - 1]
        self.bytes -= sum(size_of(entry) for entry in self._entries[:gone])
        del self._entries[:gone]
        del self._hashes[:gone]
        self.compacted_index, self.compacted_term = index, term or 0

    def index_keeping(self, bytes_min: int) -> int:
        """The last index to drop so that about `bytes_min` of the log stay."""
        kept = 0
        for position in range(len(self._entries) - 1, -1, -1):
            kept += size_of(self._entries[position])
            if kept > bytes_min:
                return self.compacted_index + position
        return self.compacted_index

    def reset(self, index: int, term: int, hash_there: int) -> None:
        """Replace the whole log by a snapshot that ends at (index, term)."""
        self._entries.clear()
        self._hashes.clear()
        self.bytes = 0
        self.compacted_index, self.compacted_term = index, term
        self.compacted_hash = hash_there
        self.handed_index = self.persisted_index = index

    def _push(self, entry: Entry) -> None:
        check(
            entry.index == self.last_index + 1 and entry.term >= self.last_term,
            "the log has no gap and its terms never fall",
            entry=(entry.term, entry.index),
            last=(self.last_term, self.last_index),
        )
        previous = self._hashes[-1] if self._hashes else self.compacted_hash
        self._entries.append(entry)
        self._hashes.append(next_hash(previous, entry))
        self.bytes += size_of(entry)

    def _truncate(self, index: int, commit_index: int) -> None:
        check(
            index > commit_index,
            "a committed entry is never cut off",
            index=index,
            commit_index=commit_index,
        )
        position = index - self.compacted_index - 1
        self.bytes -= sum(size_of(entry) for entry in self._entries[position:])
        del self._entries[position:]
        del self._hashes[position:]
        self.handed_index = min(self.handed_index, index - 1)
        self.persisted_index = min(self.persisted_index, index - 1)

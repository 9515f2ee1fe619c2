"""The keys that a lock's queue is made of, and what is remembered of queues. Reads no store.

A member of a queue is a plain key, `name/` + its token in 16 hex digits, where the token is the
key's own create_revision. A key that somebody else wrote in their midst is no member: its
create_revision is not what its name says.
"""

from __future__ import annotations

from typing import Final

from raftkv.wire.lock_keys import is_entry, name_of

NAMES_MAX: Final = 10_000
"""Names of which something is remembered."""


class QueueHeads:
    """Where the queues begin, and which of them are empty. It may forget, but is never wrong.

    It spares seeks, and decides nothing: one from a queue's start would pass the deletion markers
    of all who held the name before, 8 ms after 20,000 of them, and even a short one is a third of
    what it costs to acquire a lock.
    """

    def __init__(self) -> None:
        self._tokens: dict[bytes, int] = {}
        self._sizes: dict[bytes, int] = {}

    def of(self, name: bytes) -> int:
        """No member of the name has a lower token. Holds for ever, as tokens only grow."""
        return self._tokens.get(name, 0)

    def is_empty(self, name: bytes) -> bool:
        """Whether the name is known to have no members."""
        return self._sizes.get(name) == 0

    def note(self, name: bytes, token: int) -> None:
        """This one holds the name."""
        _remember(self._tokens, name, token)

    def note_empty(self, name: bytes) -> None:
        """The name has no members; from now on they are counted."""
        _remember(self._sizes, name, 0)

    def created(self, key: bytes, revision: int) -> None:
        """A key was written for the first time; it may have joined a queue."""
        self._count(key, revision, 1)

    def deleted(self, key: bytes, create_revision: int) -> None:
        """A key is gone; it may have been a member."""
        self._count(key, create_revision, -1)

    def changed(self, key: bytes) -> None:
        """Something happened to a key, nobody says what: its queue's members are not known."""
        name = name_of(key)
        if name is not None:
            self._sizes.pop(name, None)

    def _count(self, key: bytes, create_revision: int, change: int) -> None:
        name = name_of(key)
        if name is not None and name in self._sizes and is_entry(name, key, create_revision):
            self._sizes[name] += change


def _remember(known: dict[bytes, int], name: bytes, what: int) -> None:
    if name not in known and len(known) >= NAMES_MAX:
        del known[next(iter(known))]
    known[name] = what

"""Outgoing messages, each held until the write that makes its promise true is on disk."""

from __future__ import annotations

from raftkv.raft.entry import Entry, HardState
from raftkv.raft.messages import AppendEntriesReply, Message
from raftkv.raft.ready import Persist


class Outbox:
    """Messages that promise nothing about the disk leave with the next `Ready`.

    A promise (a vote, an acknowledgement) leaves once everything is on disk that was not when it
    was given: the write that was under way then, and the next one.
    """

    def __init__(self, hard_state: HardState) -> None:
        self._hard_state = hard_state
        """The last hard state that went to the disk: on it, or in `persisting`."""

        self.persisting: Persist | None = None
        """The write that is under way; one at a time."""

        self._now: list[Message] = []
        """Messages for the next `Ready`."""

        self._promises: list[Message] = []
        """Promises that await the next write."""

        self._promises_writing: list[Message] = []
        """Promises that await `persisting`. Empty if no write is under way."""

    def send(self, message: Message) -> None:
        """Send a message that promises nothing about the disk."""
        self._now.append(message)

    def promise(self, message: Message) -> None:
        """Send a message once everything that it promises is on disk."""
        self._promises.append(message)

    def acknowledge(self, reply: AppendEntriesReply) -> None:
        """Promise an acknowledgement. It replaces the promise before it if it covers that one."""
        last = self._promises[-1] if self._promises else None
        if (
            isinstance(last, AppendEntriesReply)
            and last.success
            and (last.recipient, last.term) == (reply.recipient, reply.term)
            and last.match_index <= reply.match_index
        ):
            self._promises[-1] = reply
        else:
            self.promise(reply)

    def take(self) -> tuple[Message, ...]:
        """The messages that may leave now."""
        messages, self._now = self._now, []
        return tuple(messages)

    def begin_write(self, hard_state: HardState, entries: tuple[Entry, ...]) -> Persist | None:
        """Begin a write of what is new, which the promises given so far await. None if nothing is.

        A new commit index alone is not written: no promise depends on it, and the next write
        includes it.
        """
        known = self._hard_state
        promised = (known.current_term, known.voted_for) != (
            hard_state.current_term,
            hard_state.voted_for,
        )
        if not entries and not promised:
            return None
        self._hard_state = hard_state
        self.persisting = Persist(hard_state if hard_state != known else None, entries)
        self._promises_writing, self._promises = self._promises, []
        return self.persisting

    def end_write(self) -> list[Message]:
        """The write is on disk; returns the promises that awaited it."""
        self.persisting = None
        kept, self._promises_writing = self._promises_writing, []
        return kept

    def nothing_to_write(self) -> list[Message]:
        """Everything is on disk already; returns the promises, which await nothing."""
        kept, self._promises = self._promises, []
        return kept

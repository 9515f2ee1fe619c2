"""What leaves the node, and when. Knows which messages wait for which write; of their meaning,
only which acknowledgement makes an earlier one superfluous.
"""

from __future__ import annotations

from raftkv.raft.entry import Entry, HardState
from raftkv.raft.messages import AppendEntriesReply, Message
from raftkv.raft.ready import Persist


class Outbox:
    """Messages that promise nothing leave at once. A promise leaves after the write that makes
    it true: everything that was unwritten when it was given, and any write then under way.
    """

    def __init__(self, hard_state: HardState) -> None:
        self._hard_state = hard_state  # on disk, or in the write that is under way
        self.persisting: Persist | None = None
        self._now: list[Message] = []
        self._promises: list[Message] = []  # wait for the next write
        self._promises_writing: list[Message] = []  # wait for the write that is under way

    def send(self, message: Message) -> None:
        self._now.append(message)

    def promise(self, message: Message) -> None:
        self._promises.append(message)

    def acknowledge(self, reply: AppendEntriesReply) -> None:
        """Promise it, in place of the promise before it if it says all that that one does."""
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
        messages, self._now = self._now, []
        return tuple(messages)

    def begin_write(self, hard_state: HardState, entries: tuple[Entry, ...]) -> Persist | None:
        """Hand over what is new; the promises given so far wait for it. None if nothing is.

        A new commit index alone is nothing: it promises nothing, and goes with the next write.
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
        """The write is done: the promises that waited for it."""
        self.persisting = None
        kept, self._promises_writing = self._promises_writing, []
        return kept

    def nothing_to_write(self) -> list[Message]:
        """All is on disk already: the promises that waited for nothing."""
        kept, self._promises = self._promises, []
        return kept

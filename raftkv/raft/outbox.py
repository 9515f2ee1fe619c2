"""What leaves the node, and when. Knows which messages wait for which write, not what they mean."""

from __future__ import annotations

from raftkv.raft.messages import Message
from raftkv.raft.ready import Persist


class Outbox:
    """Messages that promise nothing leave at once. A promise leaves after the write that makes
    it true: everything that was unwritten when it was given, and any write then under way.
    """

    def __init__(self) -> None:
        self.persisting: Persist | None = None
        self._now: list[Message] = []
        self._promises: list[Message] = []  # wait for the next write
        self._promises_writing: list[Message] = []  # wait for the write that is under way

    def send(self, message: Message) -> None:
        self._now.append(message)

    def promise(self, message: Message) -> None:
        self._promises.append(message)

    @property
    def last_promise(self) -> Message | None:
        return self._promises[-1] if self._promises else None

    def replace_last_promise(self, message: Message) -> None:
        self._promises[-1] = message

    def take(self) -> tuple[Message, ...]:
        messages, self._now = self._now, []
        return tuple(messages)

    def begin_write(self, persist: Persist) -> None:
        self.persisting = persist
        self._promises_writing, self._promises = self._promises, []

    def end_write(self) -> list[Message]:
        """The write is done: the promises that waited for it."""
        self.persisting = None
        kept, self._promises_writing = self._promises_writing, []
        return kept

    def nothing_to_write(self) -> list[Message]:
        """All is on disk already: the promises that waited for nothing."""
        kept, self._promises = self._promises, []
        return kept

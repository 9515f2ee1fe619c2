"""ReadIndex rounds of a leader (dissertation 6.4)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """`requester` asked for a read index under its own `context`."""

    requester: int
    context: int


@dataclass(frozen=True, slots=True)
class Round:
    """`read_index` was the commit index when the round began: its reads may be served once that is
    applied.
    """

    number: int
    read_index: int
    requests: tuple[ReadRequest, ...]


class ReadRounds:
    """Groups reads into rounds, each of which takes one heartbeat to every peer.

    A round is confirmed when a majority has answered a heartbeat that was sent after the reads of
    the round arrived. Rounds of a leadership count from 1.
    """

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self.number = 1
        """The last round that has begun; never decreases. Round 1 has no reads: a plain heartbeat
        carries it, because 0 asks for no reply."""

        self._waiting: list[ReadRequest] = []
        """Reads for the next round."""

        self._open: deque[Round] = deque()
        """Rounds that are not confirmed, in ascending order of numbers; all are `<= number`."""

        self._answered: dict[int, int] = {}
        """The latest round that each peer has answered; `1 <= answered <= number`."""

    @property
    def waiting(self) -> bool:
        """Whether there are reads for another round."""
        return bool(self._waiting)

    def add(self, request: ReadRequest) -> None:
        self._waiting.append(request)

    def start(self, commit_index: int) -> int:
        """Begin a round for all waiting reads; returns the number for its heartbeats."""
        self.number += 1
        self._open.append(Round(self.number, commit_index, tuple(self._waiting)))
        self._waiting.clear()
        return self.number

    def answer(self, peer: int, number: int) -> bool:
        """This peer has answered round `number`. True if that is its latest."""
        if number <= self.answered_by(peer):
            return False
        self._answered[peer] = number
        return True

    def answered_by(self, member: int) -> int:
        """The latest round that this member has answered; the leader itself answers at once."""
        return self.number if member == self._node_id else self._answered.get(member, 0)

    def confirm(self, number: int) -> list[Round]:
        """A majority has answered round `number`: this one and all before it are confirmed."""
        confirmed = []
        while self._open and self._open[0].number <= number:
            confirmed.append(self._open.popleft())
        return confirmed

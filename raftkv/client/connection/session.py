"""A session as its client sees it: numbers its batches, knows which answers are settled."""

from __future__ import annotations


class Session:
    """A lease with a memory: the store runs each (session, sequence) once.

    A sequence is settled when its answer has arrived, and also when nobody will ask for it any
    more: the store then forgets its result, and refuses a copy that arrives late.
    """

    __slots__ = ("_settled", "acknowledged", "lease", "sequence")

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.sequence = 0  # the last one given out
        self.acknowledged = 0  # all sequences up to this are settled
        self._settled: set[int] = set()  # those beyond it

    def next_sequence(self) -> int:
        """A sequence that was never used."""
        self.sequence += 1
        return self.sequence

    def settle(self, sequence: int) -> None:
        """Nobody will send this sequence again."""
        self._settled.add(sequence)
        while self.acknowledged + 1 in self._settled:
            self.acknowledged += 1
            self._settled.remove(self.acknowledged)

"""What sessions remember: which batches have run and how they ended. Knows no commands."""

from __future__ import annotations

from raftkv.kv.limits import SESSION_RESULTS_MAX
from raftkv.kv.overlay import Overlay
from raftkv.kv.records import pack_session, session_key, split_session_key, unpack_session
from raftkv.kv.store import Family


class _Memory:
    """One session: results are kept of `sequences`, all <= `acknowledged` have been seen."""

    __slots__ = ("acknowledged", "sequences")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.sequences: set[int] = set()

    def forget_through(self, acknowledged: int) -> list[int]:
        """Drop what is acknowledged; the sequences that were."""
        first = self.acknowledged + 1
        if acknowledged < first:
            return []
        self.acknowledged = acknowledged
        # Sequences are dense, so the range is short; but a client may send anything.
        candidates = (
            range(first, acknowledged + 1)
            if acknowledged - first < len(self.sequences)
            else list(self.sequences)
        )
        dropped = [
            sequence
            for sequence in candidates
            if sequence <= acknowledged and sequence in self.sequences
        ]
        self.sequences.difference_update(dropped)
        return dropped


class Sessions:
    """The memory of all sessions: (session, sequence) -> result, until it is acknowledged.

    Only the sequences are held in memory; the results are rows of the store, each with the
    highest sequence that was acknowledged when it was written. The batch that raises that
    mark outlives it, so the largest mark among the rows left is the mark after a restart.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._rows = overlay.changes[Family.SESSIONS]
        self._memories: dict[int, _Memory] = {}
        for key, row in overlay.scan(Family.SESSIONS, b"", None):
            session, sequence = split_session_key(key)
            memory = self._memory(session)
            memory.sequences.add(sequence)
            memory.acknowledged = max(memory.acknowledged, unpack_session(row)[0])

    def result(self, session: int, sequence: int) -> bytes | None:
        """What the batch returned when it ran, None if it has not or the result is forgotten."""
        memory = self._memories.get(session)
        if memory is None or sequence not in memory.sequences:
            return None
        row = self._overlay.get(Family.SESSIONS, session_key(session, sequence))
        return unpack_session(row)[1] if row is not None else None

    def acknowledged(self, session: int) -> int:
        """Results of all sequences <= this have been seen and are forgotten."""
        memory = self._memories.get(session)
        return memory.acknowledged if memory is not None else 0

    def acknowledge(self, session: int, acknowledged: int) -> None:
        """The client has seen the results of all sequences <= `acknowledged`."""
        for sequence in self._memory(session).forget_through(acknowledged):
            self._rows[session_key(session, sequence)] = None

    def is_full(self, session: int, acknowledged: int) -> bool:
        """Whether no further result fits, even after `acknowledge(session, acknowledged)`."""
        memory = self._memories.get(session)
        if memory is None or len(memory.sequences) < SESSION_RESULTS_MAX:
            return False
        return all(sequence > acknowledged for sequence in memory.sequences)

    def remember(self, session: int, sequence: int, result: bytes) -> None:
        """Keep the result of a batch that has run."""
        memory = self._memory(session)
        memory.sequences.add(sequence)
        self._rows[session_key(session, sequence)] = pack_session(memory.acknowledged, result)

    def forget(self, session: int) -> None:
        """The session has ended."""
        memory = self._memories.pop(session, None)
        if memory is not None:
            for sequence in memory.sequences:
                self._rows[session_key(session, sequence)] = None

    def _memory(self, session: int) -> _Memory:
        memory = self._memories.get(session)
        if memory is None:
            memory = self._memories[session] = _Memory()
        return memory

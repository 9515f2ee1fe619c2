"""What sessions remember: which batches have run and how they ended. Knows no commands.

From the cluster version BOUNDED on each result counts for as much as `remembered.py` says, and what
is counted is bounded: per session and for all together. Over a bound new batches are refused; what
is remembered stays until it is acknowledged or its session ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftkv.errors import Overloaded
from raftkv.kv.limits import (
    RESULTS_BYTES_MAX,
    RESULTS_MAX,
    SESSION_RESULT_BYTES_MAX,
    SESSION_RESULTS_MAX,
    SESSIONS_MAX,
)
from raftkv.kv.overlay import Overlay
from raftkv.kv.records import pack_session, session_key, split_session_key, unpack_session
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2

RESULT_BYTES: Final = 64
"""Of a result without what it has read."""

FAILURE_BYTES: Final = 1_280
"""Of a result that is a failure; its text is cut to about that."""


def remembered_bytes(results: Iterable[kv_pb2.Result], read_bytes: int) -> int:
    """What the results count for, which hold `read_bytes` of keys and values."""
    return read_bytes + sum(
        FAILURE_BYTES if result.HasField("failure") else RESULT_BYTES for result in results
    )


class _Memory:
    """One session: results are kept of `sizes`, all <= `acknowledged` have been seen."""

    __slots__ = ("acknowledged", "bytes", "sizes")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.sizes: dict[int, int] = {}  # sequence -> what its result counts for
        self.bytes = 0

    def acknowledged_by(self, acknowledged: int) -> list[int]:
        """The sequences that this acknowledges."""
        first = self.acknowledged + 1
        if acknowledged < first:
            return []
        # Sequences are dense, so the range is short; but a client may send anything.
        candidates = (
            range(first, acknowledged + 1)
            if acknowledged - first < len(self.sizes)
            else list(self.sizes)
        )
        return [
            sequence
            for sequence in candidates
            if sequence <= acknowledged and sequence in self.sizes
        ]


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
        self._results = 0
        self._bytes = 0
        for key, row in overlay.scan(Family.SESSIONS, b"", None):
            session, sequence = split_session_key(key)
            memory = self._memory(session)
            acknowledged, size_bytes, _ = unpack_session(row)
            self._count(memory, sequence, size_bytes)
            memory.acknowledged = max(memory.acknowledged, acknowledged)

    def result(self, session: int, sequence: int) -> bytes | None:
        """What the batch returned when it ran, None if it has not or the result is forgotten."""
        memory = self._memories.get(session)
        if memory is None or sequence not in memory.sizes:
            return None
        row = self._overlay.get(Family.SESSIONS, session_key(session, sequence))
        return unpack_session(row)[2] if row is not None else None

    def acknowledged(self, session: int) -> int:
        """Results of all sequences <= this have been seen and are forgotten."""
        memory = self._memories.get(session)
        return memory.acknowledged if memory is not None else 0

    def acknowledge(self, session: int, acknowledged: int) -> None:
        """The client has seen the results of all sequences <= `acknowledged`."""
        memory = self._memory(session)
        for sequence in memory.acknowledged_by(acknowledged):
            self._drop(session, memory, sequence)
        memory.acknowledged = max(memory.acknowledged, acknowledged)

    def is_full(self, session: int, acknowledged: int) -> bool:
        """Whether no further result fits, even after `acknowledge(session, acknowledged)`."""
        memory = self._memories.get(session)
        if memory is None or len(memory.sizes) < SESSION_RESULTS_MAX:
            return False
        return all(sequence > acknowledged for sequence in memory.sizes)

    def require_room(self, session: int, acknowledged: int) -> None:
        """Raise `Overloaded` if what is remembered is at one of its bounds, even after
        `acknowledge(session, acknowledged)`.
        """
        memory = self._memories.get(session)
        if memory is None:
            if len(self._memories) >= SESSIONS_MAX:
                raise _full(f"{SESSIONS_MAX} sessions are in use, as many as may be")
            freed: list[int] = []
        else:
            freed = memory.acknowledged_by(acknowledged)
        freed_bytes = sum(memory.sizes[sequence] for sequence in freed) if memory else 0
        if memory is not None and memory.bytes - freed_bytes >= SESSION_RESULT_BYTES_MAX:
            raise _full(
                f"session {session} has {memory.bytes} bytes of results that were not acknowledged"
                " (its bound)"
            )
        if (
            self._results - len(freed) >= RESULTS_MAX
            or self._bytes - freed_bytes >= RESULTS_BYTES_MAX
        ):
            raise _full(
                f"{self._results} results of all sessions ({self._bytes} bytes) are not"
                " acknowledged, a bound of the cluster"
            )

    def remember(
        self, session: int, sequence: int, result: bytes, size_bytes: int | None = None
    ) -> None:
        """Keep the result of a batch that has run, and what it counts for (None: nothing)."""
        memory = self._memory(session)
        self._count(memory, sequence, size_bytes or 0)
        self._rows[session_key(session, sequence)] = pack_session(
            memory.acknowledged, size_bytes, result
        )

    def forget(self, session: int) -> None:
        """The session has ended."""
        memory = self._memories.get(session)
        if memory is not None:
            for sequence in list(memory.sizes):
                self._drop(session, memory, sequence)
            del self._memories[session]

    def _count(self, memory: _Memory, sequence: int, size_bytes: int) -> None:
        memory.sizes[sequence] = size_bytes
        memory.bytes += size_bytes
        self._results += 1
        self._bytes += size_bytes

    def _drop(self, session: int, memory: _Memory, sequence: int) -> None:
        size_bytes = memory.sizes.pop(sequence)
        memory.bytes -= size_bytes
        self._results -= 1
        self._bytes -= size_bytes
        self._rows[session_key(session, sequence)] = None

    def _memory(self, session: int) -> _Memory:
        memory = self._memories.get(session)
        if memory is None:
            memory = self._memories[session] = _Memory()
        return memory


def _full(what: str) -> Overloaded:
    return Overloaded(
        f"{what}; nothing was run, and nothing that is remembered is forgotten; acknowledge what"
        " was received, end sessions that are not used, and try again",
        retry_after_s=1.0,
    )

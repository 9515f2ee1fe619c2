"""Sessions: the results of batches, kept so that a retry is answered and not run again.

From the cluster version BOUNDED on the results are counted by `remembered_bytes` and bounded, per
session and for all sessions together. Above a bound new batches are refused. A result is kept until
it is acknowledged or its session ends.
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
"""The counted size of a result beside the keys and values in it."""

FAILURE_BYTES: Final = 1_280
"""The counted size of a failure. Its texts are cut to about that."""


def remembered_bytes(results: Iterable[kv_pb2.Result], read_bytes: int) -> int:
    """The counted size of results that hold `read_bytes` of keys and values.

    It depends only on what all nodes know alike: neither on encoded bytes, which depend on a node's
    protobuf library, nor on the texts of failures, which depend on its release.
    """
    return read_bytes + sum(
        FAILURE_BYTES if result.HasField("failure") else RESULT_BYTES for result in results
    )


class _Session:
    """One session: the kept sequences, and the highest one that the client has acknowledged."""

    __slots__ = ("acknowledged", "bytes", "sizes")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.sizes: dict[int, int] = {}  # sequence -> counted size of its result
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
    """The results of all sessions: (session, sequence) -> result, until it is acknowledged.

    Only the sequences are in memory; the results are rows of the store, each with the highest
    sequence that was acknowledged when it was written. The batch that raises that mark is not
    acknowledged by it, so after a restart the mark is the largest one among the rows left.
    """

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._rows = overlay.changes[Family.SESSIONS]
        self._sessions: dict[int, _Session] = {}
        self._results = 0
        self._bytes = 0
        for key, row in overlay.scan(Family.SESSIONS, b"", None):
            session, sequence = split_session_key(key)
            kept = self._session(session)
            acknowledged, size_bytes, _ = unpack_session(row)
            self._count(kept, sequence, size_bytes)
            kept.acknowledged = max(kept.acknowledged, acknowledged)

    def __len__(self) -> int:
        return len(self._sessions)

    def result(self, session: int, sequence: int) -> bytes | None:
        """The batch's result, None if the batch has not run or its result is forgotten."""
        kept = self._sessions.get(session)
        if kept is None or sequence not in kept.sizes:
            return None
        row = self._overlay.get(Family.SESSIONS, session_key(session, sequence))
        return unpack_session(row)[2] if row is not None else None

    def acknowledged(self, session: int) -> int:
        """The results of all sequences <= this were received by the client and are forgotten."""
        kept = self._sessions.get(session)
        return kept.acknowledged if kept is not None else 0

    def acknowledge(self, session: int, acknowledged: int) -> None:
        """The client has received the results of all sequences <= `acknowledged`."""
        kept = self._session(session)
        for sequence in kept.acknowledged_by(acknowledged):
            self._drop(session, kept, sequence)
        kept.acknowledged = max(kept.acknowledged, acknowledged)

    def is_full(self, session: int, acknowledged: int) -> bool:
        """Whether the session has no room for a result, even after this acknowledgement."""
        kept = self._sessions.get(session)
        if kept is None or len(kept.sizes) < SESSION_RESULTS_MAX:
            return False
        return all(sequence > acknowledged for sequence in kept.sizes)

    def require_room(self, session: int, acknowledged: int) -> None:
        """Raise `Overloaded` if the results have reached one of their bounds, even after this
        acknowledgement.
        """
        kept = self._sessions.get(session)
        if kept is None:
            if len(self._sessions) >= SESSIONS_MAX:
                raise _full(f"{SESSIONS_MAX} sessions are in use, as many as may be")
            freed: list[int] = []
        else:
            freed = kept.acknowledged_by(acknowledged)
        freed_bytes = sum(kept.sizes[sequence] for sequence in freed) if kept else 0
        if kept is not None and kept.bytes - freed_bytes >= SESSION_RESULT_BYTES_MAX:
            raise _full(
                f"session {session} has {kept.bytes} bytes of results that were not acknowledged"
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
        """Keep the result of a batch that has run, and its counted size (None: not counted)."""
        kept = self._session(session)
        self._count(kept, sequence, size_bytes or 0)
        key = session_key(session, sequence)
        self._rows[key] = pack_session(kept.acknowledged, size_bytes, result)
        self._overlay.effects.append(key)

    def forget(self, session: int) -> None:
        """The session has ended."""
        kept = self._sessions.get(session)
        if kept is not None:
            for sequence in list(kept.sizes):
                self._drop(session, kept, sequence)
            del self._sessions[session]

    def _count(self, kept: _Session, sequence: int, size_bytes: int) -> None:
        kept.sizes[sequence] = size_bytes
        kept.bytes += size_bytes
        self._results += 1
        self._bytes += size_bytes

    def _drop(self, session: int, kept: _Session, sequence: int) -> None:
        size_bytes = kept.sizes.pop(sequence)
        kept.bytes -= size_bytes
        self._results -= 1
        self._bytes -= size_bytes
        # It is not among the effects: a restart may change the order of these removals.
        self._rows[session_key(session, sequence)] = None

    def _session(self, session: int) -> _Session:
        kept = self._sessions.get(session)
        if kept is None:
            kept = self._sessions[session] = _Session()
        return kept


def _full(what: str) -> Overloaded:
    return Overloaded(
        f"{what}; nothing was run, and nothing that is remembered is forgotten; acknowledge what"
        " was received, end sessions that are not used, and try again",
        retry_after_s=1.0,
    )

"""Callers' own names for commands: a repeated one gets the first result while it is remembered."""

from __future__ import annotations

import hashlib
import struct
from itertools import islice
from typing import Final

from raftkv.errors import IdempotencyKeyReused
from raftkv.kv.canonical import command_bytes
from raftkv.kv.limits import (
    IDEMPOTENCY_REMOVALS_PER_ENTRY,
    IDEMPOTENCY_TTL_MS_DEFAULT,
    IDEMPOTENCY_TTL_MS_MAX,
)
from raftkv.kv.meta import Meta
from raftkv.kv.overlay import Overlay
from raftkv.kv.store import Family
from raftkv.rpc import kv_pb2

_RECORD: Final = struct.Struct("<q32s")
_DEADLINE: Final = struct.Struct(">q")


def fingerprint(command: kv_pb2.Command) -> bytes:
    """The same for two commands if and only if they ask for the same."""
    return hashlib.sha256(command_bytes(command)).digest()


class IdempotencyKeys:
    """Results by the caller's key. A key past its deadline is unknown at once; its rows go
    with later entries, some at a time. No clock entry is needed for it, so it is no deadline
    that a leader would have to watch.
    """

    def __init__(self, overlay: Overlay, meta: Meta) -> None:
        self._overlay = overlay
        self._meta = meta
        self._rows = overlay.changes[Family.IDEMPOTENCY]
        self._deadlines = overlay.changes[Family.IDEMPOTENCY_DEADLINES]
        self._first_deadline_ms = self._find_first_deadline_ms()

    def result(self, command: kv_pb2.Command) -> bytes | None:
        """The first `Result` under the command's key, None if the key is not known.

        Raises `IdempotencyKeyReused` if another command has it.
        """
        row = self._overlay.get(Family.IDEMPOTENCY, command.idempotency_key)
        if row is None:
            return None
        deadline_ms, remembered = _RECORD.unpack_from(row)
        if deadline_ms <= self._meta.time_ms:
            return None
        if remembered != fingerprint(command):
            raise IdempotencyKeyReused(
                "this idempotency key belongs to a different command; use a new key for it",
                expires_in_ms=deadline_ms - self._meta.time_ms,
            )
        return row[_RECORD.size :]

    def remember(self, command: kv_pb2.Command, result: bytes) -> None:
        """Keep the result of a command that has run, from now on for its time to live."""
        key = command.idempotency_key
        expired = self._overlay.get(Family.IDEMPOTENCY, key)
        if expired is not None:
            self._deadlines[_DEADLINE.pack(_RECORD.unpack_from(expired)[0]) + key] = None
        ttl_ms = command.idempotency_ttl_ms
        ttl_ms = min(ttl_ms, IDEMPOTENCY_TTL_MS_MAX) if ttl_ms > 0 else IDEMPOTENCY_TTL_MS_DEFAULT
        deadline_ms = self._meta.time_ms + ttl_ms
        self._rows[key] = _RECORD.pack(deadline_ms, fingerprint(command)) + result
        self._deadlines[_DEADLINE.pack(deadline_ms) + key] = b""
        if self._first_deadline_ms is None or deadline_ms < self._first_deadline_ms:
            self._first_deadline_ms = deadline_ms

    def remove_expired(self) -> None:
        """Remove some of what has expired."""
        if self._first_deadline_ms is None or self._first_deadline_ms > self._meta.time_ms:
            return
        expired = self._overlay.scan(
            Family.IDEMPOTENCY_DEADLINES, b"", _DEADLINE.pack(self._meta.time_ms + 1)
        )
        for row, _ in islice(expired, IDEMPOTENCY_REMOVALS_PER_ENTRY):
            self._deadlines[row] = None
            self._rows[row[_DEADLINE.size :]] = None
        self._first_deadline_ms = self._find_first_deadline_ms()

    def _find_first_deadline_ms(self) -> int | None:
        for row, _ in self._overlay.scan(Family.IDEMPOTENCY_DEADLINES, b"", None):
            deadline_ms: int = _DEADLINE.unpack_from(row)[0]
            return deadline_ms
        return None

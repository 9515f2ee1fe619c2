"""Idempotency keys: a command that is repeated under its key returns the first result.

From the cluster version BOUNDED on the results are counted by `sessions.remembered_bytes` and
bounded. Above a bound new commands with a key are refused. A result is kept until its deadline.
"""

from __future__ import annotations

import hashlib
import struct
from itertools import islice
from typing import Final

from raftkv.errors import IdempotencyKeyReused, Overloaded
from raftkv.kv.limits import (
    IDEMPOTENCY_BYTES_MAX,
    IDEMPOTENCY_KEYS_MAX,
    IDEMPOTENCY_TTL_MS_DEFAULT,
    IDEMPOTENCY_TTL_MS_MAX,
)
from raftkv.kv.meta import Meta
from raftkv.kv.overlay import Overlay, StateReader
from raftkv.kv.store import Family
from raftkv.rpc.v1 import kv_pb2
from raftkv.wire.canonical import command_bytes

_RECORD: Final = struct.Struct("<q32s")
_USER: Final = struct.Struct(">q")
_DEADLINE: Final = struct.Struct(">q")
_SIZE: Final = struct.Struct("<I")
_COUNTED: Final = struct.Struct("<QQ")

COUNTED_KEY: Final = b"idempotency"
"""The row of META with the number of keys that are counted, and their bytes."""


def fingerprint(command: kv_pb2.Command, user: int = 0) -> bytes:
    """Equal for two commands if and only if the same user (0: none) requests the same."""
    return hashlib.sha256(_prefix(user) + command_bytes(command)).digest()


def _prefix(user: int) -> bytes:
    """What the rows and fingerprints of a user's keys begin with."""
    return _USER.pack(user) if user else b""


def is_known(view: StateReader, command: kv_pb2.Command, user: int, time_ms: int) -> bool:
    """Whether a command of this user has run under the command's idempotency key."""
    return _living_row(view, command, user, time_ms) is not None


def _living_row(
    view: StateReader, command: kv_pb2.Command, user: int, time_ms: int
) -> bytes | None:
    """The row of the command's idempotency key, None if the key is not known at this time."""
    row = view.get(Family.IDEMPOTENCY, _prefix(user) + command.idempotency_key)
    return row if row is not None and _RECORD.unpack_from(row)[0] > time_ms else None


class IdempotencyKeys:
    """Results by idempotency key. A key is unknown from its deadline on.

    Later entries remove its rows, some at a time, so that no leader has to propose an entry at the
    deadline.
    """

    def __init__(self, overlay: Overlay, meta: Meta) -> None:
        self._overlay = overlay
        self._meta = meta
        self._rows = overlay.changes[Family.IDEMPOTENCY]
        self._deadlines = overlay.changes[Family.IDEMPOTENCY_DEADLINES]
        self._counters = overlay.changes[Family.META]
        counted = overlay.get(Family.META, COUNTED_KEY)
        self._keys, self._bytes = (0, 0) if counted is None else _COUNTED.unpack(counted)
        self.first_deadline_ms = self._find_first_deadline_ms()
        self.user = 0
        """The user whose commands are being run: each user has keys of his own."""

    def require_room(self) -> None:
        """Raise `Overloaded` if the results have reached one of their bounds."""
        if self._keys >= IDEMPOTENCY_KEYS_MAX or self._bytes >= IDEMPOTENCY_BYTES_MAX:
            raise Overloaded(
                f"the results of {self._keys} idempotency keys ({self._bytes} bytes) are"
                f" remembered; the bounds are {IDEMPOTENCY_KEYS_MAX} and {IDEMPOTENCY_BYTES_MAX}."
                " Nothing was run; use shorter idempotency_ttl_ms, and try again once some have"
                " expired",
                retry_after_s=1.0,
            )

    def knows(self, command: kv_pb2.Command) -> bool:
        """Whether a command has run under the caller's key."""
        return is_known(self._overlay, command, self.user, self._meta.time_ms)

    def result(self, command: kv_pb2.Command) -> bytes | None:
        """The first `Result` under the command's key, None if the key is not known.

        Raises `IdempotencyKeyReused` if another command has it.
        """
        row = _living_row(self._overlay, command, self.user, self._meta.time_ms)
        if row is None:
            return None
        deadline_ms, remembered = _RECORD.unpack_from(row)
        if remembered != fingerprint(command, self.user):
            raise IdempotencyKeyReused(
                "this idempotency key belongs to a different command; use a new key for it",
                expires_in_ms=deadline_ms - self._meta.time_ms,
            )
        return row[_RECORD.size :]

    def remember(self, command: kv_pb2.Command, result: bytes, size_bytes: int | None) -> None:
        """Keep the result of a command that has run, from now on for its time to live.

        `size_bytes` is its counted size (None: not counted).
        """
        key = _prefix(self.user) + command.idempotency_key
        expired = self._overlay.get(Family.IDEMPOTENCY, key)
        if expired is not None:
            self._remove(_DEADLINE.pack(_RECORD.unpack_from(expired)[0]) + key)
        ttl_ms = command.idempotency_ttl_ms
        ttl_ms = min(ttl_ms, IDEMPOTENCY_TTL_MS_MAX) if ttl_ms > 0 else IDEMPOTENCY_TTL_MS_DEFAULT
        deadline_ms = self._meta.time_ms + ttl_ms
        record = _RECORD.pack(deadline_ms, fingerprint(command, self.user))
        self._rows[key] = record + result
        row = _DEADLINE.pack(deadline_ms) + key
        self._overlay.effects += (record, key)
        if size_bytes is None:
            self._deadlines[row] = b""
        else:
            self._deadlines[row] = _SIZE.pack(size_bytes)
            self._count(1, size_bytes)
        if self.first_deadline_ms is None or deadline_ms < self.first_deadline_ms:
            self.first_deadline_ms = deadline_ms

    def remove_expired(self, keys_max: int) -> int:
        """Remove at most `keys_max` expired keys. Returns how many were removed."""
        if self.first_deadline_ms is None or self.first_deadline_ms > self._meta.time_ms:
            return 0
        expired = self._overlay.scan(
            Family.IDEMPOTENCY_DEADLINES, b"", _DEADLINE.pack(self._meta.time_ms + 1)
        )
        removed = 0
        for row, size in list(islice(expired, keys_max)):
            self._remove(row, size)
            self._rows[row[_DEADLINE.size :]] = None
            removed += 1
        self.first_deadline_ms = self._find_first_deadline_ms()
        return removed

    def _remove(self, row: bytes, size: bytes | None = None) -> None:
        """Remove a row of the deadlines. `size` is its value, None if it is not known."""
        if size is None:
            size = self._overlay.get(Family.IDEMPOTENCY_DEADLINES, row)
        self._deadlines[row] = None
        self._overlay.effects.append(row)
        if size:
            self._count(-1, -_SIZE.unpack(size)[0])

    def _count(self, keys: int, size_bytes: int) -> None:
        self._keys += keys
        self._bytes += size_bytes
        self._counters[COUNTED_KEY] = _COUNTED.pack(self._keys, self._bytes)

    def _find_first_deadline_ms(self) -> int | None:
        for row, _ in self._overlay.scan(Family.IDEMPOTENCY_DEADLINES, b"", None):
            deadline_ms: int = _DEADLINE.unpack_from(row)[0]
            return deadline_ms
        return None

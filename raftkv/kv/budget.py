"""The budget of one batch of commands, or of one read.

All nodes count alike. In a range each living key is a row, and at an old revision also each old
version. An operation or a compare of a transaction on one key scans one row. A value counts for one
more row with each 4 KiB. It does not count whether a row is cached, nor what else a disk reads on
the way to it.
"""

from __future__ import annotations

from typing import Final

from raftkv.errors import Overloaded, RaftkvError, TooLarge, TooManyKeys
from raftkv.kv.limits import (
    DELETED_KEYS_MAX,
    KIB,
    REPLACED_BYTES_MAX,
    ROWS_MAX,
    UNBOUNDED,
)
from raftkv.kv.pace import Pace
from raftkv.kv.records import VERSION_BYTES

KEY_VALUE_OVERHEAD_BYTES: Final = 32
"""The size of an encoded KeyValue beside key and value, about."""

BYTES_PER_ROW: Final = 4 * KIB
"""Bytes of a value that take as long to read as a row."""


class Budget:
    """What is left for the commands that follow: bytes of the reply, rows, deletions and bytes of
    replaced values.

    A command that fails returns only the bytes of its reply. A budget that is not `bounded`, as
    before the cluster version BOUNDED, bounds only the reply.
    """

    __slots__ = (
        "_fresh",
        "bounded",
        "bytes_left",
        "bytes_max",
        "deletions_left",
        "exhausted",
        "pace",
        "replaced_left",
        "rows_left",
    )

    def __init__(self, bytes_max: int, pace: Pace, *, bounded: bool = True) -> None:
        self.bytes_max = bytes_max
        self.bytes_left = bytes_max
        self.pace = pace
        self.bounded = bounded
        self.rows_left = ROWS_MAX if bounded else UNBOUNDED
        self.deletions_left = DELETED_KEYS_MAX if bounded else UNBOUNDED
        self.replaced_left = REPLACED_BYTES_MAX if bounded else UNBOUNDED
        self.exhausted = False
        """A command of the batch had too little left: the following ones fail at once."""
        self._fresh = True

    def begin_command(self) -> None:
        """Start the next command of the batch. Raises `Overloaded` if the budget is exhausted."""
        if self.exhausted:
            raise _left_too_little()
        self._fresh = (
            self.rows_left >= ROWS_MAX
            and self.deletions_left >= DELETED_KEYS_MAX
            and self.replaced_left >= REPLACED_BYTES_MAX
        )

    def count_key_value(self, key: bytes, record: bytes) -> None:
        """Count one KeyValue of the reply. Raises `TooLarge` if it does not fit."""
        self.count_bytes(key_value_bytes(key, record))

    def count_bytes(self, size_bytes: int) -> None:
        """Count a part of the reply. Raises `TooLarge` if it does not fit."""
        self.bytes_left -= size_bytes
        if self.bytes_left < 0:
            raise self.too_large()

    def too_large(self) -> TooLarge:
        """The error for a reply that does not fit."""
        return TooLarge(
            f"the reply would be larger than {self.bytes_max} bytes; ask for fewer keys "
            "with limit (and go on from the last key), or use keys_only or count_only",
            bytes_max=self.bytes_max,
        )

    def count_rows(self, rows: int) -> bool:
        """Count rows that were scanned, see `rows_of`. Returns True if the step is over: pause now.

        Raises `TooManyKeys`, or `Overloaded` if earlier commands of the batch used some of them.
        """
        self._take_rows(rows)
        return self.pace.spend(rows)

    def _take_rows(self, rows: int) -> None:
        self.rows_left -= rows
        if self.rows_left < 0:
            raise self._used_up(
                TooManyKeys(
                    f"this would look at more than {ROWS_MAX} keys and old versions; nothing was"
                    " changed; read in pages (`page`, then on from `next_key`), or narrow the"
                    " range",
                    keys_max=ROWS_MAX,
                )
            )

    def count_value(self, record: bytes | None) -> None:
        """Count the record that a command on one key has read, if it is large."""
        if record is not None and len(record) >= BYTES_PER_ROW:
            rows = len(record) // BYTES_PER_ROW
            self.pace.add(rows)
            self._take_rows(rows)

    def count_replaced(self, size_bytes: int) -> None:
        """Count old versions, before they move to history.

        Raises `TooLarge`, or `Overloaded` if earlier commands of the batch used some of the bytes.
        """
        if size_bytes > self.replaced_left:
            raise self._used_up(
                TooLarge(
                    f"this would replace more than {REPLACED_BYTES_MAX} bytes of old values;"
                    " nothing was changed; change fewer keys at once",
                    bytes_max=REPLACED_BYTES_MAX,
                )
            )
        self.replaced_left -= size_bytes

    def too_many_deletions(self) -> RaftkvError:
        """The error for a range with more keys than may still be deleted."""
        return self._used_up(
            TooManyKeys(
                f"the range has more than {DELETED_KEYS_MAX} keys, or more than"
                f" {REPLACED_BYTES_MAX} bytes of values, as one command may delete; nothing was"
                " changed; delete in pages (`limit`, again while the result says `more`)",
                keys_max=DELETED_KEYS_MAX,
            )
        )

    def _used_up(self, error: RaftkvError) -> RaftkvError:
        if self._fresh:
            return error
        self.exhausted = True
        return _left_too_little()


def _left_too_little() -> Overloaded:
    return Overloaded(
        "the commands before this one in its batch have used up what a batch may look at or"
        " change; nothing was changed by this one; send it again in another batch"
    )


def rows_of(record: bytes) -> int:
    """The number of rows that a scanned record counts for."""
    return 1 + len(record) // BYTES_PER_ROW


def key_value_bytes(key: bytes, record: bytes) -> int:
    """The size of a KeyValue in a reply, about."""
    return KEY_VALUE_OVERHEAD_BYTES + len(key) + len(record) - VERSION_BYTES

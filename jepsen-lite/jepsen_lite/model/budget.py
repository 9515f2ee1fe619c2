"""How much one batch of commands may examine, delete, replace and return (docs/limits.md)."""

from __future__ import annotations

from jepsen_lite.model.bounds import BYTES_PER_ROW, RECORD_BYTES, Bounds
from jepsen_lite.model.keys import Version
from jepsen_lite.model.refusals import Refusal


def record_bytes(row: Version) -> int:
    return RECORD_BYTES + len(row.value)


def rows_of(row: Version | None) -> int:
    """For how many rows a version counts that a range or compare has met."""
    return 1 + (record_bytes(row) // BYTES_PER_ROW if row is not None else 0)


def result_bytes(row: Version, *, keys_only: bool = False) -> int:
    """For how many bytes of a result a key counts."""
    return RECORD_BYTES + len(row.key) + (0 if keys_only else len(row.value))


class Budget:
    """What the commands of one batch have used.

    A command that is over a whole budget fails for good. One for which the earlier commands of its
    batch left too little is safe to retry, and so are all that follow it. A command that fails
    gives back only the bytes of its result. Below cluster version 2 only the result is bounded.
    """

    def __init__(self, bounds: Bounds, *, bounded: bool) -> None:
        self.bounds = bounds
        self.bounded = bounded
        self.rows = 0
        self.deletions = 0
        self.replaced_bytes = 0
        self.result_bytes = 0
        self._exhausted = False
        self._fresh = True
        self._earlier_result_bytes = 0

    def begin_command(self) -> None:
        if self._exhausted:
            raise Refusal("OVERLOADED")
        self._fresh = not (self.rows or self.deletions or self.replaced_bytes)
        self._earlier_result_bytes = self.result_bytes

    def command_failed(self) -> None:
        self.result_bytes = self._earlier_result_bytes

    def refuse(self, reason: str, **facts: int) -> Refusal:
        """The refusal of a command that is over the budget."""
        if self._fresh:
            return Refusal(reason, **facts)
        self._exhausted = True
        return Refusal("OVERLOADED")

    # ---- what is left ----------------------------------------------------------------

    def allows_rows(self, rows: int) -> bool:
        return not self.bounded or self.rows + rows <= self.bounds.rows_per_batch

    def allows_deletions(self, keys: int) -> bool:
        return not self.bounded or self.deletions + keys <= self.bounds.deletions_per_batch

    def allows_replaced(self, size_bytes: int) -> bool:
        bound = self.bounds.replaced_bytes_per_batch
        return not self.bounded or self.replaced_bytes + size_bytes <= bound

    def allows_result(self, size_bytes: int) -> bool:
        return self.result_bytes + size_bytes <= self.bounds.result_bytes_per_batch

    # ---- what is used ----------------------------------------------------------------

    def examine(self, rows: int) -> None:
        """A range, a compare or an operation looks at so many rows. A command that looks at none is
        run even after another one of its batch has failed for too many.
        """
        self.rows += rows
        if rows and not self.allows_rows(0):
            raise self.refuse("TOO_MANY_KEYS", keys_max=self.bounds.rows_per_batch)

    def read_value(self, row: Version | None) -> None:
        """A command on one key has read its version."""
        self.examine(rows_of(row) - 1)

    def replace(self, size_bytes: int) -> None:
        """Versions of so many bytes are replaced or deleted."""
        if not self.allows_replaced(size_bytes):
            raise self.refuse("TOO_LARGE", bytes_max=self.bounds.replaced_bytes_per_batch)
        self.replaced_bytes += size_bytes

    def show(self, row: Version, *, keys_only: bool = False) -> None:
        """The result contains this key."""
        size_bytes = result_bytes(row, keys_only=keys_only)
        if not self.allows_result(size_bytes):
            raise Refusal("TOO_LARGE", bytes_max=self.bounds.result_bytes_per_batch)
        self.result_bytes += size_bytes

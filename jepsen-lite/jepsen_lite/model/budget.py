"""How much one batch of commands may examine, delete and replace (docs/limits.md)."""

from __future__ import annotations

from collections.abc import Iterable

from jepsen_lite.model.bounds import VALUE_BYTES_PER_ROW, Bounds
from jepsen_lite.model.keys import Version
from jepsen_lite.model.refusals import Refusal


class Budget:
    """What is left for the commands of one batch.

    A command that would be over the whole budget fails for good. One for which the earlier commands
    left too little is safe to retry. Below cluster version 2 nothing is bounded.
    """

    def __init__(self, bounds: Bounds, *, bounded: bool) -> None:
        self.bounds = bounds
        self._bounded = bounded
        self._rows = 0
        self._deletions = 0
        self._earlier_rows = 0
        self._earlier_deletions = 0

    def next_command(self) -> None:
        self._earlier_rows, self._earlier_deletions = self._rows, self._deletions

    def examine(self, rows: Iterable[Version]) -> None:
        """A range or compare looks at these."""
        self._rows += sum(1 + len(each.value) // VALUE_BYTES_PER_ROW for each in rows)
        self._check(self._rows, self._earlier_rows, self.bounds.rows_per_batch)

    def examine_one(self, row: Version | None) -> None:
        """An operation or compare names one key, which counts whether it exists or not."""
        self._rows += 1 + (len(row.value) // VALUE_BYTES_PER_ROW if row else 0)
        self._check(self._rows, self._earlier_rows, self.bounds.rows_per_batch)

    def delete(self, rows: list[Version]) -> None:
        """A range deletes these."""
        self._deletions += len(rows)
        self._check(self._deletions, self._earlier_deletions, self.bounds.deletions_per_batch)

    def _check(self, used: int, earlier: int, bound: int) -> None:
        if self._bounded and used > bound:
            if used - earlier > bound:
                raise Refusal("TOO_MANY_KEYS", keys_max=bound)
            raise Refusal("OVERLOADED")

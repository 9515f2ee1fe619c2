"""A list of any length, put into a reply in steps and cut where the reply is full."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from raftkv.kv.pace import Steps

ROWS_PER_STEP: Final = 1_000
ROWS_MAX: Final = 10_000
"""Of one reply, however short they are: it is encoded in one turn of the loop."""
ROW_OVERHEAD_BYTES: Final = 8
"""What an element of a repeated field needs beside its own bytes, at most."""

T = TypeVar("T")


def fill(
    rows: Iterable[T | None],
    add: Callable[[T], object],
    size_of: Callable[[T], int],
    bytes_max: int,
) -> Steps[bool]:
    """Add rows until the reply is full; whether there are others. The first always fits.

    None is a row that was looked at and is not to be added.
    """
    bytes_left, added = bytes_max, 0
    for position, row in enumerate(rows, 1):
        if row is not None:
            bytes_left -= size_of(row) + ROW_OVERHEAD_BYTES
            if added and (bytes_left < 0 or added >= ROWS_MAX):
                return True
            add(row)
            added += 1
        if not position % ROWS_PER_STEP:
            yield
    return False

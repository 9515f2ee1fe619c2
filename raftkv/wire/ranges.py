"""The ends of ranges of keys, on the wire and inside of a node.

On the wire a range without end has the end `NO_END`; inside of a node it has None.
"""

from __future__ import annotations

from typing import Final

NO_END: Final = b"\x00"
"""The range_end of every key from the range's start on."""


def exclusive_end(key: bytes, range_end: bytes) -> bytes | None:
    """The exclusive end of the wire's [key, range_end), None if it has none. Never before `key`."""
    return None if range_end == NO_END else max(key, range_end)


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key past all keys that begin with `prefix`, None if there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else None

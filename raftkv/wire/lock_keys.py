"""The keys of a lock's queue.

An entry of the queue of `name` is a plain key, `name/` and the entry's token in 16 hex digits. The
token is the revision at which the entry joined, so it equals the key's create_revision. Any other
key between the bounds of a queue was written by another client and is no entry.
"""

from __future__ import annotations

from typing import Final

TOKEN_DIGITS: Final = 16


def entry_key(name: bytes, token: int) -> bytes:
    """The key of the entry that joined the queue of `name` at revision `token`."""
    return b"%b/%016x" % (name, token)


def is_entry(name: bytes, key: bytes, create_revision: int) -> bool:
    """Whether the key with this create_revision is an entry of the queue of `name`."""
    return key == entry_key(name, create_revision)


def name_of(key: bytes) -> bytes | None:
    """The name whose queue an entry with this key would belong to; None if no entry has such a
    key."""
    split = len(key) - TOKEN_DIGITS - 1
    return key[:split] if split > 0 and key[split] == ord("/") else None


def queue_bounds(name: bytes) -> tuple[bytes, bytes]:
    """The range [start, end) of keys that holds every entry of the queue of `name`."""
    # A token has less than 64 bits, so the first of its 16 digits is below 8.
    return name + b"/0", name + b"/8"

"""Keys, values and ranges as callers write them, checked and turned into bytes."""

from __future__ import annotations

from raftkv.arguments import to_bytes
from raftkv.client.settings import ClientSettings
from raftkv.errors import InvalidRequest, TooLarge

ALL_KEYS_FROM = b"\x00"
"""As the end of a range: no end, every key from its start on."""


def to_key(key: str | bytes, settings: ClientSettings, field: str = "key") -> bytes:
    """A key. Raises `InvalidRequest` if it is empty, `TooLarge` if it is too long."""
    encoded = key if type(key) is bytes else to_bytes(key, field)
    size = len(encoded)
    if not size:
        raise InvalidRequest(f"{field} is empty; a key has at least one byte", field=field)
    if size > settings.key_bytes_max:
        raise TooLarge(
            f"{field} has {size} bytes, the limit is {settings.key_bytes_max}; shorten it",
            field=field,
            limit=settings.key_bytes_max,
        )
    return encoded


def to_value(value: str | bytes, settings: ClientSettings, field: str = "value") -> bytes:
    """A value. Raises `TooLarge` if it is too long."""
    encoded = value if type(value) is bytes else to_bytes(value, field)
    if len(encoded) > settings.value_bytes_max:
        raise TooLarge(
            f"{field} has {len(encoded)} bytes, the limit is {settings.value_bytes_max};"
            " split it over several keys",
            field=field,
            limit=settings.value_bytes_max,
        )
    return encoded


def prefix_end(prefix: str | bytes) -> bytes:
    """The end of the range that holds exactly the keys that start with `prefix`."""
    encoded = to_bytes(prefix, "prefix").rstrip(b"\xff")
    return encoded[:-1] + bytes([encoded[-1] + 1]) if encoded else ALL_KEYS_FROM


def prefix_range(prefix: str | bytes) -> tuple[bytes, bytes]:
    """Start and end of the keys that start with `prefix`; an empty prefix stands for all keys."""
    return to_bytes(prefix, "prefix") or ALL_KEYS_FROM, prefix_end(prefix)


def range_bounds(
    start: str | bytes | None, end: str | bytes | None, prefix: str | bytes | None
) -> tuple[str | bytes, str | bytes]:
    """Start and end of a range that is given by both of them, or by a prefix."""
    if prefix is not None:
        if start is not None or end is not None:
            raise InvalidRequest(
                "prefix is given with start or end; give one or the other", field="prefix"
            )
        return prefix_range(prefix)
    if start is None or end is None:
        field = "start" if start is None else "end"
        raise InvalidRequest(f"{field} is missing; give start and end, or prefix", field=field)
    return start, end


def deletion_bounds(
    start: str | bytes | None, end: str | bytes | None, prefix: str | bytes | None
) -> tuple[str | bytes, str | bytes]:
    """As `range_bounds`, but an empty prefix is refused: nobody deletes every key by mistake."""
    if prefix is not None:
        require_prefix(prefix)
    return range_bounds(start, end, prefix)


def require_prefix(prefix: str | bytes) -> str | bytes:
    """Raise `InvalidRequest` for the empty prefix: nobody deletes everything by mistake."""
    if not to_bytes(prefix, "prefix"):
        raise InvalidRequest(
            'prefix is empty; to delete every key say delete_range(b"\\0", b"\\0")', field="prefix"
        )
    return prefix

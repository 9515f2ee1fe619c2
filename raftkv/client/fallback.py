"""Reads that rather return something old than nothing. Knows levels and time, not what is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias, TypeVar

from raftkv.arguments import shown
from raftkv.client.levels import Level, ReadLevel
from raftkv.errors import InvalidRequest, Unavailable

Fallback: TypeAlias = Literal["stale"] | None

# Of the caller's time, for the stale read: it needs one node that answers, and no majority.
STALE_SHARE = 0.25

T = TypeVar("T")


async def read_or_fall_back(
    read: Callable[[Level, float], Awaitable[T]],
    level: Level,
    fallback: Fallback,
    timeout_s: float,
) -> tuple[T, bool]:
    """What `read(level, timeout_s)` returns, and whether it had to be read stale.

    With a fallback, `level` has three quarters of the time, and the rest is for the stale read.
    """
    if fallback is None:
        return await read(level, timeout_s), False
    if fallback != "stale":
        raise InvalidRequest(
            f"fallback is {shown(fallback)}; it can only be 'stale'", field="fallback"
        )
    stale_s = timeout_s * STALE_SHARE
    try:
        return await read(level, timeout_s - stale_s), False
    except Unavailable:
        return await read(ReadLevel.STALE, stale_s), True

"""Reads of every version of a key, for workloads whose checkers need the whole history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from jepsen_lite.clients.protocol import CompactedError, KeyValue, KvClient


async def versions_of(client: KvClient, key: str, timeout_s: float) -> list[KeyValue]:
    """Every version of a key that was never deleted, the last one first."""
    versions: list[KeyValue] = []
    revision = 0
    while True:
        found = await client.get(key, revision=revision, timeout_s=timeout_s)
        if found is None:
            return versions
        versions.append(found)
        if found.version == 1:
            return versions
        revision = found.mod_revision - 1


async def as_history(
    versions: Awaitable[Iterable[KeyValue]], effect_of: Callable[[KeyValue], Any]
) -> dict[str, Any]:
    """The result of the operation "history"; see `checkers.outcomes`."""
    try:
        found = await versions
    except CompactedError as error:
        return {"missing": str(error)}
    return {"versions": [[kv.key, kv.version, effect_of(kv), kv.mod_revision] for kv in found]}

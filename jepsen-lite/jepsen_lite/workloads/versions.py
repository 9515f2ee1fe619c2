"""All that a key ever was, as long as nobody compacts its history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from raftkv.client.client import Client
from raftkv.client.model.results import KeyValue
from raftkv.errors import RevisionCompacted


async def versions_of(client: Client, key: str, timeout_s: float) -> list[KeyValue]:
    """Every version of a key that was never deleted, from the last to the first."""
    versions: list[KeyValue] = []
    revision = 0
    while True:
        found = await client.get(key, revision=revision, timeout=timeout_s)
        if found is None:
            return versions
        versions.append(found)
        if found.version == 1:
            return versions
        revision = found.mod_revision - 1


async def as_history(
    versions: Awaitable[Iterable[KeyValue]], effect_of: Callable[[KeyValue], Any]
) -> dict[str, Any]:
    """What the operation "history" is told; see `checkers.outcomes`."""
    try:
        found = await versions
    except RevisionCompacted as error:
        return {"missing": str(error)}
    listed = [[kv.key.decode(), kv.version, effect_of(kv), kv.mod_revision] for kv in found]
    return {"versions": listed}

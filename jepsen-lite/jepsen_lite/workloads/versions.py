"""All that a key ever was, as long as nobody compacts its history."""

from __future__ import annotations

from raftkv.client.client import Client
from raftkv.client.results import KeyValue


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

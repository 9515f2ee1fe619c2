"""Transactions by hand: read several keys as of one moment, write if none has changed since."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import raftkv
from jepsen_lite.workloads.base import NotDone
from raftkv.client.client import Client
from raftkv.client.model.results import KeyValue, RangeResult
from raftkv.errors import RevisionCompacted


class SomebodyWasFaster(NotDone):
    """A key was changed between reading and writing, so nothing was written."""


async def read_together(
    client: Client, keys: Sequence[str], timeout_s: float
) -> dict[str, KeyValue | None]:
    """The keys as they are at one revision."""
    read = await client.txn(success=[raftkv.op.get(key) for key in keys], timeout=timeout_s)
    items: dict[str, KeyValue | None] = {}
    for key, response in zip(keys, read.responses, strict=True):
        assert isinstance(response, RangeResult)
        items[key] = response.kvs[0] if response.kvs else None
    return items


async def write_if_unchanged(
    client: Client,
    items: Mapping[str, KeyValue | None],
    values: Mapping[str, str],
    timeout_s: float,
) -> None:
    """Write all values, or raise `SomebodyWasFaster` if a key is not as it was read."""
    wrote = await client.txn(
        compare=[
            raftkv.when.mod_revision(key) == (item.mod_revision if item else 0)
            for key, item in items.items()
        ],
        success=[raftkv.op.put(key, value) for key, value in values.items()],
        timeout=timeout_s,
    )
    if not wrote.succeeded:
        raise SomebodyWasFaster("another has written in between")


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

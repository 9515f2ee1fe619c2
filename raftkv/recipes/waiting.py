"""Waiting for places of a queue to go. Knows keys and revisions, not what the places are for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from raftkv.client.client import Client
from raftkv.client.coordination.queue import OnWait
from raftkv.client.model.results import KeyValue
from raftkv.errors import OutcomeUnknown, RevisionCompacted, Unavailable
from raftkv.wire.lock_keys import entry_key, is_entry, queue_bounds

T = TypeVar("T")

PAUSE_S: Final = 0.05


def refuse_to_wait() -> None:
    """The `OnWait` of who has no time to wait for others: it is as if the time was up."""
    raise TimeoutError


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again until there is an answer.

    For what may be done twice, by somebody with a place: losing it is what ends the waiting.
    """
    while True:
        try:
            return await ask()
        except (Unavailable, OutcomeUnknown):
            await asyncio.sleep(PAUSE_S)


async def places(
    client: Client, name: bytes, timeout: float | None = None
) -> tuple[tuple[KeyValue, ...], int]:
    """The places of a queue in order, without their values, and the revision of that state."""
    found = await client.range(*queue_bounds(name), keys_only=True, timeout=timeout)
    taken = (kv for kv in found.kvs if is_entry(name, kv.key, kv.create_revision))
    return tuple(taken), found.revision


async def last_place(
    client: Client, name: bytes, before: int, *, timeout: float | None = None
) -> tuple[KeyValue | None, int]:
    """The last place that was taken before the token `before`, and the revision of that state."""
    (start, _), end = queue_bounds(name), entry_key(name, before)
    while True:
        found = await client.range(
            start, end, limit=1, descending=True, keys_only=True, timeout=timeout
        )
        if not found.kvs:
            return None, found.revision
        last = found.kvs[0]
        if is_entry(name, last.key, last.create_revision):
            return last, found.revision
        end = last.key  # another client's plain key, not an entry


async def until_none_before(
    client: Client, name: bytes, token: int, on_wait: OnWait = bool
) -> None:
    """Wait until no place of the queue is older than `token`; `on_wait` is called if one is.

    Nobody joins before it, so it is enough to watch the last of them, and then to look again.
    """
    while True:
        place, revision = await patiently(lambda: last_place(client, name, token))
        if place is None:
            return
        on_wait()
        await until_changed(client, place.key, after=revision, puts=False)


async def until_changed(
    client: Client,
    start: bytes,
    end: bytes | None = None,
    *,
    after: int,
    puts: bool = True,
    deletes: bool = True,
) -> None:
    """Wait for a change of the key or range later than revision `after`, or for the need to look.

    Watched from the revision that was read, so nothing that happens in between is missed.
    """
    watch = client.watch(start, end, from_revision=after + 1, puts=puts, deletes=deletes)
    try:
        await anext(watch, None)
    except RevisionCompacted:
        return  # whatever happened is history: look again
    finally:
        await watch.close()

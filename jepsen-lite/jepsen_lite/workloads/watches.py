"""Watches: everything that changes is told, once, in order, whatever happens to the nodes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

import raftkv
from jepsen_lite.checkers import watch
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session
from raftkv.client.client import Client
from raftkv.client.watch_events import EventKind, WatchEvent
from raftkv.errors import RevisionCompacted

PREFIX = "watch/"
KEYS = 5
WITNESS = "witness"
KINDS = ["put", "delete"]
LONG_ENOUGH_S = 3.0


class Watches:
    """Some workers change keys, the others watch them and go on where they stopped."""

    name = "watch"
    reads = frozenset({"watch"})

    def __init__(self) -> None:
        self._values = itertools.count(1)
        self._next_revision: dict[str, int] = {}  # of each watcher
        self._generations: dict[int, int] = {}  # a watcher that can't resume begins anew

    def next(self, rng: Random, seat: int) -> Invocation:
        if seat % 3 == 0:
            return self._watch(f"watcher-{seat}.{self._generations.get(seat, 0)}")
        first, second = (f"{PREFIX}{number}" for number in rng.sample(range(KEYS), 2))
        choice = rng.random()
        if choice < 0.2:
            return Invocation("delete", first)
        if choice < 0.5:
            value = [first, second, next(self._values)]
            return Invocation("put-both", PREFIX, value)
        return Invocation("put", first, f"v{next(self._values)}")

    def _watch(self, name: str) -> Invocation:
        wanted = {"prefix": PREFIX, "from": self._next_revision.get(name, 1), "kinds": KINDS}
        return Invocation("watch", name, wanted)

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, key, value = session.client, invocation.key, invocation.value
        if invocation.function == "put":
            await client.put(key, value, timeout=timeout_s)
            return value
        if invocation.function == "delete":
            await client.delete(key, timeout=timeout_s)
            return value
        if invocation.function == "put-both":
            both = [raftkv.op.put(each, f"v{value[2]}") for each in value[:2]]
            await client.txn(success=both, timeout=timeout_s)
            return value
        try:
            batches, revision = await _watched(client, value["from"], timeout_s)
        except RevisionCompacted as error:
            seat = session.seat
            self._generations[seat] = self._generations.get(seat, 0) + 1
            anew = f"watcher-{seat}.{self._generations[seat]}"
            self._next_revision[anew] = int(error.facts["compacted_revision"])
            raise
        self._next_revision[key] = revision + 1
        return batches

    def final(self) -> Sequence[Invocation]:
        return [self._watch(name) for name in (*self._next_revision, WITNESS)]

    def check(self, history: History) -> list[Finding]:
        return [watch.check(list(history.operations(self.name)))]


async def _watched(
    client: Client, from_revision: int, seconds: float
) -> tuple[list[dict[str, Any]], int]:
    """What one watch tells until its time is over, and up to where it has told everything."""
    batches: list[dict[str, Any]] = []
    seconds = min(seconds, LONG_ENOUGH_S)
    told = client.watch(prefix=PREFIX, from_revision=from_revision, prev_kv=True)
    try:
        async with asyncio.timeout(seconds):
            async for batch in told.batches():
                for revision, events in itertools.groupby(batch, lambda event: event.revision):
                    batches.append({"revision": revision, "events": list(map(_event, events))})
    except TimeoutError:
        pass  # another watch goes on from here
    finally:
        revision = max(told.revision, from_revision - 1)
        await told.close()
    batches.append({"revision": revision, "events": []})
    return batches, revision


def _event(event: WatchEvent) -> dict[str, Any]:
    put = event.kind is EventKind.PUT
    return {
        "revision": event.revision,
        "kind": "put" if put else "delete",
        "key": event.key.decode(),
        "value": event.value.decode() if put else None,
        "previous": None if event.prev_kv is None else event.prev_kv.value.decode(),
        "created": event.created,
    }

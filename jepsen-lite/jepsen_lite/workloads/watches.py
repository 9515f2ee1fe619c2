"""Watches: everything that changes is told, once, in order, whatever happens to the nodes."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import raftkv
from jepsen_lite.checkers import watch
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session
from raftkv.client.client import Client
from raftkv.client.model.results import EventKind, WatchEvent
from raftkv.errors import DeadlineExceeded, RevisionCompacted

PREFIX = "watch/"
KEYS = 5
WITNESS = "witness"
KINDS = ["put", "delete"]
LONG_ENOUGH_S = 3.0


class WatchWorkload:
    """Some workers change keys, the others watch them and go on where they stopped."""

    name = "watch"
    reads = frozenset({"watch"})

    def __init__(self) -> None:
        self._values = itertools.count(1)
        self._next_revision: dict[str, int] = {}  # of each watcher
        self._last_change = 0  # that was acknowledged

    def next(self, rng: Random, seat: int) -> Invocation:
        if seat % 3 == 0:
            return Invocation("watch", f"watcher-{seat}", self._wanted(f"watcher-{seat}"))
        first, second = (f"{PREFIX}{number}" for number in rng.sample(range(KEYS), 2))
        choice = rng.random()
        if choice < 0.2:
            return Invocation("delete", first)
        if choice < 0.5:
            value = [first, second, next(self._values)]
            return Invocation("put-both", PREFIX, value)
        return Invocation("put", first, f"v{next(self._values)}")

    def _wanted(self, name: str) -> dict[str, Any]:
        return {"prefix": PREFIX, "from": self._next_revision.get(name, 1), "kinds": KINDS}

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, key, value = session.client, invocation.key, invocation.value
        if invocation.function == "put":
            put = await client.put(key, value, timeout=timeout_s)
            return self._noted(put.revision, {key: value})
        if invocation.function == "delete":
            done = await client.delete(key, timeout=timeout_s)
            return self._noted(done.revision, {key: None} if done.deleted else {})
        if invocation.function == "put-both":
            changes = dict.fromkeys(value[:2], f"v{value[2]}")
            both = [raftkv.op.put(each, new) for each, new in changes.items()]
            txn = await client.txn(success=both, timeout=timeout_s)
            return self._noted(txn.revision, changes)
        until = value.get("until", math.inf)
        batches = await _watched(client, value["from"], until, timeout_s)
        if batches:
            self._next_revision[key] = batches[-1]["revision"] + 1
        return batches

    def _noted(self, revision: int, changes: Mapping[str, str | None]) -> dict[str, Any]:
        if changes:
            self._last_change = max(self._last_change, revision)
        return {"revision": revision, "changes": changes}

    def final(self) -> Sequence[Invocation]:
        return [
            Invocation("watch", name, {**self._wanted(name), "until": self._last_change})
            for name in (*self._next_revision, WITNESS)
        ]

    def check(self, history: History) -> list[Finding]:
        return [watch.check(list(history.operations(self.name)))]


async def _watched(
    client: Client, from_revision: int, until: float, timeout_s: float
) -> list[dict[str, Any]]:
    """What a watcher is told, until that is all up to `until`; without end: for some time.

    Where history is compacted it goes on at the oldest revision left. Raises `DeadlineExceeded` if
    it does not come to `until` in time.
    """
    endless = until == math.inf
    seconds = min(timeout_s, LONG_ENOUGH_S) if endless else timeout_s
    batches: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(seconds):
            while from_revision <= until:
                from_revision = await _listen(client, from_revision, until, batches)
    except TimeoutError:
        if not endless:
            reached = batches[-1]["revision"]
            raise DeadlineExceeded(
                f"within {seconds} s a watch told of all up to {reached}, and not up to {until}"
            ) from None
        # Another watch goes on from here.
    return batches


async def _listen(
    client: Client, from_revision: int, until: float, batches: list[dict[str, Any]]
) -> int:
    """Add what one watch tells to `batches`, a bookmark last; from where to go on."""
    told = client.watch(prefix=PREFIX, from_revision=from_revision, prev_kv=True)
    oldest_left = 0  # where history was compacted
    try:
        async for batch in told.batches():
            for revision, events in itertools.groupby(batch, lambda event: event.revision):
                batches.append({"revision": revision, "events": list(map(_event, events))})
            if told.revision >= until:
                break
    except RevisionCompacted as error:
        oldest_left = int(error.facts["compacted_revision"])
        if oldest_left <= told.revision + 1:
            raise
    finally:
        batches.append({"revision": told.revision, "events": []})
        await told.close()
    if oldest_left:
        batches.append({"revision": oldest_left - 1, "events": [], "compacted": True})
    return int(batches[-1]["revision"]) + 1


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

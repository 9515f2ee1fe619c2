"""Watches: every change is delivered once and in order, under all faults."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import watch
from jepsen_lite.clients.protocol import (
    DEADLINE_EXCEEDED,
    Change,
    CompactedError,
    KvClient,
    OperationError,
    Watch,
)
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

PREFIX = "watch/"
KEYS = 5
WITNESS = "witness"
KINDS = ["put", "delete"]
LONG_ENOUGH_S = 3.0


class WatchWorkload:
    """Some workers change keys, the others watch them and resume where they stopped."""

    name = "watch"
    reads = frozenset({"watch"})
    prefix = PREFIX

    def __init__(self) -> None:
        self._values = itertools.count(1)
        self._next_revision: dict[str, int] = {}  # of each watcher
        self._last_change = 0  # that was acknowledged

    def next(self, rng: Random, worker: int) -> Invocation:
        if worker % 3 == 0:
            return Invocation("watch", f"watcher-{worker}", self._wanted(f"watcher-{worker}"))
        first, second = (f"{PREFIX}{number}" for number in rng.sample(range(KEYS), 2))
        choice = rng.random()
        if choice < 0.2:
            return Invocation("delete", first)
        if choice < 0.5:
            value = [first, second, next(self._values)]
            return Invocation("put-both", PREFIX, value)
        return Invocation("put", first, f"v{next(self._values)}")

    def _wanted(self, name: str) -> dict[str, Any]:
        return {"prefix": self.prefix, "from": self._next_revision.get(name, 1), "kinds": KINDS}

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        key, value = invocation.key, invocation.value
        if invocation.function != "watch":
            return await self._change(session, invocation, timeout_s)
        until = value.get("until", math.inf)
        batches = await _watched(session.client, value, until, timeout_s)
        if batches:
            self._next_revision[key] = batches[-1]["revision"] + 1
        return batches

    async def _change(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, key, value = session.client, invocation.key, invocation.value
        if invocation.function == "put":
            revision = await client.put(key, value, timeout_s=timeout_s)
            return self._noted(revision, {key: value})
        if invocation.function == "delete":
            revision, deleted = await client.delete(key, timeout_s=timeout_s)
            return self._noted(revision, {key: None} if deleted else {})
        changes = dict.fromkeys(value[:2], f"v{value[2]}")
        revision = await client.write_many(changes, timeout_s=timeout_s)
        return self._noted(revision, changes)

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
    client: KvClient, wanted: Mapping[str, Any], until: float, timeout_s: float
) -> list[dict[str, Any]]:
    """The batches of a watcher up to `until`; without end: for some time.

    Where history is compacted it goes on at the oldest revision left. Raises with reason
    `DEADLINE_EXCEEDED` if it does not reach `until` in time.
    """
    endless = until == math.inf
    seconds = min(timeout_s, LONG_ENOUGH_S) if endless else timeout_s
    batches: list[dict[str, Any]] = []
    from_revision: int = wanted["from"]
    try:
        async with asyncio.timeout(seconds):
            while from_revision <= until:
                watching = client.watch(
                    wanted["prefix"],
                    from_revision,
                    kinds=wanted["kinds"],
                    progress=wanted.get("progress", False),
                )
                from_revision = await _listen(watching, until, batches)
    except TimeoutError:
        if not endless:
            reached = batches[-1]["revision"]
            text = f"within {seconds} s a watch delivered revisions up to {reached}, not {until}"
            raise OperationError(text, reason=DEADLINE_EXCEEDED) from None
        # Another watch goes on from here.
    return batches


async def _listen(watching: Watch, until: float, batches: list[dict[str, Any]]) -> int:
    """Add the batches of one watch to `batches`, a bookmark last; from where to go on."""
    oldest_left = 0  # where history was compacted
    try:
        async for batch in watching.batches():
            for revision, events in itertools.groupby(batch, lambda event: event.revision):
                batches.append({"revision": revision, "events": list(map(_event, events))})
            if not batch:
                batches.append({"revision": watching.revision, "events": []})
            if watching.revision >= until:
                break
    except CompactedError as error:
        oldest_left = error.oldest_revision
        if oldest_left <= watching.revision + 1:
            raise
    finally:
        batches.append({"revision": watching.revision, "events": []})
        await watching.close()
    if oldest_left:
        batches.append({"revision": oldest_left - 1, "events": [], "compacted": True})
    return int(batches[-1]["revision"]) + 1


def _event(change: Change) -> dict[str, Any]:
    return {
        "revision": change.revision,
        "kind": "delete" if change.value is None else "put",
        "key": change.key,
        "value": change.value,
        "previous": change.previous,
        "created": change.created,
    }

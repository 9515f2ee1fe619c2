"""A growing set: every acknowledged element is in every later read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import outcomes, sets
from jepsen_lite.clients.protocol import KeyValue
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session, as_history

PREFIX = "set/"


class SetWorkload:
    """Each element is a key of its own, so one read of all of them is the whole history."""

    name = "set"
    reads = frozenset({"read", outcomes.HISTORY})

    def __init__(self) -> None:
        self._elements = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        if rng.random() < 0.1:
            return Invocation("read", PREFIX)
        return Invocation("add", PREFIX, next(self._elements))

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        if invocation.function == "add":
            return await client.put(f"{PREFIX}{invocation.value:06}", timeout_s=timeout_s)
        if invocation.function == outcomes.HISTORY:
            return await as_history(self._found(session, timeout_s), _element)
        return [_element(kv) for kv in await self._found(session, timeout_s)]

    async def _found(self, session: Session, timeout_s: float) -> Sequence[KeyValue]:
        found = await session.client.read_prefix(PREFIX, keys_only=True, timeout_s=timeout_s)
        return found.kvs

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", PREFIX)]

    def histories(self) -> Sequence[Invocation]:
        return [Invocation(outcomes.HISTORY, PREFIX)]

    def check(self, history: History) -> list[Finding]:
        known, settled = outcomes.settled(list(history.operations(self.name)), sets.EFFECTS)
        return [sets.check(known), settled]


def _element(kv: KeyValue) -> int:
    return int(kv.key.removeprefix(PREFIX))

"""A growing set: what was added and acknowledged is in every later read, and nothing else is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import sets
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

PREFIX = "set/"


class GrowingSet:
    """Each element is a key of its own."""

    name = "set"
    reads = frozenset({"read"})

    def __init__(self) -> None:
        self._elements = itertools.count(1)

    def next(self, rng: Random, seat: int) -> Invocation:
        if rng.random() < 0.1:
            return Invocation("read", PREFIX)
        return Invocation("add", PREFIX, next(self._elements))

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        if invocation.function == "add":
            await client.put(f"{PREFIX}{invocation.value:06}", timeout=timeout_s)
            return invocation.value
        found = await client.range_prefix(PREFIX, keys_only=True, timeout=timeout_s)
        return [int(kv.key.decode().removeprefix(PREFIX)) for kv in found.kvs]

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", PREFIX)]

    def check(self, history: History) -> list[Finding]:
        return [sets.check(list(history.operations(self.name)))]

"""A counter whose increments must each take effect exactly once, however often they are retried.

The store counts the puts of a key in its `version`; what each put left behind is found in the
key's history.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import counter
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session
from raftkv.client.client import Client

KEY = "counter"


class Counter:
    """Increments are puts of unique values to one key."""

    name = "counter"
    reads = frozenset({"read", "trace"})

    def __init__(self) -> None:
        self._values = itertools.count(1)

    def next(self, rng: Random, seat: int) -> Invocation:
        if rng.random() < 0.2:
            return Invocation("read", KEY)
        return Invocation("increment", KEY, f"i{next(self._values)}")

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        if invocation.function == "increment":
            result = await client.put(KEY, invocation.value, timeout=timeout_s)
            return [invocation.value, result.revision]
        if invocation.function == "read":
            found = await client.get(KEY, timeout=timeout_s)
            return 0 if found is None else found.version
        return await self._trace(client, timeout_s)

    async def _trace(self, client: Client, timeout_s: float) -> list[list[Any]]:
        """Every version that the key ever had, from the last to the first."""
        trace: list[list[Any]] = []
        revision = 0
        while True:
            found = await client.get(KEY, revision=revision, timeout=timeout_s)
            if found is None:
                return trace
            trace.append([found.version, found.value.decode(), found.mod_revision])
            if found.version == 1:
                return trace
            revision = found.mod_revision - 1

    def final(self) -> Sequence[Invocation]:
        return [Invocation("trace", KEY)]

    def check(self, history: History) -> list[Finding]:
        return [counter.check(list(history.operations(self.name)))]

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
from jepsen_lite.clients.protocol import CompactedError
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session, each_version

KEY = "counter"


class CounterWorkload:
    """Increments are puts of unique values to one key."""

    name = "counter"
    reads = frozenset({"read", "trace"})

    def __init__(self) -> None:
        self._values = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        if rng.random() < 0.2:
            return Invocation("read", KEY)
        return Invocation("increment", KEY, f"i{next(self._values)}")

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        if invocation.function == "increment":
            revision = await client.put(KEY, invocation.value, timeout_s=timeout_s)
            return [invocation.value, revision]
        if invocation.function == "read":
            found = await client.get(KEY, timeout_s=timeout_s)
            return 0 if found is None else found.version
        trace: list[list[Any]] = []
        try:
            async for kv in each_version(client, KEY, timeout_s):
                trace.append([kv.version, kv.value, kv.mod_revision])
        except CompactedError:
            return {"left": trace}
        return trace

    def final(self) -> Sequence[Invocation]:
        return [Invocation("trace", KEY)]

    def check(self, history: History) -> list[Finding]:
        return [counter.check(list(history.operations(self.name)))]

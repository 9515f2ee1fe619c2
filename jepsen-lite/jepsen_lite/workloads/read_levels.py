"""Reads that may be old: those of a session, those with a bound, and those without."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import session as session_checker
from jepsen_lite.checkers import staleness
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

KEYS = 3
BOUNDS_S = (0.2, 1.0)
DRIFT = 0.05
"""The age of an answer is measured by the clock of the node that answers."""


class SessionWorkload:
    """A client that reads at session level sees what it has written and seen."""

    name = "session"
    reads = frozenset({"read"})

    def __init__(self) -> None:
        self._values = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        key = f"session/{rng.randrange(KEYS)}"
        if rng.random() < 0.7:
            return Invocation("read", key)
        return Invocation("write", key, f"v{next(self._values)}")

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, key = session.client, invocation.key
        if invocation.function == "write":
            return await client.put(key, invocation.value, timeout_s=timeout_s)
        found = await client.read_prefix(key, session=True, timeout_s=timeout_s)
        return [found.kvs[0].value if found.kvs else None, found.revision]

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", f"session/{number}") for number in range(KEYS)]

    def check(self, history: History) -> list[Finding]:
        return [session_checker.check(list(history.operations(self.name)))]


class StalenessWorkload:
    """A read with a bound is no older than that; one without shows something that was once."""

    name = "staleness"
    reads = frozenset({"read"})

    def __init__(self) -> None:
        self._values = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        key = f"staleness/{rng.randrange(KEYS)}"
        if rng.random() < 0.3:
            return Invocation("write", key, f"v{next(self._values)}")
        bound_s = rng.choice((None, *BOUNDS_S))
        return Invocation("read", key, None if bound_s is None else round(bound_s * 1e9))

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, key, value = session.client, invocation.key, invocation.value
        if invocation.function == "write":
            return await client.put(key, value, timeout_s=timeout_s)
        staleness_s_max = math.inf if value is None else value / 1e9
        found = await client.get(key, staleness_s_max=staleness_s_max, timeout_s=timeout_s)
        return [None, 0] if found is None else [found.value, found.mod_revision]

    def final(self) -> Sequence[Invocation]:
        return []

    def check(self, history: History) -> list[Finding]:
        return [staleness.check(list(history.operations(self.name)), DRIFT)]

"""Registers: read, write and compare-and-swap on a few keys; they must be linearizable."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import outcomes
from jepsen_lite.checkers.linearizable import register
from jepsen_lite.checkers.linearizable.processes import MapKeys
from jepsen_lite.clients.protocol import KeyValue
from jepsen_lite.generators import PerKey
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session, as_history, versions_of


class RegisterWorkload:
    """Every value is written once, so that a value says which write a read saw.

    Its version is the revision of its write; `versioned` has them judged as well.
    """

    name = "register"
    reads = frozenset({"read", outcomes.HISTORY})

    def __init__(self, keys: int = 4, uses: int | None = None, *, versioned: bool = False) -> None:
        self._versioned = versioned
        self._keys = PerKey("register/", keys, uses)
        self._values = itertools.count(1)
        self._last: dict[str, str | None] = {}

    def next(self, rng: Random, worker: int) -> Invocation:
        key = self._keys.draw(rng)
        choice = rng.random()
        if choice < 0.4:
            return Invocation("read", key)
        value = f"v{next(self._values)}"
        if choice < 0.75:
            return Invocation("write", key, value)
        return Invocation("cas", key, [self._last.get(key), value])

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, key, value = session.client, invocation.key, invocation.value
        if invocation.function == "read":
            found = await client.get(key, timeout_s=timeout_s)
            return [self._noted(key, found), 0 if found is None else found.mod_revision]
        if invocation.function == outcomes.HISTORY:
            versions = versions_of(client, key, timeout_s)
            return await as_history(versions, lambda kv: kv.value)
        if invocation.function == "write":
            revision = await client.put(key, value, timeout_s=timeout_s)
            self._last[key] = value
            return revision
        expected, new = value
        result = await client.compare_and_swap(key, expected, new, timeout_s=timeout_s)
        current = result.current
        revision = 0 if current is None else current.mod_revision
        return [result.swapped, self._noted(key, current), revision]

    def _noted(self, key: str, found: KeyValue | None) -> str | None:
        """A guess for the next swap, so that some of them succeed."""
        value = self._last[key] = None if found is None else found.value
        return value

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", key) for key in self._keys.used()]

    def histories(self) -> Sequence[Invocation]:
        return [Invocation(outcomes.HISTORY, key) for key in self._keys.used()]

    def check(self, history: History) -> list[Finding]:
        return self.check_keys(history, map)

    def check_keys(self, history: History, map_keys: MapKeys) -> list[Finding]:
        operations = list(history.operations(self.name))
        known, settled = outcomes.settled(operations, register.EFFECTS)
        return [register.check(known, self._versioned, map_keys=map_keys), settled]

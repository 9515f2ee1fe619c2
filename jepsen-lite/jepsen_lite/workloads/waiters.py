"""Writes under the tokens of those that only wait for a lock, or once held it: none is accepted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import fence_holders, fencing, lock
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session
from jepsen_lite.workloads.locks import LockWorkload

LOCK = "waiters/lock"
RESOURCE = "waiters/resource"
KEPT_S = 0.2
WRITES = 0.2
KEEPS = 0.6
"""Up to which draws a holder writes, or keeps the lock for another while, so that others wait."""


class WaiterWorkload(LockWorkload):
    """Workers queue for one lock, and write under any token of its queue."""

    name = "waiter-fence"
    names = (LOCK,)

    def __init__(self) -> None:
        super().__init__()
        self._elements = itertools.count(1)
        self._tokens: list[int] = []
        """The tokens of the last holders."""

    def next(self, rng: Random, worker: int) -> Invocation:
        draw = rng.random()
        held = self._held.get(worker)
        if held is not None and draw < WRITES and held.remaining_s():
            return Invocation("write", RESOURCE, [held.token, next(self._elements)])
        if held is not None and draw < KEEPS:
            return Invocation("keep", LOCK)
        if worker not in self._held and draw < 0.4:
            return Invocation("look", LOCK)
        if worker not in self._held and draw < 0.7 and self._tokens:
            return Invocation("write", RESOURCE, [rng.choice(self._tokens), next(self._elements)])
        return super().next(rng, worker)

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, value = session.client, invocation.value
        if invocation.function == "keep":
            await asyncio.sleep(KEPT_S)
            return value
        if invocation.function == "look":
            waiting = await client.locks.waiters(LOCK, timeout_s=timeout_s)
            self._tokens = [*self._tokens, *waiting][-4:]
            return waiting
        if invocation.function == "write":
            token, element = value
            await client.put(
                RESOURCE, f"{token} {element}", fence=(LOCK, token), timeout_s=timeout_s
            )
            return value
        returned = await super().run(session, invocation, timeout_s)
        if invocation.function == "acquire":
            self._tokens = [*self._tokens, returned["token"]][-4:]
        return returned

    def final(self) -> Sequence[Invocation]:
        return []

    def check(self, history: History) -> list[Finding]:
        operations = list(history.operations(self.name))
        return [lock.check(operations), fencing.check(operations), fence_holders.check(operations)]

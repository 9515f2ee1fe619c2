"""Locks: one holder at a time, with increasing fencing tokens, and a resource that checks them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import fencing, lock
from jepsen_lite.clients.protocol import KvClient, Lock, NotDone
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session, versions_of

LOCKS = ("lock/a", "lock/b")
# Short, so that paused or isolated holders lose their locks within a run.
TTL_S = 2.0
# A worker that waits does nothing else meanwhile.
WAIT_S = 0.5
RESOURCE = "fenced/resource"
FENCED_LOCK = "fenced/lock"


class LockWorkload:
    """Workers acquire a lock, hold it and release it; a holder records a loss at once."""

    name = "lock"
    reads: frozenset[str] = frozenset()
    names: tuple[str, ...] = LOCKS

    def __init__(self) -> None:
        self._held: dict[int, Lock] = {}  # by worker
        self._locks: dict[tuple[KvClient, int, str], Lock] = {}
        # A lock outlives the process that used it first: a loss belongs to the last one.
        self._record_facts: dict[int, Callable[[Invocation], None]] = {}

    def next(self, rng: Random, worker: int) -> Invocation:
        return self.release(worker) or Invocation("acquire", rng.choice(self.names))

    def release(self, worker: int) -> Invocation | None:
        held = self._held.get(worker)
        return None if held is None else Invocation("release", held.name)

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        if invocation.function == "release":
            return await self._release(session)
        taken = self._lock(session, invocation.key)
        await taken.acquire(min(timeout_s, WAIT_S))
        self._held[session.worker], self._record_facts[session.worker] = taken, session.record_fact
        return {"token": taken.token}

    def _lock(self, session: Session, name: str) -> Lock:
        """The worker's own: a lock that was lost is taken again as the same one."""
        slot = (session.client, session.worker, name)
        if slot not in self._locks:
            found = self._locks[slot] = session.client.locks.lock(name, self.ttl_s(name))

            def lost() -> None:
                if self._held.get(session.worker) is found:
                    del self._held[session.worker]
                    self._record_facts[session.worker](Invocation("lost", name))

            found.on_lost(lost)
        return self._locks[slot]

    def ttl_s(self, name: str) -> float:
        """The TTL of the holder's lease; locks of a client with equal TTLs share a lease."""
        return TTL_S

    async def _release(self, session: Session) -> bool:
        held = self._held.pop(session.worker, None)
        if held is None:
            raise NotDone("it was lost in the meantime")
        return await held.release()

    def final(self) -> Sequence[Invocation]:
        return [Invocation("acquire", name) for name in self.names]

    def check(self, history: History) -> list[Finding]:
        return [lock.check(list(history.operations(self.name)))]


class FencedLockWorkload(LockWorkload):
    """Holders, and former holders, write under their fencing tokens."""

    name = "fenced-lock"
    reads = frozenset({"read"})
    names = (FENCED_LOCK,)

    def __init__(self) -> None:
        super().__init__()
        self._elements = itertools.count(1)
        self._tokens: dict[int, int] = {}  # the last one of each worker, held or not

    def next(self, rng: Random, worker: int) -> Invocation:
        choice = rng.random()
        if choice < 0.1:
            return Invocation("read", RESOURCE)
        if choice < (0.7 if worker in self._held else 0.2) and worker in self._tokens:
            return Invocation("write", RESOURCE, [self._tokens[worker], next(self._elements)])
        return super().next(rng, worker)

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        value = invocation.value
        if invocation.function == "read":
            found = await versions_of(session.client, RESOURCE, timeout_s)
            return [[int(part) for part in kv.value.split()] for kv in reversed(found)]
        if invocation.function == "write":
            token, element = value
            await session.client.put(
                RESOURCE, f"{token} {element}", fence=(FENCED_LOCK, token), timeout_s=timeout_s
            )
            return value
        returned = await super().run(session, invocation, timeout_s)
        if invocation.function == "acquire":
            self._tokens[session.worker] = returned["token"]
        return returned

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", RESOURCE)]

    def check(self, history: History) -> list[Finding]:
        operations = list(history.operations(self.name))
        return [lock.check(operations), fencing.check(operations)]

"""Locks: one holder at a time, under ever greater tokens; and a resource that checks the tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import fencing, lock
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, NotDone, Session
from jepsen_lite.workloads.reads import versions_of
from raftkv.client.client import Client
from raftkv.client.coordination.lock import Lock

LOCKS = ("lock/a", "lock/b")
# Short, so that holders that are paused or cut off lose their locks within a run.
TTL_S = 2.0
# Who waits does nothing else meanwhile.
WAIT_S = 0.5
RESOURCE = "fenced/resource"
FENCED_LOCK = "fenced/lock"


class LockWorkload:
    """Workers take a lock, keep it for a while and give it back; who loses it says so at once."""

    name = "lock"
    reads: frozenset[str] = frozenset()
    names: tuple[str, ...] = LOCKS

    def __init__(self) -> None:
        self._held: dict[int, Lock] = {}  # by seat
        self._locks: dict[tuple[Client, int, str], Lock] = {}
        # A lock outlives the process that used it first: what is lost is lost by the last one.
        self._tells: dict[int, Callable[[Invocation], None]] = {}

    def next(self, rng: Random, seat: int) -> Invocation:
        return self.give_back(seat) or Invocation("acquire", rng.choice(self.names))

    def give_back(self, seat: int) -> Invocation | None:
        held = self._held.get(seat)
        return None if held is None else Invocation("release", held.name.decode())

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        if invocation.function == "release":
            return await self._release(session)
        taken = self._lock(session, invocation.key)
        await taken.acquire(timeout=min(timeout_s, WAIT_S))
        self._held[session.seat], self._tells[session.seat] = taken, session.tell
        return {"token": taken.token}

    def _lock(self, session: Session, name: str) -> Lock:
        """The seat's own: a lock that was lost is taken again as the same one."""
        place = (session.client, session.seat, name)
        if place not in self._locks:
            found = self._locks[place] = session.client.lock(name, ttl=self.ttl_s(name))

            def lost() -> None:
                if self._held.get(session.seat) is found:
                    del self._held[session.seat]
                    self._tells[session.seat](Invocation("lost", name))

            found.on_lost(lost)
        return self._locks[place]

    def ttl_s(self, name: str) -> float:
        """Of the lease that its holder stands on; locks of a client with one TTL share a lease."""
        return TTL_S

    async def _release(self, session: Session) -> bool:
        held = self._held.pop(session.seat, None)
        if held is None:
            raise NotDone("it was lost in the meantime")
        return await held.release()

    def final(self) -> Sequence[Invocation]:
        return [Invocation("acquire", name) for name in self.names]

    def check(self, history: History) -> list[Finding]:
        return [lock.check(list(history.operations(self.name)))]


class FencedLockWorkload(LockWorkload):
    """Holders, and some who have been holders, write under their tokens."""

    name = "fenced-lock"
    reads = frozenset({"read"})
    names = (FENCED_LOCK,)

    def __init__(self) -> None:
        super().__init__()
        self._elements = itertools.count(1)
        self._tokens: dict[int, int] = {}  # the last one of each seat, held or not

    def next(self, rng: Random, seat: int) -> Invocation:
        choice = rng.random()
        if choice < 0.1:
            return Invocation("read", RESOURCE)
        if choice < (0.7 if seat in self._held else 0.2) and seat in self._tokens:
            return Invocation("write", RESOURCE, [self._tokens[seat], next(self._elements)])
        return super().next(rng, seat)

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        value = invocation.value
        if invocation.function == "read":
            found = await versions_of(session.client, RESOURCE, timeout_s)
            return [[int(part) for part in kv.value.split()] for kv in reversed(found)]
        if invocation.function == "write":
            token, element = value
            await session.client.put(
                RESOURCE, f"{token} {element}", fence=(FENCED_LOCK, token), timeout=timeout_s
            )
            return value
        told = await super().run(session, invocation, timeout_s)
        if invocation.function == "acquire":
            self._tokens[session.seat] = told["token"]
        return told

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", RESOURCE)]

    def check(self, history: History) -> list[Finding]:
        operations = list(history.operations(self.name))
        return [lock.check(operations), fencing.check(operations)]

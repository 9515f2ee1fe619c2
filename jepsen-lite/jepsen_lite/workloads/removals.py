"""Locks and elections whose holders' keys and leases an operator removes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

from jepsen_lite.clients.protocol import KvClient, NotDone
from jepsen_lite.workloads.base import Invocation, Session
from jepsen_lite.workloads.elections import OBSERVERS, ElectionWorkload
from jepsen_lite.workloads.locks import TTL_S, LockWorkload

KEPT_S = 0.5
KEEPS = 0.8
"""The probability that a holder keeps its hold. A short hold is released before its loss shows."""
REMOVES = 0.5
"""The probability that a worker without a hold removes the holder's, if there is a holder."""
KEY, LEASE = "key", "lease"


class RemovedLockWorkload(LockWorkload):
    """Locks are held for seconds, and operators remove the holders' keys and leases."""

    name = "removed-lock"
    acquires, releases = "acquire", "release"
    names = ("removed/a", "removed/b")

    def next(self, rng: Random, worker: int) -> Invocation:
        if worker in self._held and rng.random() < KEEPS:
            return Invocation("keep", self._held[worker].name)
        return _removal(rng, list(self._holders(worker))) or super().next(rng, worker)

    def ttl_s(self, name: str) -> float:
        """A lease of its own for each name, so that one removal is one holder's loss."""
        return TTL_S + 0.1 * (1 + self.names.index(name))

    def _holders(self, worker: int) -> Iterator[tuple[str, int]]:
        """The holders that this worker may remove: none if it holds a lock itself."""
        if worker not in self._held:
            for lock in self._held.values():
                if lock.remaining_s():
                    yield lock.name, lock.token

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        if invocation.function in ("keep", "remove"):
            return await _kept_or_removed(session, invocation, timeout_s)
        return await super().run(session, invocation, timeout_s)


class RemovedLeaderWorkload(ElectionWorkload):
    """Leaders lead for seconds, and operators remove their keys and leases."""

    name = "removed-leader"
    election = "removed/leader"
    ttl_s = TTL_S + 0.9
    """Unlike that of any lock: a revoked lease ends the leadership only."""
    acquires, releases = "campaign", "resign"

    def next(self, rng: Random, worker: int) -> Invocation:
        if worker in self._leaderships and rng.random() < KEEPS:
            return Invocation("keep", self.election)
        leaders = [
            (self.election, led.token) for led in self._leaderships.values() if led.remaining_s()
        ]
        may_remove = worker not in OBSERVERS and worker not in self._leaderships
        return _removal(rng, leaders if may_remove else []) or super().next(rng, worker)

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        if invocation.function in ("keep", "remove"):
            return await _kept_or_removed(session, invocation, timeout_s)
        return await super().run(session, invocation, timeout_s)


def _removal(rng: Random, holders: list[tuple[str, int]]) -> Invocation | None:
    if not holders or rng.random() >= REMOVES:
        return None
    name, token = rng.choice(holders)
    return Invocation("remove", name, [token, rng.choice((KEY, LEASE))])


async def _kept_or_removed(session: Session, invocation: Invocation, timeout_s: float) -> Any:
    if invocation.function == "keep":
        await asyncio.sleep(KEPT_S)
    else:
        token, what = invocation.value
        await _remove(session.client, invocation.key, token, what, timeout_s)
    return invocation.value


async def _remove(client: KvClient, name: str, token: int, what: str, timeout_s: float) -> None:
    """Fenced by the holder's own token, so that a late removal can't hit another holder."""
    fence = (name, token)
    if what == KEY:
        await client.delete(f"{name}/{token:016x}", fence=fence, timeout_s=timeout_s)
        return
    holder = await client.locks.holder(name, timeout_s=timeout_s)
    if holder is None or holder[0] != token:
        raise NotDone("it was released in the meantime")
    await client.leases.revoke(holder[1], fence=fence, timeout_s=timeout_s)

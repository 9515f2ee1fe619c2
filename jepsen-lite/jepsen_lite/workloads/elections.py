"""Elections: one leader per token, and observers miss none of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import election, lock
from jepsen_lite.clients.protocol import LockHold, NotDone
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

TTL_S = 2.0
# A worker that waits or observes does nothing else meanwhile.
WAIT_S, LOOK_S = 0.5, 2.0
OBSERVERS = (0, 1)
"""Workers that observe; the others are candidates."""


class ElectionWorkload:
    """Candidates lead for a while and resign; a leader records a loss at once."""

    name = "election"
    election = "election"
    """The name of the election in the store."""
    ttl_s = TTL_S
    """The TTL of the leader's lease; names of a client with equal TTLs share a lease."""
    reads = frozenset({"observe"})

    def __init__(self) -> None:
        self._leaderships: dict[int, LockHold] = {}  # by worker
        self._candidates = itertools.count(1)

    def next(self, rng: Random, worker: int) -> Invocation:
        if worker in OBSERVERS:
            return Invocation("observe", self.election)
        return self.release(worker) or Invocation(
            "campaign", self.election, f"candidate-{next(self._candidates)}"
        )

    def release(self, worker: int) -> Invocation | None:
        return Invocation("resign", self.election) if worker in self._leaderships else None

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        if invocation.function == "observe":
            return await _observed(session, self.election, min(timeout_s, LOOK_S))
        if invocation.function == "resign":
            led = self._leaderships.pop(session.worker, None)
            if led is None:
                raise NotDone("leadership was lost in the meantime")
            return await led.release()
        worker = session.worker
        contest = session.client.locks.election(self.election, self.ttl_s)
        leadership = await contest.campaign(invocation.value, min(timeout_s, WAIT_S))

        def lost() -> None:
            if self._leaderships.get(worker) is leadership:
                del self._leaderships[worker]
                session.record_fact(Invocation("lost", self.election))

        self._leaderships[worker] = leadership
        token = leadership.token
        leadership.on_lost(lost)
        return {"token": token}

    def final(self) -> Sequence[Invocation]:
        return [Invocation("observe", self.election)]

    def check(self, history: History) -> list[Finding]:
        operations = list(history.operations(self.name))
        one_at_a_time = lock.check(operations, acquire="campaign", release="resign")
        return [election.check(operations), one_at_a_time]


async def _observed(session: Session, election: str, seconds: float) -> list[list[Any]]:
    """The leaders that one observer sees until its time is over."""
    seen: list[list[Any]] = []
    observing = session.client.locks.election(election, TTL_S).observe()
    try:
        async with asyncio.timeout(seconds):
            async for leader in observing:
                token, value = (leader.token, leader.value) if leader else (None, None)
                seen.append([token, value])
    except TimeoutError:
        pass  # the observation is over
    finally:
        await observing.aclose()
    if not seen:
        raise NotDone("no leader was observed in time")
    return seen

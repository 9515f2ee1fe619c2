"""Leases: none ends before its time to live is over, and none outlives it in cluster time."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import lease
from jepsen_lite.checkers.lease import ClusterTime
from jepsen_lite.history import History, answered
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

TTLS_S = (1.0, 3.0, 10.0)
DRIFT = 0.1
# No election is sooner: raftkv's shortest election timeout, 0.5 s, by a clock that is fast.
ELECTION_NS = 450_000_000
# Leadership that is given away, or won by the vote of a node that has just started, changes hands
# sooner, and less than that is lost of the cluster's clock unseen: two of these are allowed for in
# a lease's life, and the rounding of stamps to milliseconds.
LATE_NS = 2 * ELECTION_NS + 100_000_000
# What any workload calls an operation that is an entry of the log whenever it is acknowledged.
WRITES = ("write", "cas", "add", "increment", "grant", "renew", "revoke")
LEASES_PER_WORKER = 2
# In its life a lease is to be used so often at least, or no revocation would come before its end.
USES_MIN = 3


class Paces:
    """How much time passes from one operation of a worker on its leases to the next. With many
    workloads on a busy machine that may be more than the TTL of any lease.
    """

    def __init__(self) -> None:
        self._last_s: dict[int, float] = {}  # by worker
        self._intervals_s: dict[int, float] = {}

    def began(self, worker: int, now_s: float) -> None:
        """An operation of this worker begins."""
        last_s = self._last_s.get(worker)
        if last_s is not None:
            known_s = self._intervals_s.get(worker, now_s - last_s)
            self._intervals_s[worker] = (known_s + now_s - last_s) / 2
        self._last_s[worker] = now_s

    def lasting(self, worker: int, ttl_s: float) -> float:
        """The TTL, or a longer one if the worker would use no lease often enough otherwise."""
        used_s = math.ceil(USES_MIN * self._intervals_s.get(worker, 0.0))
        return ttl_s if used_s <= max(TTLS_S) else float(used_s)


class LeaseWorkload:
    """Each worker grants leases, renews or abandons them, and reads whether they are alive."""

    name = "lease"
    reads = frozenset({"look"})

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._ids: dict[str, int] = {}
        self._names: dict[int, list[str]] = {}  # of each worker
        self._paces = Paces()

    def next(self, rng: Random, worker: int) -> Invocation:
        names = self._names.setdefault(worker, [])
        if len(names) < LEASES_PER_WORKER or rng.random() < 0.1:
            del names[: len(names) + 1 - LEASES_PER_WORKER]
            name = f"lease-{next(self._numbers)}"
            ttl_s = self._paces.lasting(worker, rng.choice(TTLS_S))
            return Invocation("grant", name, {"ttl_ns": round(ttl_s * 1e9)})
        function = rng.choices(("look", "renew", "revoke"), (6, 3, 2))[0]
        return Invocation(function, rng.choice(names))

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        leases, name = session.client.leases, invocation.key
        self._paces.began(session.worker, asyncio.get_running_loop().time())
        if invocation.function == "grant":
            ttl_s = invocation.value["ttl_ns"] / 1e9
            lease_id = await leases.grant(ttl_s, timeout_s=timeout_s)
            self._ids[name] = lease_id
            # At the end another worker carries out what was drawn for this one.
            self._names.setdefault(session.worker, []).append(name)
            return {"lease": lease_id}
        if invocation.function == "renew":
            await leases.renew(self._ids[name], timeout_s=timeout_s)
            return None
        if invocation.function == "revoke":
            await leases.revoke(self._ids[name], timeout_s=timeout_s)
            return None
        return await leases.is_alive(self._ids[name], timeout_s=timeout_s)

    def final(self) -> Sequence[Invocation]:
        return []

    def check(self, history: History) -> list[Finding]:
        operations = list(history.operations(self.name))
        return [lease.check(operations, cluster_time_of(history), LATE_NS, DRIFT)]


def cluster_time_of(history: History) -> ClusterTime:
    """The cluster time that has passed, as the writes of all workloads prove it."""
    names = dict.fromkeys(event.workload for event in history.events)
    writes = (each for name in names for each in answered(history.operations(name), *WRITES))
    return ClusterTime(writes, ELECTION_NS)

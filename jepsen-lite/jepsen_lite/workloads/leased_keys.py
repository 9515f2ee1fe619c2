"""Keys on leases: put on one, moved to another, detached, and gone with their lease."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import leased_keys
from jepsen_lite.clients.protocol import OperationError
from jepsen_lite.generators import PerKey
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session
from jepsen_lite.workloads.leases import DRIFT, LATE_NS, cluster_time_of

PREFIX = "leased-keys/"
KEYS, USES = 8, 25
TTLS_S = (1.0, 2.0, 6.0)
LEASES = 4
"""So many are in use at a time, by all workers."""
NOT_FOUND = "LEASE_NOT_FOUND"


class LeasedKeysWorkload:
    """All workers put the same keys on the same leases, and renew, revoke and abandon these."""

    name = "leased-keys"
    reads = frozenset({"look"})

    def __init__(self) -> None:
        self._keys = PerKey(PREFIX, KEYS, USES)
        self._values = itertools.count(1)
        self._names = itertools.count(1)
        self._ids: dict[str, int] = {}
        self._in_use: list[str] = []

    def next(self, rng: Random, worker: int) -> Invocation:
        if len(self._in_use) < LEASES or rng.random() < 0.05:
            ttl_ns = round(rng.choice(TTLS_S) * 1e9)
            return Invocation("grant", f"lease-{next(self._names)}", {"ttl_ns": ttl_ns})
        draw = rng.random()
        if draw < 0.4:
            return Invocation("look", PREFIX)
        if draw < 0.5:
            return Invocation("renew", rng.choice(self._in_use))
        if draw < 0.54:
            return Invocation("revoke", rng.choice(self._in_use))
        lease = None if draw < 0.64 else rng.choice(self._in_use)
        return Invocation("put", self._keys.draw(rng), [f"v{next(self._values)}", lease])

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client, name = session.client, invocation.key
        if invocation.function == "grant":
            ttl_s = invocation.value["ttl_ns"] / 1e9
            self._ids[name] = await client.leases.grant(ttl_s, timeout_s=timeout_s)
            self._in_use = [*self._in_use[1 - LEASES :], name]
            return {"lease": self._ids[name]}
        if invocation.function == "look":
            found = await client.read_prefix(PREFIX, timeout_s=timeout_s)
            rows = [[kv.key, kv.value, kv.mod_revision, kv.lease] for kv in found.kvs]
            return [found.revision, rows]
        lease = name
        try:
            if invocation.function == "renew":
                return await client.leases.renew(self._ids[name], timeout_s=timeout_s)
            if invocation.function == "revoke":
                return await client.leases.revoke(self._ids[name], timeout_s=timeout_s)
            value, lease = invocation.value
            number = 0 if lease is None else self._ids[lease]
            return await client.commands.put_on_lease(name, value, number, timeout_s=timeout_s)
        except OperationError as error:
            if error.reason == NOT_FOUND:
                self._in_use = [each for each in self._in_use if each != lease]
                return leased_keys.ENDED
            raise

    def final(self) -> Sequence[Invocation]:
        return [Invocation("look", PREFIX)]

    def check(self, history: History) -> list[Finding]:
        operations = list(history.operations(self.name))
        return [leased_keys.check(operations, cluster_time_of(history), LATE_NS, DRIFT)]

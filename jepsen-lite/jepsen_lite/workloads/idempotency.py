"""Idempotency keys: a command runs once until its key expires, whichever client sends it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import idempotency
from jepsen_lite.clients.protocol import CompactedError, KeyValue, KvClient, OperationError
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session
from jepsen_lite.workloads.leases import DRIFT, LATE_NS, cluster_time_of

PREFIX = "idempotency/"
SHORT_S, LONG_S = 1.5, 3_600.0
IN_USE = 6
USES = 12
"""Requests under a key, before the next key takes its place."""
REFUSED = "IDEMPOTENCY_KEY_REUSED"


class IdempotencyWorkload:
    """Workers of all clients send the same few requests again, and others under the same keys."""

    name = "idempotency"
    reads = frozenset({"versions"})

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._tag = ""
        """Distinguishes this run: a store may remember the keys of an earlier one."""
        self._in_use: list[tuple[str, float]] = []
        self._uses: dict[str, int] = {}

    def next(self, rng: Random, worker: int) -> Invocation:
        self._tag = self._tag or f"{rng.getrandbits(64):016x}"
        if len(self._in_use) < IN_USE:
            key = f"{PREFIX}{self._tag}/{next(self._numbers):05}"
            self._in_use.append((key, rng.choice((SHORT_S, SHORT_S, LONG_S))))
        slot = rng.randrange(len(self._in_use))
        key, ttl_s = self._in_use[slot]
        self._uses[key] = self._uses.get(key, 0) + 1
        if self._uses[key] == USES:
            del self._in_use[slot]
        request = "other" if rng.random() < 0.2 else "first"
        return Invocation("put", key, [request, round(ttl_s * 1e9)])

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        client = session.client
        if invocation.function == "versions":
            return await _versions(client, timeout_s)
        value, ttl_ns = invocation.value
        try:
            done = await client.commands.put_under_key(
                invocation.key,
                value,
                idempotency_key=invocation.key,
                ttl_s=ttl_ns / 1e9,
                timeout_s=timeout_s,
            )
        except OperationError as error:
            if error.reason == REFUSED:
                return idempotency.REUSED
            raise
        return [done.revision, done.previous]

    def final(self) -> Sequence[Invocation]:
        return [Invocation("versions", PREFIX)]

    def check(self, history: History) -> list[Finding]:
        operations = list(history.operations(self.name))
        return [idempotency.check(operations, cluster_time_of(history), LATE_NS, DRIFT)]


async def _versions(client: KvClient, timeout_s: float) -> dict[str, list[list[Any]]]:
    """Of each key all versions that are left, the last one first."""
    found = await client.read_prefix(PREFIX, timeout_s=timeout_s)
    return {kv.key: await _versions_of(client, kv, timeout_s) for kv in found.kvs}


async def _versions_of(client: KvClient, last: KeyValue, timeout_s: float) -> list[list[Any]]:
    versions, earlier = [], last
    while True:
        versions.append([earlier.version, earlier.value, earlier.mod_revision])
        if earlier.version == 1:
            return versions
        try:
            found = await client.get(
                last.key, revision=earlier.mod_revision - 1, timeout_s=timeout_s
            )
        except CompactedError:
            return versions
        if found is None:
            return versions
        earlier = found

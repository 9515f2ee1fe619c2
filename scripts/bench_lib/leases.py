"""Many leases that one client keeps alive: what that costs each node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from bench_lib.cluster import Cluster
from bench_lib.processes import cpu_seconds, remove_directory
from bench_lib.results import Upkeep
from bench_lib.systems import new_cluster
from raftkv.client.client import Client, connect
from raftkv.client.coordination.lease import KeptLease

LEASES = 10_000
TTL_S = 10.0
GRANTS_AT_ONCE = 1_000
MEASURED_S = 2 * TTL_S  # each lease is renewed several times


async def run(rounds: int, directory: Path) -> AsyncIterator[Upkeep]:
    """Measure the nodes idle, then with the leases, on a new cluster each time."""
    for _ in range(rounds):
        remove_directory(directory)
        cluster = new_cluster("raftkv", directory)
        try:
            await cluster.start()
            await cluster.wait_until_quiet(TTL_S)
            async with connect(cluster.endpoints) as client, AsyncExitStack() as kept:
                idle = await _cores(cluster)
                leases = await _grant(client, kept)
                await asyncio.sleep(TTL_S)
                busy = await _cores(cluster)
                lost = sum(lease.lost.is_set() for lease in leases)
                yield Upkeep(LEASES, TTL_S, busy, idle, lost)
        finally:
            await cluster.stop()
            remove_directory(directory)


async def _grant(client: Client, kept: AsyncExitStack) -> list[KeptLease]:
    leases: list[KeptLease] = []
    for _ in range(LEASES // GRANTS_AT_ONCE):
        contexts = [client.lease(TTL_S, timeout=60.0) for _ in range(GRANTS_AT_ONCE)]
        leases += await asyncio.gather(*(kept.enter_async_context(each) for each in contexts))
    return leases


async def _cores(cluster: Cluster) -> list[float]:
    """How many cores each node keeps busy, over a while."""
    began_s = time.monotonic()
    before = [cpu_seconds(node.pid) for node in cluster.nodes]
    await asyncio.sleep(MEASURED_S)
    after = [cpu_seconds(node.pid) for node in cluster.nodes]
    took_s = time.monotonic() - began_s
    return [(late - early) / took_s for early, late in zip(before, after, strict=True)]

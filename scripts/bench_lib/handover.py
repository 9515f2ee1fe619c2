"""One lock that many wait for: how many a second have it in turn, and in which order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench_lib.processes import remove_directory
from bench_lib.results import Handover
from bench_lib.systems import new_cluster
from raftkv.client.client import Client, connect

WAITERS = 100
QUEUES = 5  # per round, each with a name of its own
POLL_S = 0.05


async def run(rounds: int, directory: Path) -> AsyncIterator[Handover]:
    """Let queues gather behind a holder, then let go; on a new cluster in every round."""
    for _ in range(rounds):
        remove_directory(directory)
        cluster = new_cluster("raftkv", directory)
        try:
            await cluster.start()
            async with connect(cluster.endpoints, timeout=30.0) as client:
                for number in range(QUEUES):
                    yield await _hand_over(client, f"handover/{number}")
        finally:
            await cluster.stop()
            remove_directory(directory)


async def _hand_over(client: Client, name: str) -> Handover:
    tokens: list[int] = []

    async def wait() -> None:
        async with client.lock(name, ttl=30.0) as lock:
            tokens.append(lock.token)

    async with client.lock(name, ttl=30.0):
        waiting = [asyncio.create_task(wait()) for _ in range(WAITERS)]
        # What is waited for happens in another process, so there is no event to wait for.
        while len((await client.lock_info(name)).waiters) < WAITERS:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        began_s = time.monotonic()
    await asyncio.gather(*waiting)
    took_s = time.monotonic() - began_s
    return Handover(WAITERS, WAITERS / took_s, fifo=tokens == sorted(tokens))

"""The latency of a client of real nodes beside one that writes as much as it can."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NEIGHBOURS = 3
WRITERS = 2000
SECONDS = 6


async def neighbour(endpoints: str) -> float:
    """The p50 of one process with many writers, in ms."""
    command = ("-m", "raftkv", "-e", endpoints, "bench", "-w", str(WRITERS), "-s", str(SECONDS))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "-o", "json", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return float(json.loads(out)["p50_ms"])


async def put(client: raftkv.Client) -> tuple[float, int]:
    """How long it took, in ms, and the revision that it made."""
    started = time.perf_counter()
    revision = (await client.put("light", "x", timeout=30)).revision
    took_ms = (time.perf_counter() - started) * 1000
    await asyncio.sleep(0.02)
    return took_ms, revision


async def test_a_client_with_few_writes_does_not_wait_behind_one_with_many(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, raftkv.connect(cluster.endpoints) as client:
        heavy = [asyncio.create_task(neighbour(cluster.endpoints)) for _ in range(NEIGHBOURS)]
        while (await put(client))[1] < 5 * WRITERS:  # until they are in full swing
            assert not any(task.done() for task in heavy)
        took_ms = []
        while not any(task.done() for task in heavy):
            took_ms.append((await put(client))[0])
        heavy_ms = min(await asyncio.gather(*heavy))
    # In one queue with them it would wait for as long as they do.
    assert statistics.median(took_ms) * 5 < heavy_ms

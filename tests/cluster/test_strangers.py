"""What callers without a credential cost the others: see `strangers.py` for what they do."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import NodeProcess
from tests.cluster.secure_cluster import SecureCluster
from tests.fuzz.campaign import rss_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.alone]

ROUNDS = 5
PUTS_PER_ROUND = 300
PAUSE_S = 0.01
P99_FACTOR_MAX = 3.0
RSS_GROWTH_BYTES_MAX = 64 << 20
READY_S_MAX = 30.0
ROOT = Path(__file__).parents[2]


async def p99_of_puts(client: raftkv.Client) -> float:
    """In milliseconds."""
    took_ms = []
    for number in range(PUTS_PER_ROUND):
        begun = time.perf_counter()
        await client.put(f"key/{number % 10}", "value")
        took_ms.append((time.perf_counter() - begun) * 1_000)
        await asyncio.sleep(PAUSE_S)
    return statistics.quantiles(took_ms, n=100)[98]


@asynccontextmanager
async def strangers(*addresses: str) -> AsyncIterator[None]:
    command = [sys.executable, "-m", "tests.cluster.strangers", *addresses]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_S_MAX):
            assert await process.stdout.readline() == b"ready\n"
        yield
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def measured_rss(nodes: list[NodeProcess], rss_max: dict[int, int]) -> AsyncIterator[None]:
    """Keeps the largest resident memory of each node within the block in `rss_max`."""

    async def sample() -> None:
        while True:
            for node in nodes:
                rss_max[node.node_id] = max(rss_max.get(node.node_id, 0), rss_of(node))
            await asyncio.sleep(0.1)

    sampling = asyncio.create_task(sample())
    try:
        yield
    finally:
        sampling.cancel()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("certificates", ["none", "optional", "required"])
async def test_strangers_cost_other_clients_little_and_the_nodes_no_memory(
    tmp_path: Path, certificates: str
) -> None:
    async with (
        SecureCluster(tmp_path, certificates=certificates) as cluster,
        cluster.client() as client,
    ):
        nodes = list(cluster.nodes.values())
        leader = cluster.nodes[await cluster.leader()]
        await p99_of_puts(client)
        idle = {node.node_id: rss_of(node) for node in nodes}
        rss_max: dict[int, int] = {}
        quiet, attacked = [], []
        for _ in range(ROUNDS):
            quiet.append(await p99_of_puts(client))
            async with (
                measured_rss(nodes, rss_max),
                strangers(leader.client_address, leader.peer_address),
            ):
                attacked.append(await p99_of_puts(client))
        assert await cluster.leader() == leader.node_id
        growth = {node_id: (rss_max[node_id] - idle[node_id]) >> 20 for node_id in idle}
        medians = statistics.median(quiet), statistics.median(attacked)
        found = f"p99 in ms: quiet {quiet}, attacked {attacked}; MiB more: {growth}"
        print(found)
        assert medians[1] <= P99_FACTOR_MAX * medians[0], found
        assert max(growth.values()) <= RSS_GROWTH_BYTES_MAX >> 20, found


@pytest.mark.timeout(300)
async def test_a_node_returns_to_its_cluster_while_strangers_occupy_the_peer_ports(
    tmp_path: Path,
) -> None:
    async with SecureCluster(tmp_path) as cluster, cluster.client() as client:
        await client.put("key", "value")
        leader = await cluster.leader()
        returning, other = (node_id for node_id in cluster.nodes if node_id != leader)
        addresses = [cluster.nodes[node_id].peer_address for node_id in (leader, returning)]
        cluster.nodes[returning].kill()
        async with strangers(*addresses):
            cluster.start(returning)
            await cluster.ready(returning)
            cluster.nodes[other].kill()  # from now on the majority needs the one that came back
            await client.put("key", "of two", timeout=READY_S_MAX)

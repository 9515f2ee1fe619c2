"""A large store against a small one: the cost of a put, and the restart of a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench_lib.cluster import Cluster
from bench_lib.generator import Workload, measure
from bench_lib.processes import directory_bytes, memory, remove_directory
from bench_lib.results import Measurement, Restart
from bench_lib.systems import new_cluster
from bench_lib.throughput import ETCD_SHAPES, RAFTKV_SHAPES, fill_cluster
from bench_lib.workload import Operation

SETTLE_S = 5.0
# The fill leaves compaction that would else be charged to the first puts after it.
QUIET_PATIENCE_S = 60.0
QUIET_S = 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the two stores, and what is measured on them."""

    keys_small: int
    keys_large: int
    writers: int
    value_bytes: int
    seconds: float
    rounds: int
    restarts: int  # 0: none
    directory: Path


async def run(system: str, plan: Plan) -> AsyncIterator[Measurement | Restart]:
    """Puts over random existing keys and of new ones, small and large store in turn; then the
    restarts.

    Both clusters are up all the time, so that they share whatever else the machine does.
    """
    directories = [plan.directory / f"{system}-{size}" for size in ("small", "large")]
    for directory in directories:
        remove_directory(directory)
    small, large = (new_cluster(system, directory) for directory in directories)
    measured = [(large, plan.keys_large)]
    if plan.rounds:
        measured.insert(0, (small, plan.keys_small))
    try:
        for cluster, keys in measured:
            await cluster.start()
            await fill_cluster(cluster, keys, plan.value_bytes)
        # New keys come last: they let the small store grow.
        for operation in (Operation.OVERWRITE, Operation.PUT):
            for number in range(plan.rounds):
                for cluster, keys in measured:
                    workload = Workload(
                        operation, plan.writers, keys, plan.value_bytes, plan.seconds
                    )
                    yield await _puts(cluster, workload, number)
        await small.stop()
        for _ in range(plan.restarts):
            yield await _restart(large, plan.keys_large)
    finally:
        for cluster in (small, large):
            await cluster.stop()
            remove_directory(cluster.directory)


async def _puts(cluster: Cluster, workload: Workload, number: int) -> Measurement:
    shape = (ETCD_SHAPES if cluster.system == "etcd" else RAFTKV_SHAPES)[0]
    await cluster.wait_until_quiet(QUIET_PATIENCE_S, QUIET_S)
    return await measure(cluster, workload, shape, f"growth-{number}")


async def _restart(cluster: Cluster, keys: int) -> Restart:
    """Kill a follower with SIGKILL and start it again."""
    await cluster.wait_until_quiet(QUIET_PATIENCE_S, QUIET_S)
    number = (await cluster.leader() + 1) % len(cluster.nodes)
    node = cluster.nodes[number]
    node.kill()
    started_s = time.monotonic()
    node.start()
    await cluster.wait_until_serving(number)
    ready_s = time.monotonic() - started_s
    rss_bytes = memory(node.pid).rss_bytes
    await asyncio.sleep(SETTLE_S)
    settled = memory(node.pid)
    return Restart(
        system=cluster.system,
        keys=keys,
        ready_s=ready_s,
        rss_bytes=rss_bytes,
        rss_bytes_settled=settled.rss_bytes,
        rss_bytes_peak=settled.rss_bytes_peak,
        disk_bytes=directory_bytes(cluster.directory) // len(cluster.nodes),
    )

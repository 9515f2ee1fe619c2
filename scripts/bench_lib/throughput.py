"""Puts and gets, system after system, on fresh clusters: A B A B."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench_lib.cluster import Cluster
from bench_lib.generator import ClientShape, Workload, measure
from bench_lib.processes import remove_directory
from bench_lib.results import Measurement
from bench_lib.summary import THEIRS
from bench_lib.systems import new_cluster, open_client
from bench_lib.workload import FROM_A_FOLLOWER, OURS_ONLY, Operation, fill

# The ways in which an asyncio program can talk to etcd; the quickest of them is used, found
# anew for each workload on the machine at hand. One connection to a follower costs a hop
# for every write, several connections cost the server more goroutines but spare it a lock.
ETCD_SHAPES = (
    ClientShape("to the leader", leader_only=True),
    ClientShape("4 channels to the leader", connections=4, leader_only=True),
    ClientShape("2 processes to the leader", processes=2, leader_only=True),
    ClientShape("to all nodes"),
)
# raftkv's client chooses its connections itself.
RAFTKV_SHAPES = (ClientShape("raftkv.connect"), ClientShape("2 processes", processes=2))
# One process whose readers are in step works while the node idles, and the other way round.
ONE_FOLLOWER = (
    ClientShape("to one follower", follower_only=True),
    ClientShape("2 processes to one follower", processes=2, follower_only=True),
)

QUIET_PATIENCE_S = 5.0
FILL_PATIENCE_S = 60.0
TRIAL_SECONDS = 1.5
TRIALS = 2  # of each way; the better one counts, as noise only ever slows


@dataclass(frozen=True, slots=True)
class Plan:
    """Which workloads, on which systems, how long and how often."""

    systems: tuple[str, ...]
    workloads: tuple[Workload, ...]
    rounds: int
    directory: Path


def put_workloads(writers: Sequence[int], value_bytes: int, seconds: float) -> list[Workload]:
    return [Workload(Operation.PUT, each, 0, value_bytes, seconds) for each in writers]


def get_workload(readers: int, keys: int, value_bytes: int, seconds: float) -> Workload:
    return Workload(Operation.GET, readers, keys, value_bytes, seconds)


def lock_workloads(names: int, value_bytes: int, seconds: float) -> list[Workload]:
    """A lone put to compare with, a lone lock, and many of them under different names."""
    return [
        *put_workloads((1,), value_bytes, seconds),
        Workload(Operation.LOCK, 1, 0, value_bytes, seconds),
        Workload(Operation.LOCK, names, 0, value_bytes, seconds),
    ]


def follower_workloads(readers: int, keys: int, value_bytes: int, seconds: float) -> list[Workload]:
    """Both kinds of reads from one follower."""
    return [
        Workload(operation, readers, keys, value_bytes, seconds)
        for operation in (Operation.FOLLOWER_GET, Operation.STALE_GET)
    ]


async def fill_cluster(cluster: Cluster, keys: int, value_bytes: int) -> None:
    """Write the keys that gets and overwrites need, and wait until the nodes have digested them."""
    client = await open_client(cluster.system, cluster.endpoints, 1)
    try:
        await fill(client, 0, keys, value_bytes)
    finally:
        await client.close()
    await cluster.wait_until_quiet(FILL_PATIENCE_S)


async def run(plan: Plan) -> AsyncIterator[Measurement]:
    """Measure each workload on each system in every round, the systems in turn."""
    shapes: dict[tuple[str, Workload], ClientShape] = {}
    for number in range(plan.rounds):
        for system in plan.systems:
            directory = plan.directory / f"{system}-round-{number}"
            remove_directory(directory)
            cluster = new_cluster(system, directory)
            try:
                await cluster.start()
                keys, value_bytes = _fill_of(plan.workloads)
                if keys:
                    await fill_cluster(cluster, keys, value_bytes)
                for workload in plan.workloads:
                    if workload.operation in OURS_ONLY and system == THEIRS:
                        continue
                    choice = system, workload
                    if choice not in shapes:
                        shapes[choice] = await _best_shape(cluster, workload)
                    tag = f"{number}/{workload.tasks}"
                    # Nobody pays for what the workload before left to be written or compacted.
                    await asyncio.to_thread(os.sync)
                    await cluster.wait_until_quiet(QUIET_PATIENCE_S)
                    yield await measure(cluster, workload, shapes[choice], tag)
            finally:
                await cluster.stop()
                remove_directory(directory)


def _fill_of(workloads: Sequence[Workload]) -> tuple[int, int]:
    return max((each.filled_keys, each.value_bytes) for each in workloads)


async def _best_shape(cluster: Cluster, workload: Workload) -> ClientShape:
    shapes = ETCD_SHAPES if cluster.system == THEIRS else RAFTKV_SHAPES
    if workload.operation in FROM_A_FOLLOWER:
        shapes = ONE_FOLLOWER
    if len(shapes) == 1 or workload.tasks == 1:
        # A lone caller can only lose by a hop or a second channel.
        return shapes[0]
    trial = replace(workload, seconds=TRIAL_SECONDS)
    speeds = dict.fromkeys(shapes, 0.0)
    for number in range(TRIALS):
        for position, shape in enumerate(shapes):
            tag = f"trial-{number}-{position}-{workload.tasks}"
            found = await measure(cluster, trial, shape, tag)
            speeds[shape] = max(speeds[shape], found.per_second)
    return max(speeds, key=lambda shape: speeds[shape])

"""What TLS costs, and what authentication and rights cost on top: three clusters, in turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_lib.cluster import Cluster
from bench_lib.generator import Workload, measure
from bench_lib.processes import remove_directory
from bench_lib.raftkv_cluster import AuthenticatedCluster, RaftkvCluster, TlsCluster
from bench_lib.results import Measurement
from bench_lib.throughput import QUIET_PATIENCE_S, RAFTKV_SHAPES

PREFIX = "bench/"


@dataclass(frozen=True, slots=True)
class Plan:
    """Which workloads, how often, and where the nodes keep their data."""

    workloads: tuple[Workload, ...]
    rounds: int
    directory: Path


async def run(plan: Plan) -> AsyncIterator[Measurement]:
    """Measure each workload on every cluster in each round.

    All clusters run from the first round to the last, so that short rounds suffice: a machine that
    slows down does so for all of them. The others idle meanwhile.
    """
    remove_directory(plan.directory)
    plan.directory.mkdir(parents=True)
    clusters: Sequence[Cluster] = (
        RaftkvCluster(plan.directory / "plaintext"),
        TlsCluster(plan.directory / "tls"),
        AuthenticatedCluster(plan.directory / "authentication", PREFIX),
    )
    try:
        for cluster in clusters:
            await cluster.start()
        for number in range(plan.rounds):
            # Each is the first as often as the others.
            first = number % len(clusters)
            for cluster in (*clusters[first:], *clusters[:first]):
                for workload in plan.workloads:
                    await _wait_until_quiet(clusters)
                    tag = f"{PREFIX}{number}/{workload.tasks}"
                    yield await measure(cluster, workload, RAFTKV_SHAPES[0], tag)
    finally:
        for cluster in clusters:
            await cluster.stop()
        remove_directory(plan.directory)


async def _wait_until_quiet(clusters: Sequence[Cluster]) -> None:
    """None pays for what the one before left to be written or compacted."""
    await asyncio.to_thread(os.sync)
    await asyncio.gather(*(each.wait_until_quiet(QUIET_PATIENCE_S) for each in clusters))

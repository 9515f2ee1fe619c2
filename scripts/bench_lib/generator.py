"""The load generator as seen from the benchmark: several processes, one measurement."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from bench_lib.cluster import Cluster
from bench_lib.load import LoadResult, LoadSpec, Schedule, new_histogram
from bench_lib.processes import machine_cpu_seconds
from bench_lib.results import Measurement
from bench_lib.workload import Operation
from raftkv.cli.event_loop import GRPC_ENVIRONMENT

START_DELAY_S = 0.2
WARM_UP_S = 1.0
ANSWER_DEADLINE_S = 90.0
LINE_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class ClientShape:
    """How the load reaches a system: what its users could choose to do."""

    name: str
    processes: int = 1
    connections: int = 1  # per endpoint and process
    leader_only: bool = False
    follower_only: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """One cell of the table: an operation by so many tasks that each wait for their answer."""

    operation: Operation
    tasks: int
    filled_keys: int
    value_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What the measured seconds cost outside the load generator."""

    machine_cpu_seconds: float
    server_cpu_seconds: float
    server_rss_bytes: int


async def measure(
    cluster: Cluster, workload: Workload, shape: ClientShape, tag: str
) -> Measurement:
    """Run the workload for its seconds after a warm-up. `tag` makes new keys unique."""
    endpoints = cluster.endpoints
    if shape.leader_only:
        endpoints = [endpoints[await cluster.leader()]]
    if shape.follower_only:
        endpoints = [endpoints[(await cluster.leader() + 1) % len(endpoints)]]
    processes = min(shape.processes, workload.tasks)
    loads = [
        LoadSpec(
            system=cluster.system,
            endpoints=endpoints,
            connections=shape.connections,
            operation=workload.operation,
            tasks=workload.tasks // processes + (number < workload.tasks % processes),
            prefix=f"{tag}/{number}",
            filled_keys=workload.filled_keys,
            value_bytes=workload.value_bytes,
            seed=number,
        )
        for number in range(processes)
    ]
    generators = [await _start(load, cluster.client_environment) for load in loads]
    try:
        for generator in generators:
            await _read_line(generator)  # ready
        begin_s = time.monotonic() + START_DELAY_S
        measure_s = begin_s + min(WARM_UP_S, workload.seconds)
        schedule = Schedule(begin_s, measure_s, measure_s + workload.seconds)
        order = json.dumps(dataclasses.asdict(schedule)).encode() + b"\n"
        for generator in generators:
            assert generator.stdin is not None
            generator.stdin.write(order)
        await asyncio.sleep(schedule.measure_s - time.monotonic())
        machine_before, server_before = machine_cpu_seconds(), cluster.cpu_seconds()
        await asyncio.sleep(schedule.end_s - time.monotonic())
        usage = Usage(
            machine_cpu_seconds=machine_cpu_seconds() - machine_before,
            server_cpu_seconds=cluster.cpu_seconds() - server_before,
            server_rss_bytes=cluster.rss_bytes_max(),
        )
        results = [LoadResult(**json.loads(await _read_line(each))) for each in generators]
    finally:
        for generator in generators:
            if generator.returncode is None:
                generator.kill()
            await generator.wait()
    return _merge(cluster.system, workload, shape, results, usage)


async def _start(load: LoadSpec, environment: Mapping[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench_lib.load",
        json.dumps(dataclasses.asdict(load)),
        stdin=PIPE,
        stdout=PIPE,
        limit=LINE_BYTES_MAX,
        # What makes gRPC quicker for our commands makes it quicker for etcd's client, too.
        env={**GRPC_ENVIRONMENT, **os.environ, **environment},
        cwd=Path(__file__).parent.parent,
        start_new_session=True,  # Ctrl-C is ours to handle
    )


async def _read_line(generator: Process) -> bytes:
    assert generator.stdout is not None
    line = await asyncio.wait_for(generator.stdout.readline(), ANSWER_DEADLINE_S)
    if not line:
        raise RuntimeError("a load generator ended early; its error is above")
    return line


def _merge(
    system: str,
    workload: Workload,
    shape: ClientShape,
    results: list[LoadResult],
    usage: Usage,
) -> Measurement:
    histogram, errors = new_histogram(), Counter[str]()
    for result in results:
        histogram.add(HdrHistogram.decode(result.histogram))
        errors.update(result.errors)
    operations = sum(result.operations for result in results)
    client_cpu_seconds = sum(result.cpu_seconds for result in results)
    other_cpu_seconds = usage.machine_cpu_seconds - usage.server_cpu_seconds - client_cpu_seconds
    per_1000 = 1000 / operations if operations else float("nan")
    return Measurement(
        system=system,
        operation=workload.operation,
        tasks=workload.tasks,
        keys=workload.filled_keys,
        client=shape.name,
        operations=operations,
        seconds=workload.seconds,
        per_second=operations / workload.seconds,
        p50_ms=histogram.get_value_at_percentile(50) / 1000,
        p99_ms=histogram.get_value_at_percentile(99) / 1000,
        max_ms=histogram.get_max_value() / 1000,
        server_cpu_s_per_1000=usage.server_cpu_seconds * per_1000,
        client_cpu_s_per_1000=client_cpu_seconds * per_1000,
        server_rss_bytes=usage.server_rss_bytes,
        other_cores=max(0.0, other_cpu_seconds / workload.seconds),
        errors=dict(errors),
        histogram=histogram.encode().decode(),
    )

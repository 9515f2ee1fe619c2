"""One process of the load generator: a closed loop of tasks, each waiting for its answer.

Run as `python -m bench_lib.load SPEC`. Says `ready` when connected, is given its schedule on
stdin, and prints one JSON object with what it measured. The schedule is in CLOCK_MONOTONIC,
which all processes of a machine share, so that several generators measure the same seconds.
"""

from __future__ import annotations

import array
import asyncio
import dataclasses
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from bench_lib.cluster import Client
from bench_lib.systems import open_client
from bench_lib.workload import Operation, filled_key, values

LATENCY_US_MAX = 120_000_000
SIGNIFICANT_DIGITS = 3


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What one process does: `tasks` loops of one operation against `endpoints`."""

    system: str
    endpoints: list[str]
    connections: int  # per endpoint, where the client knows such a thing
    operation: Operation
    tasks: int
    prefix: str  # of the keys of Operation.PUT; unique to this process and measurement
    filled_keys: int  # how many keys the fill made, for the other operations
    value_bytes: int
    seed: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to begin, when to measure and when to end; seconds of CLOCK_MONOTONIC."""

    begin_s: float
    measure_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What ended inside the measured seconds. `histogram`: HDR-encoded microseconds."""

    operations: int
    cpu_seconds: float
    rss_bytes: int
    histogram: str
    errors: dict[str, int]


def new_histogram() -> HdrHistogram:
    return HdrHistogram(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)


class Recorder:
    """Latencies of operations that end in the measured seconds; sorted out after the run.

    Recording into the histogram costs as much as a tenth of a fast put, so it waits.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.errors: Counter[str] = Counter()
        self._latencies_s = array.array("d")

    async def repeat(self, operation: Callable[[], Awaitable[object]]) -> None:
        """One task: the operation again and again until the schedule ends."""
        clock, record = time.monotonic, self._latencies_s.append
        measure_s, end_s = self.schedule.measure_s, self.schedule.end_s
        finished = clock()
        while finished < end_s:
            started = clock()
            try:
                await operation()
            except Exception as error:  # noqa: BLE001  any failure is a result to be shown
                self.errors[_name(error)] += 1
                # A client that refuses at once must not spin the machine to a halt.
                await asyncio.sleep(0.01)
                finished = clock()
                continue
            finished = clock()
            if measure_s <= finished < end_s:
                record(finished - started)

    def histogram(self) -> HdrHistogram:
        histogram = new_histogram()
        for latency_s in self._latencies_s:
            histogram.record_value(min(int(latency_s * 1e6) or 1, LATENCY_US_MAX))
        return histogram


def _name(error: Exception) -> str:
    code = getattr(error, "code", None)
    return f"{type(error).__name__} {code() if callable(code) else ''}".strip()


def _operation(
    spec: LoadSpec, client: Client, task: int, chance: random.Random
) -> Callable[[], Awaitable[object]]:
    if spec.operation in {Operation.GET, Operation.FOLLOWER_GET}:

        async def get() -> None:
            key = filled_key(chance.randrange(spec.filled_keys))
            if len(await client.get(key)) != spec.value_bytes:
                raise LookupError(f"{key!r} lost its value")

        return get

    if spec.operation is Operation.STALE_GET:
        return lambda: client.stale_get(filled_key(chance.randrange(spec.filled_keys)))

    if spec.operation is Operation.LOCK:
        # Apart from all keys: below its locks' names etcd takes any key for somebody who waits.
        name = f"lock/{spec.prefix}/{task:04d}".encode()
        return lambda: client.lock_and_unlock(name, task)

    choices, prefix, number = values(spec.value_bytes, spec.seed), f"{spec.prefix}/{task:04d}", 0

    def put() -> Awaitable[object]:
        nonlocal number
        number += 1
        key = b"%b/%08d" % (prefix.encode(), number)
        return client.put(key, choices[number % len(choices)])

    def overwrite() -> Awaitable[object]:
        nonlocal number
        number += 1
        key = filled_key(chance.randrange(spec.filled_keys))
        return client.put(key, choices[number % len(choices)])

    return put if spec.operation is Operation.PUT else overwrite


async def _cpu_between(schedule: Schedule) -> float:
    await asyncio.sleep(max(0.0, schedule.measure_s - time.monotonic()))
    before = time.process_time()
    await asyncio.sleep(max(0.0, schedule.end_s - time.monotonic()))
    return time.process_time() - before


async def run(spec: LoadSpec) -> LoadResult:
    """Connect, wait for the schedule on stdin, run it."""
    client = await open_client(spec.system, spec.endpoints, spec.connections)
    try:
        chance = random.Random(spec.seed)
        operations = [_operation(spec, client, task, chance) for task in range(spec.tasks)]
        print("ready", flush=True)
        schedule = Schedule(**json.loads(await asyncio.to_thread(sys.stdin.readline)))
        await asyncio.sleep(max(0.0, schedule.begin_s - time.monotonic()))
        recorder = Recorder(schedule)
        cpu_seconds = asyncio.create_task(_cpu_between(schedule))
        await asyncio.gather(*(recorder.repeat(each) for each in operations))
    finally:
        await client.close()
    histogram = recorder.histogram()
    return LoadResult(
        operations=histogram.get_total_count(),
        cpu_seconds=await cpu_seconds,
        rss_bytes=os.sysconf("SC_PAGE_SIZE") * _resident_pages(),
        histogram=histogram.encode().decode(),
        errors=dict(recorder.errors),
    )


def _resident_pages() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1])


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    spec["operation"] = Operation(spec["operation"])
    print(json.dumps(dataclasses.asdict(uvloop.run(run(LoadSpec(**spec))))), flush=True)

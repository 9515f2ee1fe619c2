"""Many watchers in one process, puts at a steady rate from another: how late events arrive."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

from bench_lib.processes import remove_directory
from bench_lib.results import Delivery
from bench_lib.systems import new_cluster
from bench_lib.watchers import KEYS, Kind, key_of
from raftkv.cli.event_loop import GRPC_ENVIRONMENT
from raftkv.client.client import Client, connect

PUTS_PER_SECOND = 1_000
STEP_S = 0.01
ANSWER_DEADLINE_S = 90.0


async def run(rounds: int, seconds: float, directory: Path) -> AsyncIterator[Delivery]:
    """Each kind of watchers on a new cluster, in every round."""
    for _ in range(rounds):
        for kind in Kind:
            remove_directory(directory)
            cluster = new_cluster("raftkv", directory)
            try:
                await cluster.start()
                yield await _measure(cluster.endpoints, kind, seconds)
            finally:
                await cluster.stop()
                remove_directory(directory)


async def _measure(endpoints: list[str], kind: Kind, seconds: float) -> Delivery:
    puts = round(seconds * PUTS_PER_SECOND)
    watchers = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench_lib.watchers", kind, str(puts), ",".join(endpoints)),
        stdout=PIPE,
        env={**GRPC_ENVIRONMENT, **os.environ},
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )
    assert watchers.stdout is not None
    try:
        async with asyncio.timeout(ANSWER_DEADLINE_S + seconds):
            await watchers.stdout.readline()  # all are heard
            async with connect(endpoints, timeout=30.0) as client:
                took_s = await _put(client, puts)
            answer = json.loads(await watchers.stdout.readline())
    finally:
        if watchers.returncode is None:
            watchers.kill()
        await watchers.wait()
    return Delivery(
        kind=kind,
        watchers=KEYS,
        puts_per_second=puts / took_s,
        deliveries_per_second=answer["deliveries"] / took_s,
        p50_ms=answer["p50_ms"],
        p99_ms=answer["p99_ms"],
        missing=answer["missing"],
    )


async def _put(client: Client, puts: int) -> float:
    """Issue the puts at their rate, whether or not the earlier ones are answered."""
    began_s = time.monotonic()
    pending: set[asyncio.Task[object]] = set()
    for number in range(puts):
        due_s = began_s + number / PUTS_PER_SECOND // STEP_S * STEP_S
        if (early_s := due_s - time.monotonic()) > 0:
            await asyncio.sleep(early_s)
        issued = str(time.monotonic_ns()).encode()
        put = asyncio.create_task(client.put(key_of(number % KEYS), issued.ljust(256)))
        pending.add(put)
        put.add_done_callback(pending.discard)
    if pending:
        await asyncio.gather(*pending)
    return time.monotonic() - began_s

"""The process with the watchers: `python -m bench_lib.watchers KIND PUTS ENDPOINTS`.

Says `ready` once all are heard, and when all events have arrived, or none for a while, prints what
it saw. Every value begins with the moment of its put, on the clock that the machine shares.
"""

from __future__ import annotations

import asyncio
import enum
import json
import sys
import time

import uvloop
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from raftkv.client.client import Client, connect
from raftkv.client.watch.watch import Watch

KEYS = 1_000
PREFIX = b"watched/"
PATIENCE_S = 5.0
LATENCY_US_MAX = 60_000_000


class Kind(enum.StrEnum):
    """What the watchers watch."""

    KEYS = "on distinct keys"
    PREFIX = "on one prefix"


def key_of(number: int) -> bytes:
    return PREFIX + b"%04d" % number


class Watchers:
    """As many as there are keys, each a task of its own."""

    def __init__(self, kind: Kind, puts: int) -> None:
        self._kind = kind
        self._histogram = HdrHistogram(1, LATENCY_US_MAX, 3)
        self._expected = puts if kind is Kind.KEYS else puts * KEYS
        self._delivered = 0

    async def run(self, client: Client) -> dict[str, float]:
        """Watch until everything has arrived; what was seen."""
        watches = [
            client.watch(key_of(number)) if self._kind is Kind.KEYS else client.watch(prefix=PREFIX)
            for number in range(KEYS)
        ]
        await asyncio.gather(*(watch.started() for watch in watches))
        print("ready", flush=True)
        tasks = [asyncio.create_task(self._consume(watch)) for watch in watches]
        before = -1
        while (self._delivered < self._expected and self._delivered != before) or not before:
            before = self._delivered
            await asyncio.sleep(PATIENCE_S if before else 0.1)
        for task in tasks:
            task.cancel()
        return {
            "deliveries": self._delivered,
            "missing": self._expected - self._delivered,
            "p50_ms": self._histogram.get_value_at_percentile(50) / 1000,
            "p99_ms": self._histogram.get_value_at_percentile(99) / 1000,
        }

    async def _consume(self, watch: Watch) -> None:
        async for events in watch.batches():
            now_ns = time.monotonic_ns()
            self._delivered += len(events)
            # The first of a batch has waited longest; the others count as no earlier.
            latency_us = (now_ns - int(events[0].value)) // 1000
            self._histogram.record_value(min(max(latency_us, 1), LATENCY_US_MAX), len(events))


async def main(kind: str, puts: str, endpoints: str) -> None:
    async with connect(endpoints, timeout=30.0) as client:
        print(json.dumps(await Watchers(Kind(kind), int(puts)).run(client)), flush=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))

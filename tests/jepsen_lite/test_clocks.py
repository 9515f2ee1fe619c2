"""The effect of the clock nemesis on a process, read from the log of that process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from jepsen_lite.db.local import LocalCluster
from jepsen_lite.faults.kinds import WallClockJump, WallClockRate
from jepsen_lite.nemesis.clocks import ClockNemesis
from raftkv.client.client import Client

pytestmark = pytest.mark.cluster

SOON_S = 10.0
# Says every tenth of a second what time it is: by its wall clock, and truly.
TELLER = """
import datetime, json, select, time
while True:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    print(json.dumps({"timestamp": now, "truly": time.monotonic()}), flush=True)
    select.select([], [], [], 0.1)
"""

# Waits three times for a condition that never comes, for 50 ms by the monotonic clock.
WAITER = """
import ctypes, time
c = ctypes.CDLL(None)
class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]
attributes, condition, mutex = (ctypes.create_string_buffer(128) for _ in range(3))
c.pthread_condattr_init(attributes)
c.pthread_condattr_setclock(attributes, time.CLOCK_MONOTONIC)
c.pthread_cond_init(condition, attributes)
c.pthread_mutex_init(mutex, None)
for _ in range(3):
    began_ns = time.monotonic_ns()
    until = Timespec(*divmod(began_ns + 50_000_000, 10**9))
    c.pthread_mutex_lock(mutex)
    c.pthread_cond_timedwait(condition, mutex, ctypes.byref(until))
    c.pthread_mutex_unlock(mutex)
    print((time.monotonic_ns() - began_ns) // 1_000_000)
"""


class TimeWriters(LocalCluster):
    """One process that writes the time down."""

    name = "writers"
    peers_dial_both_ways = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, directory)
        self.add_server("node-1", [sys.executable, "-S", "-c", TELLER])

    async def connect(self, node: str = "") -> Client:
        raise NotImplementedError

    async def leader(self) -> str:
        return "node-1"

    async def not_ready(self) -> Mapping[str, str]:
        return {}

    def versions(self) -> Mapping[str, str]:
        return {}

    def readings(self) -> list[tuple[float, float]]:
        """Wall clock and true time of its last two lines."""
        lines = [json.loads(each) for each in self.servers["node-1"].log().splitlines()[-3:-1]]
        return [
            (datetime.fromisoformat(each["timestamp"]).timestamp(), each["truly"]) for each in lines
        ]

    def off_s(self) -> float:
        wall, truly = self.readings()[-1]
        return (wall - truly) - (time.time() - time.monotonic())

    def rate(self) -> float:
        (wall, truly), (later_wall, later_truly) = self.readings()
        return (later_wall - wall) / (later_truly - truly)


@asynccontextmanager
async def ticking(directory: Path, clock: ClockNemesis) -> AsyncIterator[TimeWriters]:
    writers = TimeWriters(directory)
    clock.prepare(writers)
    server = writers.servers["node-1"]
    await server.start()
    try:
        await soon(lambda: server.log().count("\n") > 2)
        yield writers
    finally:
        await server.kill()


async def soon(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not holds():  # noqa: ASYNC110 - another process sets no Event
            await asyncio.sleep(0.05)


@pytest.fixture
def clock() -> ClockNemesis:
    clock = ClockNemesis()
    if lacks := clock.missing():
        pytest.skip(lacks)
    return clock


def test_a_jump_is_seen_by_the_process_and_taken_back(clock: ClockNemesis, tmp_path: Path) -> None:
    async def go() -> None:
        async with ticking(tmp_path, clock) as writers:
            assert abs(writers.off_s()) < 0.5
            active = await clock.inject(writers, WallClockJump(0, 0, "0", -3600))
            assert active.detail == "jump -3600 s"
            await soon(lambda: abs(writers.off_s() + 3600) < 0.5)
            # What was written while the fault lasted can't be dated more precisely than that.
            assert "its log was about -359" in await active.undo()
            await soon(lambda: abs(writers.off_s()) < 0.5)

    asyncio.run(go())


def test_a_rate_is_seen_by_the_process_and_taken_back(clock: ClockNemesis, tmp_path: Path) -> None:
    async def go() -> None:
        async with ticking(tmp_path, clock) as writers:
            active = await clock.inject(writers, WallClockRate(0, 0, "0", 2.0))
            await soon(lambda: abs(writers.rate() - 2) < 0.2)
            await active.undo()
            await soon(lambda: abs(writers.rate() - 1) < 0.1 and abs(writers.off_s()) < 0.5)

    asyncio.run(go())


def test_a_fault_that_is_over_at_once_lasts_until_the_process_has_seen_it(
    clock: ClockNemesis, tmp_path: Path
) -> None:
    async def go() -> None:
        async with ticking(tmp_path, clock) as writers:
            for _ in range(3):
                active = await clock.inject(writers, WallClockJump(0, 0, "0", 60))
                assert "s off" in await active.undo()
                await soon(lambda: abs(writers.off_s()) < 0.5)

    asyncio.run(go())


def test_waiting_takes_as_long_as_without_it(clock: ClockNemesis, tmp_path: Path) -> None:
    writers = TimeWriters(tmp_path)
    clock.prepare(writers)
    waited = subprocess.run(
        [sys.executable, "-S", "-c", WAITER],
        env={**os.environ, **writers.servers["node-1"].environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(49 <= int(ms) < 1000 for ms in waited.stdout.split())

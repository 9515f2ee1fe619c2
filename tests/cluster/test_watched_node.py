"""The measurement of long turns of a node's event loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cluster import watched_node
from tests.cluster.watched_node import read_turns

# Two turns of 50 ms, of which one is work; and a thousand short ones.
PROGRAM = """
import asyncio, sys, time
sys.path.insert(0, sys.argv[1])
from watched_node import watch_turns

async def work():
    await asyncio.sleep(0)
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    await asyncio.sleep(0)

async def sleep():
    await asyncio.sleep(0)
    time.sleep(0.05)
    await asyncio.sleep(0)

async def main():
    for _ in range(1000):
        await asyncio.sleep(0)
    await asyncio.create_task(work())
    await asyncio.create_task(sleep())

with open(sys.argv[2], "a") as out:
    watch_turns(out)
    asyncio.run(main())
"""


def test_a_measured_turn_excludes_delays_by_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "turns"
    folder = str(Path(watched_node.__file__).parent)
    subprocess.run([sys.executable, "-c", PROGRAM, folder, str(path)], check=True)
    turns = {turn.longest: turn for turn in read_turns(path)}
    assert turns["work"].own_ms >= 49
    assert turns["sleep"].wall_ms >= 50
    assert turns["sleep"].own_ms < 25

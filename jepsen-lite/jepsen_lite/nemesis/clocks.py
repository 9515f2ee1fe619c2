"""Clocks that jump and that run at another rate, by libfaketime.

What jumps is the wall clock. The monotonic clock is left alone: it never jumps on a real machine
either, and a rate that changes would make it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from random import Random

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.db.local import LocalCluster
from jepsen_lite.db.processes import Server
from jepsen_lite.faults.kinds import Fault, WallClockJump, WallClockRate
from jepsen_lite.nemesis.base import ActiveFault, Nemesis, one_node, resolve

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)
# Without a rate libfaketime keeps to the one before.
TRUE_TIME = "+0 x1"
JUMPS_S = (-3600, -60, -1, 1, 60, 3600)
RATES = (0.5, 0.9, 1.1, 2.0)
READ_AGAIN_S = 1
# libfaketime counts whole seconds: only after more than two of its periods has a process surely
# seen what was set. A fault that was over before might have been none.
SEEN_AFTER_S = 2.2 * READ_AGAIN_S
PROBE_TIMEOUT_S = 10.0
# Prints a program's time, and the rate of its clock.
PROBE = """
import select, time
shown, began = time.time(), time.monotonic()
print(shown)
select.select([], [], [], 0.2)
print((time.time() - shown) / (time.monotonic() - began))
"""
# Below this a jump can't be separated from the time that the probe takes, a rate from its errors.
VISIBLE_S, VISIBLE_RATE = 0.5, 0.05
LOG_VISIBLE_S = 1.0


class ClockNemesis(Nemesis):
    name = "clock"
    summary = "a node's clock jumps or runs at another rate (needs libfaketime)"

    def missing(self) -> str:
        return "" if _library() else "libfaketime is not installed; apt-get install libfaketime"

    def prepare(self, db: Database) -> None:
        assert isinstance(db, LocalCluster)
        db.equip(_equip)

    def draw(self, rng: Random, size: int) -> Fault:
        if rng.choice(("jump", "jump", "rate")) == "jump":
            by_s = rng.choice(JUMPS_S)
            return WallClockJump(0.0, 0.0, one_node(rng, size), by_s)
        rate = rng.choice(RATES)
        return WallClockRate(0.0, 0.0, one_node(rng, size), rate)

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(db, LocalCluster)
        assert isinstance(fault, WallClockJump | WallClockRate)
        (node,) = await resolve(db, fault.node)
        server = db.servers[node]
        if not server.running:
            raise NoEffect(f"{node} does not run")
        if not _preloaded(server):
            raise NoEffect(f"{node} reads its clocks without the C library")
        jumps = isinstance(fault, WallClockJump)
        jump_s = fault.by_s if isinstance(fault, WallClockJump) else 0.0
        rate = fault.rate if isinstance(fault, WallClockRate) else 1.0
        began, seen_bytes = time.time(), server.log_bytes()
        _clock_file(server).write_text(f"{jump_s:+.0f} x{rate:g}\n")

        async def undo() -> str:
            await asyncio.sleep(began + SEEN_AFTER_S - time.time())
            _clock_file(server).write_text(TRUE_TIME + "\n")
            off_s = _off_s(server.log(seen_bytes), began, time.time())
            return f"its log was about {off_s:+.0f} s off" if abs(off_s) > LOG_VISIBLE_S else ""

        seen_s, seen_rate = await asyncio.to_thread(_probe, server)
        if jumps and abs(seen_s) < VISIBLE_S:
            _clock_file(server).write_text(TRUE_TIME + "\n")
            raise NoEffect("the clock did not jump")
        if not jumps and abs(seen_rate - 1) < VISIBLE_RATE:
            _clock_file(server).write_text(TRUE_TIME + "\n")
            raise NoEffect("the clock kept its rate")
        detail = f"jump {jump_s:+.0f} s" if jumps else f"rate x{rate:g}"
        return ActiveFault(node, detail, undo)


def _library() -> str:
    return next((path for path in LIBRARIES if Path(path).exists()), "")


def _preloaded(server: Server) -> bool:
    return "libfaketime" in Path(f"/proc/{server.pid}/maps").read_text()


def _clock_file(server: Server) -> Path:
    return server.directory.with_suffix(".clock")


def _equip(server: Server) -> None:
    file = _clock_file(server)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(TRUE_TIME + "\n")
    server.environment.update(
        LD_PRELOAD=_library(),
        FAKETIME_TIMESTAMP_FILE=str(file),
        FAKETIME_CACHE_DURATION=str(READ_AGAIN_S),
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        DONT_FAKE_MONOTONIC="1",
        # A repair for old C libraries. With others no wait for a condition lasts: gRPC's threads
        # spin, and a node that answers in 5 ms takes 300.
        FAKETIME_FORCE_MONOTONIC_FIX="0",
    )


def _probe(server: Server) -> tuple[float, float]:
    """How far a program under the node's clock is from ours, and at what rate its clock runs."""
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE],
        env={**os.environ, **server.environment},
        capture_output=True,
        check=True,
        timeout=PROBE_TIMEOUT_S,
    )
    shown, rate = map(float, done.stdout.split())
    # The probe read the clock at some time between then and now.
    return shown - min(max(shown, began), time.time()), rate


def _off_s(log: str, began: float, ended: float) -> float:
    """How far the times of lines that were written between these two are from that, at most."""
    off_s = 0.0
    for line in log.splitlines():
        try:
            logged = datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
        except (ValueError, KeyError, TypeError):
            continue
        off_s = max(off_s, logged - min(max(logged, began), ended), key=abs)
    return off_s

"""Clocks that jump and that run at another rate, by libfaketime.

What jumps is the wall clock. The monotonic clock is left alone: it never jumps on a real machine
either, and a rate that changes would make it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from random import Random

from jepsen_lite.nemesis.base import Fault, Kind, Strike, one_node, resolve
from jepsen_lite.systems.base import NoEffect, System
from jepsen_lite.systems.local import LocalCluster
from jepsen_lite.systems.processes import Server

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)
TRUE_TIME = "+0"
JUMPS_S = (-3600, -60, -1, 1, 60, 3600)
RATES = (0.5, 0.9, 1.1, 2.0)
READ_AGAIN_S = 1
PROBE_TIMEOUT_S = 10.0
# Below this a jump can't be told from the time that the probe takes.
VISIBLE_S = 0.5


class Clock(Kind):
    name = "clock"
    summary = "a node's clock jumps or runs at another rate (needs libfaketime)"

    def missing(self) -> str:
        return "" if _library() else "libfaketime is not installed; apt-get install libfaketime"

    def prepare(self, system: System) -> None:
        assert isinstance(system, LocalCluster)
        system.equip(_equip)

    def draw(self, rng: Random, size: int) -> Fault:
        how = rng.choice(("jump", "jump", "rate"))
        amount = rng.choice(JUMPS_S) if how == "jump" else rng.choice(RATES)
        return Fault(self.name, one_node(rng, size), how, amount)

    async def strike(self, system: System, fault: Fault) -> Strike:
        assert isinstance(system, LocalCluster)
        (node,) = await resolve(system, fault)
        server = system.servers[node]
        if not server.running:
            raise NoEffect(f"{node} does not run")
        if not _preloaded(server):
            raise NoEffect(f"{node} reads its clocks without the C library")
        said = f"{fault.amount:+.0f}" if fault.how == "jump" else f"{TRUE_TIME} x{fault.amount:g}"
        _clock_file(server).write_text(said + "\n")
        if fault.how == "jump" and abs(_offset_s(server)) < VISIBLE_S:
            raise NoEffect("the clock did not jump")

        async def undo() -> str:
            _clock_file(server).write_text(TRUE_TIME + "\n")
            return ""

        return Strike(node, f"{fault.how} {said} s" if fault.how == "jump" else said, undo)


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
    )


def _offset_s(server: Server) -> float:
    """How far a program under the node's clock is from ours."""
    said = subprocess.run(
        ["date", "+%s.%N"],
        env={**os.environ, **server.environment},
        capture_output=True,
        check=True,
        timeout=PROBE_TIMEOUT_S,
    )
    truth = subprocess.run(["date", "+%s.%N"], capture_output=True, check=True)
    return float(said.stdout) - float(truth.stdout)

"""How fast this machine is just now, beside the machine on which the limits of turns were measured.

Run as a script: `python machine_speed.py SAMPLES` appends a line to the file SAMPLES every
`EVERY_S` seconds. CPU time alone does not tell a slow product from a slow machine: a core whose
other hyperthread is busy, or that a hypervisor lends to others, takes twice the CPU time for the
same work. A fixed piece of Python, timed on the same cores at the same time, shows by how much.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

EVERY_S = 0.03
SLOW_SAMPLE = 0.9
WORK_MS = 2.2
"""CPU time of `work` on the machine of the limits: nine of ten samples take less (idle cores)."""


def work() -> int:
    """Allocates, hashes and compares, as a node does."""
    table = {b"%06d" % number: number for number in range(5_000)}
    return sum(table[key] for key in sorted(table, reverse=True))


def sample_ms() -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1e3


class MachineSpeed:
    """Reads the samples that the script writes."""

    def __init__(self, samples: Path) -> None:
        self._samples = samples

    def slowness(self, since: float) -> float:
        """How many times longer than on the machine of the limits work took since `since`.

        At least 1. Compares the samples that nine in ten do not exceed, here and there.
        """
        lines = [line.split() for line in self._samples.read_text().split("\n")[:-1]]
        taken = sorted(float(ms) for ended_at, ms in lines if float(ended_at) >= since)
        return max(1.0, taken[int(len(taken) * SLOW_SAMPLE)] / WORK_MS) if taken else 1.0


@contextlib.contextmanager
def measured_speed(samples: Path) -> Iterator[MachineSpeed]:
    """Sample the speed of the machine until the block ends."""
    samples.touch()
    with subprocess.Popen([sys.executable, __file__, str(samples)]) as sampler:
        try:
            yield MachineSpeed(samples)
        finally:
            sampler.terminate()


def main() -> None:
    with open(sys.argv[1], "a") as out:
        while True:
            took_ms = sample_ms()
            out.write(f"{time.time()} {took_ms}\n")
            out.flush()
            time.sleep(EVERY_S)


if __name__ == "__main__":
    main()

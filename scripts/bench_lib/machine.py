"""The machine a benchmark ran on: what a reader needs to judge its figures."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median

SYNCS = 100


def describe(directory: Path) -> dict[str, str]:
    """Processors, load before the start, versions, and what a sync costs below `directory`."""
    facts = {
        "cores": str(len(os.sched_getaffinity(0))),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "sync": f"{_sync_ms(directory):.2f} ms on {_file_system(directory)}",
        "Python": platform.python_version(),
    }
    if etcd := shutil.which("etcd"):
        answer = subprocess.run([etcd, "--version"], capture_output=True, text=True, check=True)
        facts["etcd"] = answer.stdout.splitlines()[0].rpartition(" ")[2]
    return facts


def _sync_ms(directory: Path) -> float:
    path, times_s = directory / "sync-probe", []
    with path.open("wb", buffering=0) as probe:
        for _ in range(SYNCS):
            probe.write(bytes(4096))
            started = time.perf_counter()
            os.fdatasync(probe.fileno())
            times_s.append(time.perf_counter() - started)
    path.unlink()
    return median(times_s) * 1000


def _file_system(directory: Path) -> str:
    """The type of the mount that holds the directory, such as ext4."""
    types: dict[Path, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        types[Path(mount.split()[4])] = source.split()[0]
    resolved = directory.resolve()
    return next(types[each] for each in (resolved, *resolved.parents) if each in types)

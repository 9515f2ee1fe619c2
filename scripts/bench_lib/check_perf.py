"""etcd's own load generator, for comparison: `etcdctl check perf` with its largest load."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from bench_lib.etcd_cluster import EtcdCluster
from bench_lib.processes import remove_directory

# 1,000 clients that ask for 15,000 puts of 1,024 bytes per second, for a minute.
LOAD = "xl"


async def run(directory: Path) -> list[str]:
    """Its lines; none if etcdctl is not there. It says how far below its wish etcd stayed."""
    etcdctl = shutil.which("etcdctl")
    if etcdctl is None:
        return []
    remove_directory(directory)
    cluster = EtcdCluster(directory)
    try:
        await cluster.start()
        process = await asyncio.create_subprocess_exec(
            etcdctl,
            "--endpoints",
            ",".join(cluster.endpoints),
            "check",
            "perf",
            "--load",
            LOAD,
            stdout=PIPE,
            stderr=STDOUT,
            env={"ETCDCTL_API": "3"},
        )
        output, _ = await process.communicate()
    finally:
        await cluster.stop()
        remove_directory(directory)
    lines = output.decode().splitlines()
    # The progress bar counts in per cent, the verdict doesn't.
    return [
        f"etcdctl check perf --load {LOAD}: {line.strip()}"
        for line in lines
        if line.strip() and "%" not in line
    ]

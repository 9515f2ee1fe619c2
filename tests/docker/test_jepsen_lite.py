"""`jepsen-lite run --system compose`, on the real containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import eventually
from tests.docker.compose import ROOT, ComposeCluster, run, why_not

# The first build fetches packages.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture
def cluster() -> Iterator[ComposeCluster]:
    if reason := why_not():
        pytest.skip(reason)
    cluster = ComposeCluster(f"raftkv-jepsen-test-{os.getpid()}")
    try:
        cluster.build()
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def started(store: Path, *arguments: str) -> subprocess.Popen[str]:
    command = ["run", "--system", "compose", "--workload", "register,set", "--store", str(store)]
    return subprocess.Popen(
        [sys.executable, "-m", "jepsen_lite", *command, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "jepsen-lite"), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def jepsen_lite(store: Path, *arguments: str) -> tuple[int, str]:
    """How it ends, and what it says."""
    with started(store, *arguments) as run:
        said, _ = run.communicate()
    return run.returncode, said


async def broken(cluster: ComposeCluster) -> bool:
    """Whether a node stands still or has no network."""
    known = [cluster.inspect(node_id) for node_id in cluster.node_ids()]
    return any(each["State"]["Paused"] or not each["NetworkSettings"]["Networks"] for each in known)


def faults_of(store: Path) -> list[dict[str, Any]]:
    lines = (store / "latest" / "faults.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


async def test_containers_are_killed_paused_and_partitioned_and_a_second_run_starts_clean(
    cluster: ComposeCluster, tmp_path: Path
) -> None:
    await cluster.ready()
    code, said = jepsen_lite(tmp_path, "--nemesis", "partition", "--seconds", "5", "--seed", "1")
    assert code == 0, said
    assert all(fault["took_effect"] for fault in faults_of(tmp_path))
    assert "had no network" in faults_of(tmp_path)[0]["detail"]
    # What the first one has written would be values that nobody wrote.
    code, said = jepsen_lite(tmp_path, "--nemesis", "kill,pause", "--seconds", "8", "--seed", "1")
    assert code == 0, said
    assert {each["name"] for each in faults_of(tmp_path) if each["took_effect"]} == {
        "kill",
        "pause",
    }
    # Somebody has enough of the third one.
    command = ["--nemesis", "pause,partition", "--seconds", "60"]
    with started(tmp_path, *command) as third:
        await eventually(lambda: broken(cluster), "a container stands still or is cut off")
        third.send_signal(signal.SIGINT)
        third.communicate()
    assert not await broken(cluster)
    await cluster.ready()
    # Who stands still is named, and so is the way to go on.
    run("docker", "pause", cluster.container(2))
    code, said = jepsen_lite(tmp_path, "--nemesis", "none", "--seconds", "1")
    assert code == 254
    assert "is paused; docker unpause" in " ".join(said.replace("│", "").split())

"""A cluster is upgraded from an earlier release and downgraded node by node, under load."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftkv.versions import SUPPORTED
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.release_data import program_of_wheel

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
BASELINE = "6653551aff"
BASELINE_VERSION = 2
"""The newest cluster version that the baseline supports."""
CALLS_MIN = 20
THIS_PROGRAM: Sequence[str] = ()


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """What Python runs to be the earlier release."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{BASELINE}^{{commit}}"], cwd=ROOT, capture_output=True
    )
    if known.returncode:
        pytest.skip("this checkout has no history, so the earlier release can't be built")
    directory = tmp_path_factory.mktemp("baseline")
    subprocess.run([ROOT / "scripts" / "baseline-wheel", directory], check=True, cwd=ROOT)
    return program_of_wheel(directory)


class Load:
    """Clients that put, get and lock without a pause. A request that fails ends the load."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.calls = 0
        self._fence = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._put(n)) for n in range(3)]
            tasks.append(group.create_task(self._lock()))
            yield self
            for task in tasks:
                task.cancel()

    async def some_calls(self) -> None:
        """Wait until some more calls have succeeded."""
        target = self.calls + CALLS_MIN

        async def made() -> bool:
            return self.calls >= target

        await eventually(made, f"{CALLS_MIN} more calls")

    async def _put(self, number: int) -> None:
        async with self._cluster.client() as client:
            for value in range(1_000_000):
                await client.put(f"load/{number}", str(value))
                assert (await client.get(f"load/{number}")).value == str(value).encode()
                self.calls += 1

    async def _lock(self) -> None:
        async with self._cluster.client() as client:
            while True:
                async with client.lock("load") as lock:
                    assert lock.token > self._fence
                    self._fence = lock.token
                self.calls += 1


async def replace_program(cluster: Cluster, node_id: int, program: Sequence[str]) -> None:
    node = cluster.nodes[node_id]
    node.send(signal.SIGTERM)
    assert await asyncio.to_thread(node.wait) == 0
    node.be(program)
    cluster.start(node_id)
    await cluster.ready(node_id)


def cluster_of(tmp_path: Path, program: Sequence[str]) -> Cluster:
    cluster = Cluster(tmp_path, 3)
    for node in cluster.nodes.values():
        node.be(program)
    return cluster


async def versions(cluster: Cluster) -> set[int]:
    return {(await cluster.status(node_id)).cluster_version for node_id in cluster.nodes}


async def test_no_request_fails_while_nodes_are_upgraded_downgraded_and_upgraded_again(
    tmp_path: Path, baseline: Sequence[str]
) -> None:
    async with cluster_of(tmp_path, baseline) as cluster:

        async def at(version: int) -> bool:
            return await versions(cluster) == {version}

        await eventually(lambda: at(BASELINE_VERSION), "the baseline's cluster version")
        async with Load(cluster).running() as load:
            await load.some_calls()
            for program, node_ids in (
                (THIS_PROGRAM, (1, 2)),
                (baseline, (2, 1)),
                (THIS_PROGRAM, (3, 1)),
            ):
                for node_id in node_ids:
                    await replace_program(cluster, node_id, program)
                    await load.some_calls()
                    assert await at(BASELINE_VERSION)
            await replace_program(cluster, 2, THIS_PROGRAM)
            await eventually(lambda: at(SUPPORTED.maximum), "the cluster version is raised")
            await load.some_calls()


async def test_a_node_of_the_earlier_release_is_refused_once_the_version_was_raised(
    tmp_path: Path, baseline: Sequence[str]
) -> None:
    async with cluster_of(tmp_path, THIS_PROGRAM) as cluster:

        async def raised() -> bool:
            return await versions(cluster) == {SUPPORTED.maximum}

        await eventually(raised, "the cluster version is raised")
        node = cluster.nodes[3]
        node.kill()
        node.be(baseline)
        cluster.start(3)
        code = await asyncio.to_thread(node.wait)
        assert code
        assert "version" in node.log()
        # Nothing on its disk has changed.
        node.be(THIS_PROGRAM)
        cluster.start(3)
        await cluster.ready(3)


async def test_clients_of_the_earlier_release_use_this_one(
    tmp_path: Path, baseline: Sequence[str]
) -> None:
    async with cluster_of(tmp_path, THIS_PROGRAM) as cluster:

        def run(*command: str) -> str:
            done = subprocess.run(
                [sys.executable, *baseline, "--endpoints", cluster.endpoints, *command],
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert not done.returncode, done.stderr
            return done.stdout

        await asyncio.to_thread(run, "put", "greeting", "hello")
        assert await asyncio.to_thread(run, "get", "greeting") == "hello"
        assert "3" in await asyncio.to_thread(run, "status")
        locked = await asyncio.to_thread(run, "lock", "job", "--", "echo", "held")
        assert "held" in locked
        async with cluster.client() as client:
            assert (await client.get("greeting")).value == b"hello"

"""Another cluster answers at the addresses that a client knows, or at one of them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import raftkv
from jepsen_lite.ports import free_ports
from tests.cluster.cluster import NodeProcess, eventually

pytestmark = pytest.mark.cluster

AT_ONCE_S = 5.0
"""On a busy machine; the calls below have far longer timeouts."""
LONG_S = 60.0


class Clusters:
    """Clusters of one node each, of the same settings. Those of one address take turns."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._ports = [free_ports(2), free_ports(2)]
        self._nodes: dict[str, NodeProcess] = {}

    def endpoint(self, place: int = 0) -> str:
        return f"127.0.0.1:{self._ports[place][0]}"

    async def start(self, name: str, place: int = 0, cluster_name: str = "raftkv") -> None:
        """Start the cluster that a test calls `name`, with the data that it had before, if any."""
        if name not in self._nodes:
            client_port, peer_port = self._ports[place]
            self._nodes[name] = NodeProcess(1, self._base / name, client_port, peer_port, peer_port)
        self._nodes[name].start("--cluster-name", cluster_name)

        async def serves() -> bool:
            assert self._nodes[name].running, self._nodes[name].log()[-2000:]
            try:
                async with raftkv.connect(self.endpoint(place)) as client:
                    await client.get("ready?")
            except raftkv.Unavailable:
                return False
            return True

        await eventually(serves, f"{name} serves")

    def stop(self, name: str) -> None:
        node = self._nodes[name]
        node.send(signal.SIGTERM)
        node.wait()

    def kill(self) -> None:
        for node in self._nodes.values():
            node.kill()


@pytest.fixture
async def clusters(tmp_path: Path) -> AsyncIterator[Clusters]:
    made = Clusters(tmp_path)
    yield made
    made.kill()


async def refused(call: object) -> None:
    """It ends with `WrongCluster`, and not after its own timeout."""
    with pytest.raises(raftkv.WrongCluster, match="is not there any more"):
        async with asyncio.timeout(AT_ONCE_S):
            await call  # type: ignore[misc]


async def test_a_client_carries_nothing_into_a_rebuilt_cluster(
    clusters: Clusters,
) -> None:
    await clusters.start("a")
    told: list[raftkv.WatchEvent] = []
    async with raftkv.connect(clusters.endpoint()) as client:
        for number in range(50):
            await client.put(f"k/{number}", "old")
        lock = await client.lock("n", ttl=LONG_S).acquire()

        async def look() -> None:
            async with client.watch(prefix="k/", from_revision=1) as watch:
                async for event in watch:
                    told.append(event)

        async def hold() -> None:
            async with client.lock("m", ttl=LONG_S):
                await asyncio.Event().wait()

        watching, holding = asyncio.create_task(look()), asyncio.create_task(hold())

        async def at_work() -> bool:
            return len(told) == 50 and (await client.lock_info("m")).holder is not None

        await eventually(at_work, "the watch has told all, and the block runs")
        clusters.stop("a")
        await clusters.start("b")

        await refused(client.put("k/1", "new", timeout=LONG_S))
        await refused(client.get("k/1", level=raftkv.ReadLevel.SESSION, timeout=LONG_S))
        await refused(client.lock_info("n", timeout=LONG_S))
        await refused(watching)
        assert lock.remaining() == 0
        with pytest.raises(raftkv.LockLost, match="is not there any more"):
            await asyncio.wait_for(holding, AT_ONCE_S)
        with pytest.raises(raftkv.WrongCluster, match="but this client belongs to"):
            await client.status(clusters.endpoint())
        async with raftkv.connect(clusters.endpoint()) as other:
            assert (await other.range_prefix("")).count == 0
            assert (await other.put("first", "change")).revision == 2

        clusters.stop("b")
        await clusters.start("a")

        async def serves_again() -> bool:
            try:
                found = await client.get("k/1")
            except raftkv.RaftkvError:
                return False
            assert found is not None
            return found.value == b"old"

        await eventually(serves_again, "the old cluster is found again")
    assert len(told) == 50


@pytest.mark.parametrize("other_name", ["raftkv", pytest.param("another", marks=pytest.mark.slow)])
async def test_endpoints_of_two_clusters_are_refused(clusters: Clusters, other_name: str) -> None:
    await clusters.start("a")
    await clusters.start("b", place=1, cluster_name=other_name)
    both = f"{clusters.endpoint(0)},{clusters.endpoint(1)}"
    patient = raftkv.ClientSettings(connect_grace_s=10.0)
    named = f"{clusters.endpoint(0)} answers for cluster .*{clusters.endpoint(1)} answers for"
    with pytest.raises(raftkv.WrongCluster, match=named):
        await raftkv.connect(both, settings=patient)
    with pytest.raises(raftkv.WrongCluster, match=named):
        await asyncio.to_thread(raftkv.connect_sync, both, settings=patient)

    async def command_refuses() -> bool:
        ran = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "raftkv", "put", "k", "v", "-e", both],
            capture_output=True,
            text=True,
        )
        # Within its short patience the second one may not have answered, on a busy machine.
        assert ran.returncode in (0, 12), ran
        return ran.returncode == 12 and "do not belong to one cluster" in ran.stderr

    await eventually(command_refuses, "the command refuses, and says why")

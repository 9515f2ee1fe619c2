"""The containers of docker-compose.yml: built, started, stopped, killed and partitioned."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import raftkv
from tests.cluster.cluster import eventually
from tests.cluster.test_faults import Writers, lost, stored
from tests.docker.compose import ComposeCluster, why_not

# The first build fetches packages.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

IMAGE_USER = "7411"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ComposeCluster]:
    """Three nodes for the tests of this file; each test leaves them whole."""
    if reason := why_not():
        pytest.skip(reason)
    cluster = ComposeCluster(f"raftkv-test-{os.getpid()}")
    try:
        cluster.build()
        cluster.up()
        yield cluster
    finally:
        cluster.down()


async def check_nothing_lost(cluster: ComposeCluster, writers: Writers) -> None:
    """Every node by itself has all that was acknowledged."""
    assert writers.acknowledged
    for node_id in cluster.node_ids():
        async with cluster.client(node_id) as client:
            assert not lost(writers, await stored(client)), f"at node {node_id}"


async def test_no_acknowledged_write_is_lost_when_leaders_are_stopped_killed_and_partitioned(
    cluster: ComposeCluster,
) -> None:
    await cluster.ready()
    async with cluster.client() as client:
        writers = Writers(client, 4)
        await writers.more()
        for strike, heal in (
            (cluster.stop, cluster.start),
            (cluster.kill, cluster.start),
            (cluster.cut_off, cluster.connect),
        ):
            leader = await cluster.leader()
            await strike(leader)
            await writers.more()
            await heal(leader)
            await cluster.ready(leader)
        await writers.stop()
    await check_nothing_lost(cluster, writers)


async def test_a_node_that_dies_is_restarted_and_healthy_again(cluster: ComposeCluster) -> None:
    await cluster.ready()
    leader = await cluster.leader()
    restarts = cluster.inspect(leader)["RestartCount"]
    async with cluster.client() as client:
        writers = Writers(client, 4)
        await writers.more()
        await cluster.crash(leader)
        await writers.more()
        await cluster.ready(leader)
        await writers.stop()
    assert cluster.inspect(leader)["RestartCount"] == restarts + 1

    async def healthy() -> bool:
        return str(cluster.inspect(leader)["State"]["Health"]["Status"]) == "healthy"

    await eventually(healthy, "Docker finds the node healthy", timeout_s=60)
    await check_nothing_lost(cluster, writers)


async def test_a_container_has_no_privileges_and_is_open_to_this_machine_only(
    cluster: ComposeCluster,
) -> None:
    for node_id in cluster.node_ids():
        container = cluster.inspect(node_id)
        assert container["Config"]["User"] in ("raftkv", IMAGE_USER)
        assert container["HostConfig"]["ReadonlyRootfs"]
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        published = [
            place["HostIp"]
            for places in container["HostConfig"]["PortBindings"].values()
            for place in places
        ]
        assert published == ["127.0.0.1"]


async def test_a_cluster_grown_to_five_nodes_tolerates_two_failures_and_not_three(
    cluster: ComposeCluster,
) -> None:
    await cluster.ready()
    async with cluster.client(1, 2, 3) as client:
        writers = Writers(client, 4)
        await writers.more()
        cluster.up("--profile", "five")

        async def five_voters() -> bool:
            members = await client.member_list(timeout=20)
            return sum(not member.learner for member in members) == 5

        await eventually(five_voters, "five nodes vote", timeout_s=90)
        await cluster.ready()
        await cluster.kill(1)
        await cluster.kill(4)
        await writers.more()
        await writers.stop()
        await cluster.kill(2)
        with pytest.raises((raftkv.Unavailable, raftkv.OutcomeUnknown)):
            await client.put("minority", "2 of 5", timeout=2)
    for node_id in (1, 2, 4):
        await cluster.start(node_id)
    await cluster.ready()
    await check_nothing_lost(cluster, writers)

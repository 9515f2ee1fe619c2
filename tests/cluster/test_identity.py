"""A node's identity is in its data directory; changed or missing settings are hints."""

from __future__ import annotations

from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import Cluster, eventually

pytestmark = pytest.mark.cluster


async def knows_addresses(cluster: Cluster, node_id: int) -> bool:
    """Whether the member list has the addresses that the nodes have now."""
    async with cluster.client(node_id) as client:
        try:
            members = await client.member_list(timeout=2)
        except raftkv.RaftkvError:
            return False
    now = {n: (node.peer_address, node.client_address) for n, node in cluster.nodes.items()}
    return {each.node_id: (each.peer_address, each.client_address) for each in members} == now


@pytest.mark.slow
async def test_all_nodes_restart_on_new_addresses_at_once(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        async with cluster.client() as client:
            await client.put("moved", "with us")
        for node in cluster.nodes.values():
            node.kill()
        cluster.move(*cluster.nodes)
        for node_id in cluster.nodes:
            cluster.start(node_id)
        await cluster.ready()
        async with cluster.client() as client:
            assert (await client.get("moved")).value == b"with us"
        await eventually(
            lambda: knows_addresses(cluster, 1), "the member list has the new addresses"
        )


async def test_a_node_that_moves_is_found_without_a_change_of_settings_elsewhere(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        node = cluster.nodes[2]
        node.kill()
        cluster.move(2)
        node.start()  # without a list of members: its disk knows them
        await cluster.ready(2)
        await eventually(lambda: knows_addresses(cluster, 3), "the member list has the new address")


async def test_a_joined_node_restarts_without_the_join_setting(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        node = await cluster.join(2)
        await cluster.ready(2)
        node.kill()
        node.start()
        await cluster.ready(2)
        node.kill()
        node.start("--initial-members", cluster.initial_members)  # in which it is not
        await cluster.ready(2)


async def test_two_clusters_founded_from_the_same_settings_do_not_mix(tmp_path: Path) -> None:
    """Node 3 comes back with the disk of the first life, where the others live the second."""
    (tmp_path / "first").mkdir()
    async with Cluster(tmp_path / "first", 3) as first:
        async with first.client() as client:
            await client.put("life", "first")
        for node in first.nodes.values():
            node.kill()
        first.nodes[1].directory, first.nodes[2].directory = tmp_path / "1", tmp_path / "2"
        first.settings = ["--bootstrap-without", "3"]
        for node_id in (1, 2):
            first.start(node_id)
        await first.ready(1, 2)
        first.settings = []
        first.start(3)

        async def refused() -> bool:
            return "the same settings were used to found two" in first.nodes[3].log()

        await eventually(refused, "node 3 is refused as of another life")
        async with first.client(1, 2) as client:
            assert await client.get("life") is None
            await client.put("life", "second")
        assert not (await first.status(1)).not_serving

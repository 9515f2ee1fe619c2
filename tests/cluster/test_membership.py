"""The membership of a live cluster changes under load."""

from __future__ import annotations

from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.test_faults import Writers, lost, stored

pytestmark = pytest.mark.cluster


async def promote(client: raftkv.Client, node_id: int) -> None:
    """Promote as soon as the learner has caught up."""

    async def promoted() -> bool:
        try:
            await client.member_promote(node_id, timeout=10)
        except raftkv.MembershipRefused:
            return False
        return True

    await eventually(promoted, f"node {node_id} catches up and is promoted")


async def test_a_dead_node_is_replaced_under_load_without_a_failed_write(tmp_path: Path) -> None:
    settings = "--set log_compaction_bytes=1048576 --set log_retained_bytes=65536"
    async with Cluster(tmp_path, 3, settings=settings) as cluster, cluster.client() as client:
        for number in range(300):  # so that the newcomer needs a snapshot
            await client.put(f"bulk/{number}", b"x" * 10_000)
        writers = Writers(client)
        await writers.more()
        dead = await cluster.leader()
        cluster.nodes[dead].kill()
        await writers.more()
        newcomer = await cluster.join(4)
        await promote(client, 4)
        await client.member_remove(dead, timeout=10)
        members = await client.member_list()
        assert {m.node_id for m in members if not m.learner} == {1, 2, 3, 4} - {dead}
        await writers.more()
        await writers.stop()
        assert not writers.unknown
        assert "snapshot_installed" in newcomer.log()
        async with cluster.client(4) as direct:
            assert not lost(writers, await stored(direct))


async def test_a_removed_node_stops_itself(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        leader = await cluster.leader()
        removed = 1 + leader % 3
        await client.member_remove(removed, timeout=10)
        assert cluster.nodes[removed].wait() == 0
        assert "removed from the cluster" in cluster.nodes[removed].log()
        await client.put("life goes on", "yes")


async def test_a_node_that_was_down_when_it_was_removed_stops_when_it_returns(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        leader = await cluster.leader()
        removed = 1 + leader % 3
        cluster.nodes[removed].kill()
        await client.member_remove(removed, timeout=10)
        cluster.start(removed)
        assert cluster.nodes[removed].wait() == 0
        assert "removed from the cluster" in cluster.nodes[removed].log()


async def test_a_leader_that_is_removed_hands_over_and_stops(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        writers = Writers(client)
        await writers.more()
        leader = await cluster.leader()
        await client.member_remove(leader, timeout=10)
        assert cluster.nodes[leader].wait() == 0
        await writers.more()
        await writers.stop()
        assert not lost(writers, await stored(client))


async def test_leadership_is_transferred_to_the_named_node(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        leader = await cluster.leader()
        target = 1 + leader % 3
        assert await client.transfer_leader(target, timeout=10) == target
        assert await cluster.leader() == target


async def test_invalid_members_are_refused(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        with pytest.raises(raftkv.MemberUnknown, match="node 9 is not a member"):
            await client.member_remove(9)
        with pytest.raises(raftkv.MembershipRefused, match="a member already"):
            await client.member_add(1, "127.0.0.1:1", "127.0.0.1:2")
        with pytest.raises(raftkv.MembershipRefused, match="a voter already"):
            await client.member_promote(1)

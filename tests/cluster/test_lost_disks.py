"""Real nodes with emptied, old or copied disks: no acknowledged write is lost, and no log forks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import raftkv
from raftkv.cli.exit_codes import ExitCode
from tests.cluster.cluster import Cluster, eventually

pytestmark = pytest.mark.cluster

REPLACE = "raftkv member replace"


async def put_many(cluster: Cluster, prefix: str, count: int = 5) -> list[str]:
    keys = [f"{prefix}/{number}" for number in range(count)]
    async with cluster.client() as client:
        for key in keys:
            await client.put(key, "paid")
    return keys


async def assert_all_there(cluster: Cluster, node_id: int, keys: list[str]) -> None:
    async with cluster.client(node_id) as client:
        found = await client.range_prefix("")
        assert {kv.key.decode() for kv in found.kvs} >= set(keys)


async def not_serving(cluster: Cluster, node_id: int, words: str) -> None:
    """Wait until this node reports at its client port, with this text, that it does not serve."""

    async def said() -> bool:
        try:
            status = await cluster.status(node_id)
        except raftkv.Unavailable:
            return False
        return words in status.not_serving

    await eventually(said, f"node {node_id} says {words!r}")


@pytest.mark.slow
async def test_a_wiped_node_and_one_that_lags_do_not_make_a_majority(tmp_path: Path) -> None:
    """Nodes 1 and 2 acknowledge while 3 is down; then 1 loses its disk, and 1 and 3 come first."""
    async with Cluster(tmp_path, 3) as cluster:
        keys = await put_many(cluster, "before")
        cluster.nodes[3].kill()
        keys += await put_many(cluster, "acknowledged")
        for node_id in (1, 2):
            cluster.nodes[node_id].kill()
        shutil.rmtree(cluster.nodes[1].data_dir)
        cluster.start(1)
        cluster.start(3)
        assert cluster.nodes[1].wait() == ExitCode.STORAGE
        assert f"{REPLACE} 1 NEW" in cluster.nodes[1].log()
        cluster.start(2)
        await cluster.ready(2, 3)
        for node_id in (2, 3):
            await assert_all_there(cluster, node_id, keys)


@pytest.mark.slow
async def test_two_wiped_nodes_wait_for_the_third_and_found_nothing(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        keys = await put_many(cluster, "before")
        for node in cluster.nodes.values():
            node.kill()
        for node_id in (1, 2):
            shutil.rmtree(cluster.nodes[node_id].data_dir)
            cluster.start(node_id)
        for node_id in (1, 2):
            await not_serving(cluster, node_id, "node 3:")
        cluster.start(3)
        for node_id in (1, 2):
            assert cluster.nodes[node_id].wait() == ExitCode.STORAGE
        async with cluster.client(3) as client:
            found = await client.range_prefix("", level=raftkv.ReadLevel.STALE)
            assert {kv.key.decode() for kv in found.kvs} == set(keys)
            with pytest.raises(raftkv.RaftkvError):
                await client.put("fork", "no", timeout=2)


@pytest.mark.slow
async def test_a_wiped_node_is_refused_also_by_peers_that_have_restarted(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        await put_many(cluster, "before")
        cluster.nodes[1].kill()
        shutil.rmtree(cluster.nodes[1].data_dir)
        for node_id in (2, 3):
            cluster.nodes[node_id].kill()
            cluster.start(node_id)
        cluster.start(1)
        assert cluster.nodes[1].wait() == ExitCode.STORAGE
        await cluster.ready(2, 3)
        assert (await cluster.status(2)).not_serving == ""


async def test_an_older_copy_of_a_disk_is_refused_and_stays_out_of_service(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        follower = 1 + await cluster.leader() % 3
        node, copy = cluster.nodes[follower], tmp_path / "copy"
        node.kill()
        shutil.copytree(node.data_dir, copy)
        cluster.start(follower)
        await cluster.ready(follower)
        keys = await put_many(cluster, "later")
        node.kill()
        shutil.rmtree(node.data_dir)
        shutil.copytree(copy, node.data_dir)
        cluster.start(follower)
        # A peer refuses its call, or the leader's reaches it first and shows what it has lost.
        await not_serving(cluster, follower, "out of service")
        node.kill()
        cluster.start(follower)
        await not_serving(cluster, follower, f"{REPLACE} {follower} NEW")
        async with cluster.client(follower) as client:
            # The client retries until its timeout, and raises the last error.
            with pytest.raises(raftkv.DeadlineExceeded, match=r"serves nothing: it is out of serv"):
                await client.get(keys[0], level=raftkv.ReadLevel.STALE, timeout=1)
        others = [n for n in (1, 2, 3) if n != follower]
        for node_id in others:
            await assert_all_there(cluster, node_id, keys)


async def test_of_two_processes_on_copies_of_one_disk_at_most_one_takes_part(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        await put_many(cluster, "before")
        follower = 1 + await cluster.leader() % 3
        node = cluster.nodes[follower]
        clone = cluster.clone(follower)
        keys = await put_many(cluster, "later")
        clone.start("--initial-members", cluster.initial_members)

        async def one_is_out() -> bool:
            logs = (node.log(), clone.log())
            return any('"out_of_service"' in log for log in logs)

        await eventually(one_is_out, "one of the two leaves service")
        keys += await put_many(cluster, "still")
        others = [n for n in (1, 2, 3) if n != follower]
        for node_id in others:
            await assert_all_there(cluster, node_id, keys)


@pytest.mark.slow
async def test_the_disk_of_another_node_is_refused(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        keys = await put_many(cluster, "before")
        for node_id in (1, 2):
            cluster.nodes[node_id].kill()
        shutil.rmtree(cluster.nodes[1].data_dir)
        shutil.copytree(cluster.nodes[2].data_dir, cluster.nodes[1].data_dir)
        cluster.start(1)
        assert cluster.nodes[1].wait() == ExitCode.STORAGE
        assert "belongs to node 2, not to node 1" in cluster.nodes[1].log()
        cluster.start(2)
        await cluster.ready(2, 3)
        await assert_all_there(cluster, 3, keys)


async def test_founders_that_start_one_after_the_other_found_one_cluster(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3)
    try:
        cluster.start(2)
        await not_serving(cluster, 2, "node 1:")
        cluster.start(3)
        cluster.nodes[2].kill()  # also when one of them restarts meanwhile
        await not_serving(cluster, 3, "node 2:")
        cluster.start(2)
        cluster.start(1)
        await cluster.ready()
        incarnations = {(await cluster.status(n)).incarnation for n in cluster.nodes}
        assert len(incarnations) == 1
        assert 0 not in incarnations
    finally:
        for node in cluster.nodes.values():
            node.kill()


async def test_the_other_founders_found_a_cluster_without_an_excluded_one(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3, settings="--bootstrap-without 3")
    try:
        for node_id in (1, 2):
            cluster.start(node_id)
        await cluster.ready(1, 2)
        cluster.settings = []
        cluster.start(3)
        assert cluster.nodes[3].wait() == ExitCode.STORAGE
        assert "raftkv member add 3" in cluster.nodes[3].log()
    finally:
        for node in cluster.nodes.values():
            node.kill()

"""Data directories of earlier releases: all nodes stopped, and started as this program."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from raftkv.versions import SUPPORTED
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.release_data import DATA, check

pytestmark = pytest.mark.cluster


def unpack(file: Path, into: Path) -> None:
    """The directories of three nodes that ran at other addresses."""
    with tarfile.open(file) as archive:
        # What `filter="data"` does; the argument came with a later 3.11 than Debian's.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(into)


@pytest.mark.parametrize("version", range(2, SUPPORTED.maximum + 1))
async def test_the_rows_of_a_release_mean_what_they_meant(tmp_path: Path, version: int) -> None:
    cluster = Cluster(tmp_path, 3)
    unpack(DATA / f"cluster-version-{version}.tar.xz", tmp_path)
    async with cluster, cluster.client() as client:
        await check(client, version)


async def test_directories_of_0_1_0_are_one_cluster_with_a_running_hash(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3)
    unpack(DATA / "raftkv-0.1.0.tar.xz", tmp_path)  # compacted up to different entries
    async with cluster, cluster.client() as client:
        for key, value in {"last": b"of 0.1.0", "late": b"x", "k/29": b"119 " * 300}.items():
            assert (await client.get(key)).value == value
        # What was done under an idempotency key is not done again, and is not taken for another.
        before = await client.get("counted")
        await client.put("counted", "once", idempotency_key="order-17")
        assert (await client.get("counted")).version == before.version == 1

        async def raised() -> bool:
            versions = [(await cluster.status(n)).cluster_version for n in cluster.nodes]
            return set(versions) == {SUPPORTED.maximum}

        await eventually(raised, "the cluster version is raised")
        # From here on the nodes compare their hashes with every entry, also after a restart.
        await client.put("after", "the upgrade")
        for node_id in cluster.nodes:
            cluster.nodes[node_id].kill()
            cluster.start(node_id)
            await cluster.ready(node_id)
            await client.put(f"restarted/{node_id}", "yes")
        assert len({(await cluster.status(n)).incarnation for n in cluster.nodes}) == 1
        members = await client.member_list()
        assert all(member.started for member in members)

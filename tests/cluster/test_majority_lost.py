"""Two of three disks are lost for good: the third becomes a new cluster, which refuses the old."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import raftkv
from raftkv.cli.exit_codes import ExitCode
from raftkv.kv.new_cluster import NUMBERS_SKIPPED
from tests.cluster.cluster import Cluster, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def recover(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raftkv", "recover", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_the_last_disk_of_three_becomes_a_cluster_that_refuses_the_old_nodes(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        async with cluster.client() as client:
            for number in range(50):
                await client.put(f"paid/{number}", "yes")
            lease = (await client.lease_grant(600)).lease
            await client.put("held", "yes", lease=lease)
            lock = client.lock("job", ttl=60)
            assert await lock.acquire()
            token = lock.token
        nodes = cluster.nodes
        running = recover("inspect", nodes[3].data_dir)
        assert running.returncode == ExitCode.STORAGE
        assert "in use by process" in running.stderr
        for node in nodes.values():
            node.kill()
        old = cluster.clone(1)
        shutil.rmtree(nodes[1].data_dir)
        shutil.rmtree(nodes[2].data_dir)
        inspected = json.loads(recover("inspect", nodes[3].data_dir, "-o", "json").stdout)
        assert inspected["best"] == str(nodes[3].data_dir)
        assert inspected["disks"][0]["voters"] == [1, 2, 3]

        refused = recover("--data-dir", nodes[3].data_dir, "--new-cluster")
        assert refused.returncode == ExitCode.USAGE
        assert "every write that nodes 1, 2 acknowledged after that entry" in refused.stderr
        assert json.loads(recover("inspect", nodes[3].data_dir, "-o", "json").stdout) == inspected
        recovered = recover("--data-dir", nodes[3].data_dir, "--new-cluster", "--yes")
        assert recovered.returncode == 0, recovered.stderr

        # The node finds the new cluster on its disk; its settings are those of before.
        cluster.start(3)
        await cluster.ready(3)
        async with cluster.client(3) as client:
            found = await client.range_prefix("paid/")
            assert len(found.kvs) == 50
            assert found.revision > NUMBERS_SKIPPED
            # The lease goes on where it was.
            held = await client.get("held")
            assert held is not None
            assert held.lease == lease
            assert 0 < (await client.lease_time_to_live(lease)).left_s <= 600
            assert {member.node_id for member in await client.member_list()} == {3}
            lock = client.lock("other", ttl=60)
            assert await lock.acquire()
            assert lock.token > token + NUMBERS_SKIPPED
            with pytest.raises(raftkv.MembershipRefused):
                await client.member_add(1, nodes[1].peer_address, nodes[1].client_address)
        for node_id in (4, 5):
            await cluster.join(node_id)
            await cluster.ready(node_id)
            async with cluster.client(3) as client:
                await eventually(lambda: promoted(client, node_id), f"{node_id} votes")  # noqa: B023
        async with cluster.client(4) as client:
            assert len((await client.range_prefix("paid/")).kvs) == 50

        # An old node, from a copy of its disk, finds the others at their addresses.
        old.start("--initial-members", cluster.initial_members)
        await eventually(lambda: refusal_logged(old.log), "the old node is refused")
        assert "raftkv recover" in old.log()
        nodes[3].kill()
        await cluster.ready(4, 5)
        async with cluster.client(4, 5) as client:
            await client.put("after", "yes")


async def promoted(client: raftkv.Client, node_id: int) -> bool:
    try:
        await client.member_promote(node_id)
    except raftkv.MembershipRefused:
        return False
    return True


async def refusal_logged(log: Callable[[], str]) -> bool:
    return "WRONG_INCARNATION" in log()

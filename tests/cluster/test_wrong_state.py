"""Real nodes whose state is wrong, although each of its checksums is right."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

import raftkv
from raftkv.errors import OutcomeUnknown, ReplicasDiffer
from raftkv.kv.state_hash import MARK_ENTRIES
from raftkv.kv.store import Family
from raftkv.storage.memory_state import turned
from raftkv.storage.state_storage import RocksStateStorage
from raftkv.versions import COMPARED
from tests.cluster.cluster import Cluster, NodeProcess, eventually
from tests.cluster.test_lost_disks import not_serving

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

KEY = b"key"
FOUND_S_MAX = 5.0


async def turn_a_bit(node: NodeProcess) -> None:
    """A bit of the key's record is wrong, as if memory had failed before it was written."""
    storage = RocksStateStorage(node.data_dir / "state")
    record = storage.store.get(Family.CURRENT, KEY)
    assert record is not None
    storage.store.write({Family.CURRENT: {KEY: turned(record, 8 * len(record) - 1)}})
    await storage.sync()
    await storage.close()


async def write_entries(client: raftkv.Client, entries: int) -> None:
    """One after the other, so that each is an entry of its own."""
    for number in range(entries):
        await client.put(b"other", b"%d" % number)


async def with_a_wrong_node(cluster: Cluster, client: raftkv.Client) -> int:
    """Write the key, and turn a bit of it on the disk of a follower, which is started again."""

    async def compared() -> bool:
        return all([(await cluster.status(n)).cluster_version >= COMPARED for n in cluster.nodes])

    await eventually(compared, "all nodes compare their states")
    revision = (await client.put(KEY, b"value")).revision
    wrong = 1 + await cluster.leader() % len(cluster.nodes)

    async def applied() -> bool:
        return (await cluster.status(wrong)).revision >= revision

    await eventually(applied, "the follower has applied the put")
    cluster.nodes[wrong].kill()
    await turn_a_bit(cluster.nodes[wrong])
    cluster.start(wrong)
    await cluster.ready(wrong)
    return wrong


async def test_a_node_with_a_wrong_row_is_quarantined_once_the_row_is_used(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        wrong = await with_a_wrong_node(cluster, client)
        # Nothing has read the row: the running hash can't show it.
        await write_entries(client, MARK_ENTRIES)
        assert (await cluster.status(wrong)).not_serving == ""
        await client.put(KEY, b"overwritten")
        await write_entries(client, MARK_ENTRIES)
        began_s = time.monotonic()
        await not_serving(cluster, wrong, f"`raftkv member replace {wrong} NEW`")
        assert time.monotonic() - began_s < FOUND_S_MAX
        said = (await cluster.status(wrong)).not_serving
        assert "differs at index" in said
        assert '"event": "quarantined"' in cluster.nodes[wrong].log()
        await client.put(KEY, b"again")
        leader = await cluster.leader()
        assert f"member replace {wrong} NEW" in (await cluster.status(leader)).notice
        # Its disk says so after a restart, too.
        cluster.nodes[wrong].kill()
        cluster.start(wrong)
        await not_serving(cluster, wrong, "differs at index")


async def two_that_differ(cluster: Cluster, client: raftkv.Client) -> tuple[int, int]:
    """(the wrong node, the one that is killed) of three: writes have stopped."""
    wrong = await with_a_wrong_node(cluster, client)
    (third,) = cluster.nodes.keys() - {wrong, await cluster.leader()}
    cluster.nodes[third].kill()
    await client.put(KEY, b"overwritten")
    # A write that is under way when writes stop may get no answer in time.
    with pytest.raises((ReplicasDiffer, OutcomeUnknown)):
        await asyncio.wait_for(write_entries(client, 4 * MARK_ENTRIES), 60.0)
    with pytest.raises(ReplicasDiffer, match="transfer-leader"):
        await client.put(KEY, b"refused")
    return wrong, third


async def test_two_nodes_that_differ_stop_writes_and_the_third_ends_that(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        wrong, third = await two_that_differ(cluster, client)
        assert (await client.get(KEY)).value == b"overwritten"
        cluster.start(third)
        await not_serving(cluster, wrong, "differs at index")
        await client.put(KEY, b"again")


async def test_the_operator_chooses_between_two_nodes_that_differ(tmp_path: Path) -> None:
    """As `docs/operating.md` says: the believed one leads, and the other one is replaced."""
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        wrong, third = await two_that_differ(cluster, client)
        (believed,) = cluster.nodes.keys() - {wrong, third}
        await client.transfer_leader(believed)
        await cluster.join(4)

        async def replaced() -> bool:
            try:
                await client.member_replace(wrong, 4)
            except (raftkv.MembershipRefused, raftkv.Unavailable):
                return False
            return True

        await eventually(replaced, "the new node has caught up and takes the wrong one's place")

        async def writable() -> bool:
            try:
                await client.put(KEY, b"again", timeout=1.0)
            except raftkv.RaftkvError:
                return False
            return True

        await eventually(writable, "writes go on once the wrong node was replaced")
        assert (await client.get(KEY)).value == b"again"

"""Real processes are killed, paused and partitioned: acknowledged writes survive."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import Cluster, NodeProcess, eventually

pytestmark = pytest.mark.cluster


class Writers:
    """Tasks that write numbered keys without pause and remember what was acknowledged."""

    def __init__(self, client: raftkv.Client, count: int = 8) -> None:
        self._client = client
        self._stopping = False
        self.acknowledged: dict[str, bytes] = {}
        self.unknown: dict[str, bytes] = {}
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(count)]

    async def _write(self, writer: int) -> None:
        number = 0
        while not self._stopping:
            key, value = f"w{writer}/{number}", f"value {number}".encode()
            try:
                await self._client.put(key, value, timeout=20)
                self.acknowledged[key] = value
            except raftkv.OutcomeUnknown:
                self.unknown[key] = value
            number += 1

    async def more(self, count: int = 50) -> None:
        """Wait until `count` more writes have been acknowledged."""
        goal = len(self.acknowledged) + count

        async def reached() -> bool:
            return len(self.acknowledged) >= goal

        await eventually(reached, f"{count} more writes are acknowledged")

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


async def stored(client: raftkv.Client, prefix: str = "w") -> dict[str, bytes]:
    found = await client.range_prefix(prefix, timeout=30)
    return {kv.key.decode(): kv.value for kv in found.kvs}


def lost(writers: Writers, found: dict[str, bytes]) -> list[str]:
    return [key for key, value in writers.acknowledged.items() if found.get(key) != value]


async def test_no_acknowledged_write_is_lost_when_leaders_are_killed(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        writers = Writers(client)
        await writers.more()
        for _ in range(3):
            leader = await cluster.leader()
            cluster.nodes[leader].kill()
            await writers.more()
            cluster.start(leader)
            await cluster.ready(leader)
        await writers.stop()
        assert not lost(writers, await stored(client))
        assert not writers.unknown


@pytest.mark.slow
async def test_a_counter_ends_at_exactly_the_number_of_increments(tmp_path: Path) -> None:
    """Retried writes run once: each increment is a compare-and-swap that would fail twice over."""
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        increments = 0
        stopping = False

        async def increment() -> None:
            nonlocal increments
            while not stopping:
                swap = await client.compare_and_swap(
                    "counter", b"%d" % (increments - 1), b"%d" % increments, timeout=20
                )
                assert swap.swapped, "a swap that nobody contends for failed: it ran twice"
                increments += 1

        await client.put("counter", "0")
        increments = 1
        task = asyncio.create_task(increment())
        for _ in range(3):
            goal = increments + 100

            async def reached(goal: int = goal) -> bool:
                assert not task.done() or task.result() is None
                return increments >= goal

            await eventually(reached, "the counter moves on")
            leader = await cluster.leader()
            cluster.nodes[leader].kill()
            await eventually(
                lambda goal=increments + 50: _is(increments >= goal), "it survives the leader"
            )
            cluster.start(leader)
            await cluster.ready(leader)
        stopping = True
        await task
        item = await client.get("counter")
        assert item is not None
        assert int(item.value) == increments - 1
        assert item.version == increments


async def _is(holds: bool) -> bool:
    return holds


@pytest.mark.slow
async def test_a_leader_cut_off_by_the_network_serves_no_linearizable_read(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3, proxied=True) as cluster, cluster.client() as client:
        await client.put("color", "old")
        deposed = await cluster.leader()
        cluster.network.isolate(deposed, {1, 2, 3})
        others = {1, 2, 3} - {deposed}
        async with cluster.client(*others) as majority, cluster.client(deposed) as minority:
            await majority.put("color", "new", timeout=20)
            with pytest.raises(raftkv.Unavailable):
                await minority.get("color", timeout=3)
            stale = await minority.get("color", level=raftkv.ReadLevel.STALE)
            assert stale is not None
            assert stale.value == b"old"
            with pytest.raises(raftkv.RaftkvError) as refused:
                await minority.put("color", "lost", timeout=3)
            assert isinstance(refused.value, raftkv.Unavailable | raftkv.OutcomeUnknown)
            cluster.network.heal()

            async def caught_up() -> bool:
                item = await minority.get("color", timeout=20)
                return item is not None and item.value in (b"new", b"lost")

            await eventually(caught_up, "the deposed leader follows the new one")


async def test_a_paused_leader_is_replaced_and_follows_when_it_wakes(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        writers = Writers(client)
        await writers.more()
        leader = await cluster.leader()
        cluster.nodes[leader].send(signal.SIGSTOP)
        others = {1, 2, 3} - {leader}
        async with cluster.client(*others) as majority:
            await majority.put("after the pause", "x", timeout=20)
            cluster.nodes[leader].send(signal.SIGCONT)
            await writers.more()
            await writers.stop()
            async with cluster.client(leader) as woken:
                assert not lost(writers, await stored(woken))
                assert await woken.get("after the pause") is not None


@pytest.mark.slow
async def test_five_nodes_serve_with_two_down_and_refuse_with_three_down(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 5) as cluster, cluster.client() as client:
        first = await cluster.leader()
        second = 1 + first % 5
        for node in (first, second):
            cluster.nodes[node].kill()
        await client.put("with two down", "works", timeout=20)
        third = 1 + second % 5
        cluster.nodes[third].kill()
        with pytest.raises((raftkv.Unavailable, raftkv.OutcomeUnknown)):
            await client.put("with three down", "refused", timeout=3)
        cluster.start(first)
        await client.put("with two down again", "works", timeout=20)
        found = await stored(client, "with two")
        assert set(found) == {"with two down", "with two down again"}


async def test_all_nodes_restart_with_everything(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        async with cluster.client() as client:
            writers = Writers(client)
            await writers.more(500)
            await writers.stop()
        for node in cluster.nodes.values():
            node.kill()
        for node_id in cluster.nodes:
            cluster.start(node_id)
        await cluster.ready()
        async with cluster.client() as client:
            assert not lost(writers, await stored(client))


async def has_compacted(node: NodeProcess, through_index: int) -> bool:
    events = (json.loads(line) for line in node.log().splitlines() if "log_compacted" in line)
    return any(event["index"] >= through_index for event in events)


async def logged(node: NodeProcess, event: str) -> None:
    """Wait for an event. A node may serve before it has logged what made it ready."""

    async def there() -> bool:
        return f'"event": "{event}"' in node.log()

    await eventually(there, f"node {node.node_id} logs {event}")


async def test_a_node_that_lags_behind_the_compacted_log_catches_up_by_snapshot(
    tmp_path: Path,
) -> None:
    settings = "--set log_compaction_bytes=1048576 --set log_retained_bytes=0"
    async with Cluster(tmp_path, 3, settings=settings) as cluster, cluster.client() as client:
        leader = await cluster.leader()
        lagging = 1 + leader % 3
        cluster.nodes[lagging].kill()
        seen = (await cluster.status(leader)).last_log_index
        block = b"x" * 10_000
        await asyncio.gather(*(client.put(f"bulk/{n:04}", block, timeout=30) for n in range(400)))
        # Further than it can have seen, on whoever leads by then.
        for node in (each for each in cluster.nodes.values() if each.running):
            await eventually(lambda node=node: has_compacted(node, seen + 1), "a compacted log")
        cluster.start(lagging)
        await cluster.ready(lagging)
        await logged(cluster.nodes[lagging], "snapshot_installed")
        async with cluster.client(lagging) as direct:
            found = await direct.range_prefix("bulk/", keys_only=True, level=raftkv.ReadLevel.STALE)
            assert found.count == 400
        # What came by snapshot must carry on like what came by log.
        cluster.nodes[lagging].kill()
        cluster.start(lagging)
        await cluster.ready(lagging)


async def test_a_graceful_stop_gives_leadership_away_without_a_failed_write(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        writers = Writers(client)
        await writers.more()
        leader = await cluster.leader()
        cluster.nodes[leader].send(signal.SIGTERM)
        assert cluster.nodes[leader].wait() == 0
        await writers.more()
        await writers.stop()
        assert "leadership_transfer" in cluster.nodes[leader].log()
        assert not writers.unknown
        assert not lost(writers, await stored(client))


async def test_the_status_of_any_node_distinguishes_live_peers_from_dead_ones(
    tmp_path: Path,
) -> None:
    reachable, unreachable = raftkv.Reachability.REACHABLE, raftkv.Reachability.UNREACHABLE
    async with Cluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        dead, observer = sorted({1, 2, 3} - {leader})
        cluster.nodes[dead].kill()
        for node_id in (leader, observer):
            living = {1, 2, 3} - {dead, node_id}

            async def told(node_id: int = node_id, living: set[int] = living) -> bool:
                status = await cluster.status(node_id)
                seen = {peer.node_id: peer.reachability for peer in status.peers}
                return seen == {dead: unreachable, **dict.fromkeys(living, reachable)}

            await eventually(told, f"node {node_id} tells who lives")

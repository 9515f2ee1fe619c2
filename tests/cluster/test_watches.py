"""Watches of real nodes that are killed, paused and partitioned during writes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.test_faults import Writers

pytestmark = pytest.mark.cluster


class Listener:
    """Records all events of a watch, and its revision."""

    def __init__(self, watch: raftkv.Watch) -> None:
        self._watch = watch
        self.events: list[raftkv.WatchEvent] = []
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self._watch:
            self.events.append(event)

    async def reach(self, revision: int) -> None:
        """Wait until it has received everything up to `revision`."""

        async def reached() -> bool:
            if self._task.done():
                self._task.result()
            return self._watch.revision >= revision

        await eventually(reached, f"the watch reaches revision {revision}", 60.0)

    async def close(self) -> None:
        await self._watch.close()
        await self._task


@asynccontextmanager
async def watched(
    cluster: Cluster, *node_ids: int
) -> AsyncIterator[tuple[Writers, list[Listener]]]:
    """Writers at work, and watches at the given nodes, of everything and of a part.

    At the end they must have heard exactly what there was.
    """
    async with cluster.client() as writing, cluster.client(*node_ids) as watching:
        everything = watching.watch(prefix="")
        a_part = watching.watch(prefix="w3/", prev_kv=True)
        await everything.started()
        await a_part.started()
        listeners = [Listener(everything), Listener(a_part)]
        writers = Writers(writing)
        await writers.more()
        yield writers, listeners
        await writers.more()
        await writers.stop()
        revision = (await writing.put("last", timeout=30)).revision
        for listener in listeners:
            await listener.reach(revision)
            await listener.close()
        heard, part = (listener.events for listener in listeners)
        async with writing.watch(prefix="", from_revision=2) as again:
            history = [await anext(again) for _ in range(revision - 1)]
    first = heard[0].revision
    assert [event.revision for event in heard] == list(range(first, revision + 1))
    assert heard == history[first - 2 :]
    assert {event.key.decode() for event in history} >= writers.acknowledged.keys()
    assert part == [event for event in heard if event.key.startswith(b"w3/")]


@pytest.mark.slow
async def test_no_gap_and_no_duplicate_when_nodes_are_killed_one_after_the_other(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, watched(cluster, 1, 2, 3) as (writers, _):
        for node_id in (await cluster.leader(), 1, 2, 3):
            cluster.nodes[node_id].kill()
            await writers.more()
            cluster.start(node_id)
            await cluster.ready(node_id)


@pytest.mark.slow
async def test_no_gap_and_no_duplicate_when_nodes_are_paused_one_after_the_other(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, watched(cluster, 1, 2, 3) as (writers, listeners):
        for node_id in (1, 2, 3):
            cluster.nodes[node_id].send(signal.SIGSTOP)
            try:
                await writers.more(20)
                await listeners[0].reach(listeners[0].events[-1].revision + 20)
            finally:
                cluster.nodes[node_id].send(signal.SIGCONT)
            await cluster.ready(node_id)


@pytest.mark.slow
async def test_no_gap_and_no_duplicate_when_its_only_node_falls_behind_and_gets_a_snapshot(
    tmp_path: Path,
) -> None:
    settings = "--set log_compaction_bytes=65536 --set log_retained_bytes=0"
    async with Cluster(tmp_path, 3, proxied=True, settings=settings) as cluster:
        lagging = (await cluster.leader()) % 3 + 1
        async with watched(cluster, lagging) as (writers, listeners):
            cluster.network.isolate(lagging, {1, 2, 3})
            for _ in range(5):
                await writers.more(1_000)
            cluster.network.heal()
            await listeners[0].reach(len(writers.acknowledged))
        assert "snapshot_installed" in cluster.nodes[lagging].log()


async def test_watches_move_at_once_from_a_node_that_stops_gracefully(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, watched(cluster, 1, 2, 3) as (writers, _):
        cluster.nodes[1].send(signal.SIGTERM)
        await writers.more()
        assert cluster.nodes[1].wait() == 0
        cluster.start(1)
        await cluster.ready(1)


async def test_the_synchronous_watch_receives_the_same_events(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        await asyncio.to_thread(watch_without_a_loop, cluster.endpoints)


def watch_without_a_loop(endpoints: str) -> None:
    with raftkv.connect_sync(endpoints) as client:
        with client.watch(prefix="k") as watch:
            client.put("k1", "a")
            client.put("k2", "b")
            client.delete("k1")
            told = [next(watch) for _ in range(3)]
            assert [(event.kind, event.key) for event in told] == [
                (raftkv.EventKind.PUT, b"k1"),
                (raftkv.EventKind.PUT, b"k2"),
                (raftkv.EventKind.DELETE, b"k1"),
            ]
            bookmark = watch.revision
            closing = threading.Timer(0.1, watch.close)
            closing.start()
            assert list(watch) == []
            closing.join()
        client.put("k3", "c")
        with client.watch(prefix="k", from_revision=bookmark + 1) as watch:
            assert [event.key for event in next(watch.batches())] == [b"k3"]
        with pytest.raises(raftkv.InvalidRequest):
            client.watch()

"""Many consumers of one client, fast and slow ones, and refused watches."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.client import Client
from raftkv.config import Settings
from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    RevisionCompacted,
    Unavailable,
)
from tests.client.watch_cluster import WatchCluster, delivered, take
from tests.kv.harness import compact, put


async def test_a_slow_consumer_misses_nothing_and_delays_no_other(
    watch_cluster: WatchCluster,
) -> None:
    client = await watch_cluster.connect(watch_buffer_bytes_max=20_000)
    async with client.watch(prefix="") as slow, client.watch(prefix="") as quick:
        for number in range(300):
            watch_cluster.write(put(b"k", b"%d" % number))
            assert (await take(quick, 1))[0].value == b"%d" % number
        assert slow._state.paused
        assert sum(batch.size_bytes for batch in slow._state.queue) < 25_000
        assert [delivered(event) for event in await take(slow, 300)] == watch_cluster.changes()
        watch_cluster.write(put(b"k", b"live again"))
        assert (await take(slow, 1))[0].value == b"live again"
    await client.close()


async def test_a_slow_consumer_whose_events_are_compacted_gets_revision_compacted(
    watch_cluster: WatchCluster,
) -> None:
    client = await watch_cluster.connect(watch_buffer_bytes_max=1_000)
    async with client.watch(prefix="") as slow:
        for number in range(20):
            watch_cluster.write(put(b"k", b"%d" % number))
            await asyncio.sleep(0.01)
        watch_cluster.write(compact(20))
        with pytest.raises(RevisionCompacted):
            await take(slow, 20)
        assert 2 < slow.revision < 20
    await client.close()


async def test_equal_watches_share_one_message_and_its_events(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    watches = [watcher.watch(prefix="k") for _ in range(100)]
    for watch in watches:
        await watch.started()
    watch_cluster.write(put(b"k1"))
    batches = [await watch.next_batch() for watch in watches]
    assert all(batch is batches[0] for batch in batches)
    (stream,) = watch_cluster.serving().streams
    (news,) = [news for reply in stream.replies for news in reply.news if news.events]
    assert len(news.watch_ids) == 100
    await watcher.close()


async def test_events_that_arrive_while_consumers_are_busy_are_delivered_together(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch(prefix="") as watch:
        for number in range(100):
            watch_cluster.write(put(b"k", b"%d" % number))
        await asyncio.sleep(0.1)
        assert len(await watch.next_batch()) == 100


async def test_all_watches_of_a_client_share_one_stream(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    watches = [watcher.watch(f"k{number}") for number in range(2_500)]
    for watch in watches:
        await watch.started()
    assert len(watch_cluster.opened) == 1
    await watcher.close()


async def test_closing_a_watch_ends_its_iteration_and_its_watcher_at_the_node(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    watch = watcher.watch("k")
    await watch.started()
    waiting = asyncio.create_task(anext(watch, None))
    await asyncio.sleep(0.1)
    await watch.close()
    assert await waiting is None
    await asyncio.sleep(0.1)
    assert watch_cluster.serving().service._synced.watcher_count == 0
    assert not watch_cluster.serving().changes._subscribers


async def test_closing_the_client_fails_its_watches(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    watch = watcher.watch("k")
    await watch.started()
    waiting = asyncio.create_task(watch.next_batch())
    await asyncio.sleep(0.1)
    await watcher.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        watcher.watch("k")


async def test_a_stream_without_watches_is_closed(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch("k"):
        pass
    await asyncio.sleep(5)
    assert not any(node.streams for node in watch_cluster.nodes.values())
    async with watcher.watch("k") as watch:
        watch_cluster.write(put(b"k"))
        await take(watch, 1)


async def test_a_watch_begins_after_what_was_acknowledged_before_it(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    watch_cluster.nodes["a:1"].behind = True
    watch_cluster.write(put(b"k", b"before"))
    watch = watcher.watch("k")
    await asyncio.sleep(0.5)
    watch_cluster.nodes["a:1"].behind = False
    watch_cluster.nodes["a:1"].advance()
    async with watch:
        watch_cluster.write(put(b"k", b"after"))
        assert (await take(watch, 1))[0].value == b"after"


async def test_without_a_majority_a_watch_does_not_start(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    for node in watch_cluster.nodes.values():
        node.cut_off = True
    with pytest.raises(DeadlineExceeded):
        async with watcher.watch("k"):
            raise AssertionError("it began")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"start": "a", "prefix": "b"},
        {"start": ""},
        {"start": "b", "end": "a"},
        {"start": "a", "end": "a"},
        {"start": "a", "from_revision": -1},
        {"start": "a", "puts": False, "deletes": False},
        {"start": 7},
    ],
)
async def test_an_invalid_watch_is_refused_at_once(
    watcher: Client, arguments: dict[str, object]
) -> None:
    with pytest.raises(InvalidRequest):
        watcher.watch(**arguments)  # type: ignore[arg-type]


async def test_a_watch_that_moves_to_a_node_without_room_continues_there_once_it_has_room(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    first, second = watcher.watch("a"), watcher.watch("b")
    await first.started()
    await second.started()
    lost = watch_cluster.serving()
    lost.crash()
    watch_cluster.settings = Settings(watches_max=1)
    for node in watch_cluster.nodes.values():
        if node is not lost:
            node.restart()
    watch_cluster.write(put(b"a"), put(b"b"))
    await take(first, 1)
    missed = asyncio.create_task(take(second, 1))
    await asyncio.sleep(5)
    assert not missed.done()
    assert len(watch_cluster.opened) < 5, "the watches that run are not moved again"
    await first.close()
    assert [event.key for event in await missed] == [b"b"]
    await second.close()


async def test_a_watch_over_the_nodes_limit_is_refused() -> None:
    watch_cluster = WatchCluster(watches_per_stream_max=2)
    client = await watch_cluster.connect()
    async with client.watch("a"), client.watch("b"):
        with pytest.raises(Overloaded):
            async with client.watch("c"):
                pass
    await client.close()

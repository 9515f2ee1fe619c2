"""Watches and clients that are dropped without being closed are ended, with a warning."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable

import pytest

from raftkv.client.client import Client
from raftkv.client.settings import ClientSettings
from raftkv.client.watch.watch import Watch
from raftkv.errors import RevisionCompacted, Unavailable
from tests.client.scripted import ScriptedCluster
from tests.client.watch_cluster import WatchCluster, take
from tests.kv.harness import compact, put


def watches_of(client: Client) -> int:
    return len(client._watches._watches)


async def watches_at_the_node(watch_cluster: WatchCluster) -> int:
    await asyncio.sleep(0.1)  # of virtual time: what was sent has arrived
    return watch_cluster.serving().service._synced.watcher_count


async def leave_by_break(client: Client, times: int = 1) -> None:
    for _ in range(times):
        async for _ in client.watch(prefix="jobs/", from_revision=2):
            break


async def test_a_watch_left_by_break_is_removed_with_a_warning_that_names_it(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    watch_cluster.write(put(b"jobs/1"))
    with pytest.warns(ResourceWarning, match=r"jobs/.*was dropped.*async with"):
        await leave_by_break(watcher)
    async with watcher.watch("another"):  # so that the stream stays
        assert await watches_at_the_node(watch_cluster) == 1
        assert watches_of(watcher) == 1


async def test_hundreds_of_watches_left_by_break_fill_neither_client_nor_node(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    watch_cluster.write(put(b"jobs/1"))
    with pytest.warns(ResourceWarning):
        await leave_by_break(watcher, times=300)
    async with watcher.watch("another"):
        assert await watches_at_the_node(watch_cluster) == 1


def test_a_watch_may_be_collected_by_any_thread() -> None:
    async def main() -> None:
        client = await WatchCluster().connect()
        held = [client.watch("k")]
        await held[0].started()
        collector = threading.Thread(target=held.clear)
        collector.start()
        collector.join()
        assert watches_of(client) == 1  # nothing of the client is changed on another thread
        await asyncio.sleep(0)
        assert watches_of(client) == 0
        await client.close()

    with pytest.warns(ResourceWarning):
        asyncio.run(main())  # threads are no part of virtual time


async def test_a_consumer_that_waits_for_events_keeps_its_watch_alive(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    seen: list[object] = []

    async def iterate() -> None:
        async for event in watcher.watch("k"):
            seen.append(event.value)

    async def batches() -> None:
        async for batch in watcher.watch("k").batches():
            seen.append(len(batch))

    async def start() -> None:
        async with watcher.watch("k"):
            seen.append("started")

    async def until_closed(consume: Callable[[], Awaitable[None]]) -> None:
        with pytest.raises(Unavailable, match="the client is closed"):
            await consume()

    # Only the futures that they wait for refer to these tasks.
    asyncio.get_running_loop().create_task(start())
    for consume in (iterate, batches):
        asyncio.get_running_loop().create_task(until_closed(consume))
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0.1)
    gc.collect()
    watch_cluster.write(put(b"k", b"v"))
    await asyncio.sleep(0.1)
    gc.collect()
    assert seen == ["started", b"v", 1]


async def test_an_iterator_of_batches_keeps_its_watch_alive(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    batches = watcher.watch("k", from_revision=2).batches()
    gc.collect()
    watch_cluster.write(put(b"k"))
    assert len(await anext(batches)) == 1
    with pytest.warns(ResourceWarning):
        del batches


async def test_a_slow_consumer_that_is_dropped_is_removed_for_good(
    watch_cluster: WatchCluster,
) -> None:
    client = await watch_cluster.connect(watch_buffer_bytes_max=1_000)
    watch = client.watch("k")
    await watch.started()
    for number in range(20):
        watch_cluster.write(put(b"k", b"%d" % number))
        await asyncio.sleep(0.01)
    assert watch._state.paused
    with pytest.warns(ResourceWarning):
        del watch
    await asyncio.sleep(0.1)
    assert watches_of(client) == 0
    await client.close()


async def test_no_warning_for_a_watch_that_has_ended(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    def drop(watch: Watch) -> None:
        del watch
        gc.collect()  # a ResourceWarning would fail the test

    closed = watcher.watch("k")
    await closed.close()
    drop(closed)
    watch_cluster.write(put(b"k"), put(b"k"), put(b"k"))
    watch_cluster.write(compact(3))
    failed = watcher.watch("k", from_revision=1)
    with pytest.raises(RevisionCompacted):
        await take(failed, 1)
    drop(failed)
    del failed
    left = watcher.watch("k")
    await watcher.close()
    drop(left)
    del left


def drop_all(clients: list[Client]) -> None:
    clients.clear()
    gc.collect()


async def test_a_client_that_is_dropped_is_closed_with_a_warning(cluster: ScriptedCluster) -> None:
    before = asyncio.all_tasks()
    clients = [await cluster.connect(5.0, ClientSettings())]
    dropped = weakref.ref(clients[0])
    await clients[0].put("k", "v")
    assert cluster.store.leases  # the session's
    with pytest.warns(ResourceWarning, match=r"a client of a:1, b:2, c:3 .*connect_sync"):
        drop_all(clients)
    await asyncio.sleep(1)
    assert dropped() is None
    assert not cluster.store.leases
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    "make",
    [
        lambda client: client.lock("k"),
        lambda client: client.election("k"),
        lambda client: client.scan_prefix("k"),
        lambda client: client.delete_prefix_in_pages("k"),
        lambda client: client.watch("k"),
        lambda client: client.lease(ttl=10),
    ],
)
async def test_locks_and_watches_keep_their_client_alive(
    cluster: ScriptedCluster, make: Callable[[Client], object]
) -> None:
    client = await cluster.connect(5.0, ClientSettings())
    kept = weakref.ref(client)
    made = make(client)
    del client
    gc.collect()
    client_again = kept()
    assert client_again is not None
    await client_again.close()
    del made


async def test_a_dropped_client_finishes_its_calls(cluster: ScriptedCluster) -> None:
    clients = [await cluster.connect(5.0, ClientSettings())]
    putting = asyncio.ensure_future(clients[0].put("k", "v"))
    await asyncio.sleep(0)
    clients.clear()
    gc.collect()
    await putting
    del putting
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert cluster.store.keys[b"k"].value == b"v"
    await asyncio.sleep(1)

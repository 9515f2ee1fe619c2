"""Many consumers of one client, quick ones and slow ones, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.client import Client
from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    RevisionCompacted,
    Unavailable,
)
from tests.client.watch_world import World, take, told
from tests.kv.harness import compact, put


async def test_a_slow_consumer_misses_nothing_and_delays_no_other(world: World) -> None:
    client = await world.connect(watch_buffer_bytes_max=20_000)
    async with client.watch(prefix="") as slow, client.watch(prefix="") as quick:
        for number in range(300):
            world.write(put(b"k", b"%d" % number))
            assert (await take(quick, 1))[0].value == b"%d" % number
        assert slow._state.paused
        assert sum(batch.size_bytes for batch in slow._state.queue) < 25_000
        assert [told(event) for event in await take(slow, 300)] == world.changes()
        world.write(put(b"k", b"live again"))
        assert (await take(slow, 1))[0].value == b"live again"
    await client.close()


async def test_a_slow_consumer_whose_events_are_compacted_gets_revision_compacted(
    world: World,
) -> None:
    client = await world.connect(watch_buffer_bytes_max=1_000)
    async with client.watch(prefix="") as slow:
        for number in range(20):
            world.write(put(b"k", b"%d" % number))
            await asyncio.sleep(0.01)
        world.write(compact(20))
        with pytest.raises(RevisionCompacted):
            await take(slow, 20)
        assert 2 < slow.revision < 20
    await client.close()


async def test_equal_watches_share_one_message_and_its_events(
    world: World, watcher: Client
) -> None:
    watches = [watcher.watch(prefix="k") for _ in range(100)]
    for watch in watches:
        await watch.started()
    world.write(put(b"k1"))
    batches = [await watch.next_batch() for watch in watches]
    assert all(batch is batches[0] for batch in batches)
    (stream,) = world.serving().streams
    (news,) = [news for reply in stream.replies for news in reply.news if news.events]
    assert len(news.watch_ids) == 100
    await watcher.close()


async def test_events_that_arrive_while_consumers_are_busy_are_delivered_together(
    world: World, watcher: Client
) -> None:
    async with watcher.watch(prefix="") as watch:
        for number in range(100):
            world.write(put(b"k", b"%d" % number))
        await asyncio.sleep(0.1)
        assert len(await watch.next_batch()) == 100


async def test_all_watches_of_a_client_share_one_stream(world: World, watcher: Client) -> None:
    watches = [watcher.watch(f"k{number}") for number in range(2_500)]
    for watch in watches:
        await watch.started()
    assert len(world.opened) == 1
    await watcher.close()


async def test_closing_a_watch_ends_its_iteration_and_its_watcher_at_the_node(
    world: World, watcher: Client
) -> None:
    watch = watcher.watch("k")
    await watch.started()
    waiting = asyncio.create_task(anext(watch, None))
    await asyncio.sleep(0.1)
    await watch.close()
    assert await waiting is None
    await asyncio.sleep(0.1)
    assert world.serving().service._hub.watches == 0
    assert not world.serving().changes._followers


async def test_closing_the_client_fails_its_watches(world: World, watcher: Client) -> None:
    watch = watcher.watch("k")
    await watch.started()
    waiting = asyncio.create_task(watch.next_batch())
    await asyncio.sleep(0.1)
    await watcher.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        watcher.watch("k")


async def test_a_stream_without_watches_is_closed(world: World, watcher: Client) -> None:
    async with watcher.watch("k"):
        pass
    await asyncio.sleep(5)
    assert not any(node.streams for node in world.nodes.values())
    async with watcher.watch("k") as watch:
        world.write(put(b"k"))
        await take(watch, 1)


async def test_a_watch_begins_after_what_was_acknowledged_before_it(
    world: World, watcher: Client
) -> None:
    world.nodes["a:1"].behind = True
    world.write(put(b"k", b"before"))
    watch = watcher.watch("k")
    await asyncio.sleep(0.5)
    world.nodes["a:1"].behind = False
    world.nodes["a:1"].advance()
    async with watch:
        world.write(put(b"k", b"after"))
        assert (await take(watch, 1))[0].value == b"after"


async def test_without_a_majority_a_watch_does_not_start(world: World, watcher: Client) -> None:
    for node in world.nodes.values():
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


async def test_a_watch_over_the_nodes_limit_is_refused() -> None:
    world = World(watches_per_stream_max=2)
    client = await world.connect()
    async with client.watch("a"), client.watch("b"):
        with pytest.raises(Overloaded):
            async with client.watch("c"):
                pass
    await client.close()

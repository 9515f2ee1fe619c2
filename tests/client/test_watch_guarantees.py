"""The guarantees of a watch, one test for each, over the client and the node's handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby

import pytest

from raftkv.client.client import Client
from raftkv.client.model.results import EventKind, WatchEvent
from raftkv.client.watch.watch import Watch
from raftkv.errors import RevisionCompacted
from raftkv.rpc.v1 import kv_pb2 as pb
from tests.client.watch_cluster import WatchCluster, delivered, take
from tests.kv.harness import compact, delete, put, transaction


def txn(*commands: pb.Command) -> pb.Command:
    return pb.Command(transaction=transaction(success=commands))


async def test_ordered_revision_by_revision_as_they_were_made(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch(prefix="") as watch:
        for number in range(50):
            watch_cluster.write(put(b"k%d" % (number % 7), b"%d" % number))
            if number % 5 == 0:
                await asyncio.sleep(0.003)
        events = await take(watch, 50)
    assert [delivered(event) for event in events] == watch_cluster.changes()


async def test_unique_no_event_is_delivered_twice_although_the_node_was_lost(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch(prefix="") as watch:
        for number in range(10):
            watch_cluster.write(put(b"k", b"%d" % number))
            await asyncio.sleep(0.0015)  # some have arrived, others are on their way
        watch_cluster.serving().crash()
        watch_cluster.write(put(b"last"))
        events = await take(watch, 11)
        await asyncio.sleep(5)
        watch_cluster.write(put(b"after"))
        events += await take(watch, 1)
    assert [delivered(event) for event in events] == watch_cluster.changes()


async def test_unique_events_after_the_streams_end_in_one_message_are_delivered_once(
    watch_cluster: WatchCluster,
) -> None:
    watcher = await watch_cluster.connect(watch_heartbeat_s=10.0)  # no progress in the same message
    async with watcher.watch(prefix="") as watch:
        node = watch_cluster.serving()
        (stream,) = node.streams
        stream.may_write.clear()
        watch_cluster.write(put(b"k", b"being sent"))
        await asyncio.sleep(0.01)
        node.cut_off = True
        # It can't start here, so all go on at another node.
        starting = watcher.watch("k")
        await asyncio.sleep(2.1)
        node.cut_off = False
        watch_cluster.write(put(b"k", b"behind the end"))
        stream.may_write.set()
        events = await take(watch, 2)
        await asyncio.sleep(5)
        watch_cluster.write(put(b"last"))
        events += await take(watch, 1)
        end, behind = stream.replies[-1].news
        assert end.HasField("ended")
        assert behind.events
    assert [delivered(event) for event in events] == watch_cluster.changes()
    await starting.close()
    await watcher.close()


async def test_atomic_a_batch_has_all_events_of_a_revision(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch(prefix="") as watch:
        for number in range(5):
            watch_cluster.write(txn(*(put(b"k%d" % each, b"%d" % number) for each in range(20))))
            await asyncio.sleep(0.0004)
        batches: list[Sequence[WatchEvent]] = []
        while sum(map(len, batches)) < 100:
            batches.append(await watch.next_batch())
    for batch in batches:
        for _, of_one_revision in groupby(batch, key=lambda event: event.revision):
            assert len(list(of_one_revision)) == 20


async def test_atomic_also_if_it_is_too_large_for_one_message(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    value = b"v" * 400_000
    async with watcher.watch(prefix="") as watch:
        watch_cluster.write(txn(*(put(b"k%d" % each, value) for each in range(8))))
        batch = await watch.next_batch()
        assert [event.key for event in batch] == [b"k%d" % each for each in range(8)]
        (stream,) = watch_cluster.serving().streams
        assert sum(news.more for reply in stream.replies for news in reply.news) > 1


async def test_reliable_nothing_is_missing_when_nodes_fail_lag_and_recover(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch(prefix="") as watch:
        for turn in range(6):
            node = watch_cluster.serving()
            for number in range(10):
                watch_cluster.write(put(b"k%d" % number, b"%d" % turn))
                await asyncio.sleep(0.0007)
            if turn % 2:
                node.crash()
            else:
                node.mute = True
            watch_cluster.write(put(b"meanwhile"))
            await asyncio.sleep(5)
            node.mute = False
            if not node.up:
                node.restart()
        events = await take(watch, 66)
    assert [delivered(event) for event in events] == watch_cluster.changes()
    assert len(set(watch_cluster.opened)) == 3


async def test_reliable_a_node_that_is_cut_off_from_the_others_is_left_for_another(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch("k") as watch:
        node = watch_cluster.serving()
        node.cut_off = True
        watch_cluster.write(put(b"k", b"new"))
        began = watch_cluster.loop.time()
        (event,) = await take(watch, 1)
        assert event.value == b"new"
        assert watch_cluster.loop.time() - began < 3.1
        assert watch_cluster.serving() is not node


async def test_reliable_events_skipped_by_a_snapshot_are_read_from_its_history(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch(prefix="") as watch:
        watch_cluster.write(put(b"k", b"live"))
        await take(watch, 1)
        node = watch_cluster.serving()
        node.behind = True
        for number in range(10):
            watch_cluster.write(put(b"k", b"%d" % number))
        node.install_snapshot()
        watch_cluster.write(put(b"k", b"live again"))
        events = await take(watch, 11)
        assert watch_cluster.serving() is node
    assert [delivered(event) for event in events] == watch_cluster.changes()[1:]


async def test_resumable_from_any_revision_that_is_not_compacted(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    for number in range(40):
        watch_cluster.write(put(b"k", b"%d" % number))
    watch_cluster.write(compact(20))
    for start in (20, 21, 33, 41):
        async with watcher.watch("k", from_revision=start) as watch:
            events = await take(watch, 42 - start)
        assert [delivered(event) for event in events] == watch_cluster.changes()[start - 2 :]


async def test_resumable_a_compacted_revision_raises_revision_compacted(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    for number in range(40):
        watch_cluster.write(put(b"k", b"%d" % number))
    watch_cluster.write(compact(20))
    with pytest.raises(RevisionCompacted) as refused:
        async with watcher.watch("k", from_revision=19) as watch:
            await anext(watch)
    assert refused.value.facts["compacted_revision"] == "20"


async def test_resumable_events_compacted_while_the_node_was_lost_are_not_skipped_silently(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch("k") as watch:
        watch_cluster.write(put(b"k", b"1"))
        await take(watch, 1)
        for node in watch_cluster.nodes.values():
            node.crash()
        for number in range(20):
            watch_cluster.write(put(b"k", b"%d" % number))
        watch_cluster.write(compact(15))
        watch_cluster.nodes["b:2"].restart()
        with pytest.raises(RevisionCompacted):
            await take(watch, 1)


async def test_resumable_from_a_future_revision_it_waits(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch("k", from_revision=5) as watch:
        for number in range(6):
            watch_cluster.write(put(b"k", b"%d" % number))
            await asyncio.sleep(0.1)
        events = await take(watch, 3)
    assert [event.revision for event in events] == [5, 6, 7]


async def test_bookmarkable_another_watch_continues_after_the_bookmark_of_the_first(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    for number in range(10):
        watch_cluster.write(txn(put(b"a", b"%d" % number), put(b"b")))
    handed_out: list[WatchEvent] = []
    bookmark = 1
    while len(handed_out) < 20:
        # The consumer dies in the midst of a revision, and has noted how far it was.
        async with watcher.watch(prefix="", from_revision=bookmark + 1) as watch:
            handed_out += await take(watch, min(3, 20 - len(handed_out)))
            bookmark = watch.revision
        handed_out = [event for event in handed_out if event.revision <= bookmark]
    assert [delivered(event) for event in handed_out] == watch_cluster.changes()


async def test_bookmarkable_the_bookmark_of_an_idle_watch_moves_on(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch("quiet", progress=True) as watch:
        revision = 0
        for number in range(10):
            revision = watch_cluster.write(put(b"other", b"%d" % number))
        (notice,) = await take(watch, 1)
        assert (notice.kind, notice.revision) == (EventKind.PROGRESS, revision)
        assert watch.revision == revision


async def test_right_previous_value_that_of_the_revision_before(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    watch_cluster.write(put(b"k", b"0"))
    async with watcher.watch("k", prev_kv=True) as live:
        watch_cluster.write(put(b"k", b"1"))
        watch_cluster.write(delete(b"k"))
        watch_cluster.write(put(b"k", b"2"))
        async with watcher.watch("k", prev_kv=True, from_revision=3) as past:
            for watch in (live, past):
                events = await take(watch, 3)
                previous = [event.prev_kv and event.prev_kv.value for event in events]
                assert previous == [b"0", b"1", None]
    async with watcher.watch("k", from_revision=3) as plain:
        assert [event.prev_kv for event in await take(plain, 3)] == [None] * 3


async def test_right_creation_flag_on_the_first_put_of_a_generation_only(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with watcher.watch("k") as live:
        for command in (put(b"k"), put(b"k"), delete(b"k"), put(b"k"), put(b"k")):
            watch_cluster.write(command)
        watch_cluster.write(compact(4))
        async with watcher.watch("k", from_revision=4) as past:
            flags = [event.created for event in await take(live, 5)]
            assert flags == [True, False, False, True, False]
            assert [event.created for event in await take(past, 3)] == flags[2:]


async def test_right_filtering_only_keys_of_the_range_and_requested_kinds(
    watch_cluster: WatchCluster, watcher: Client
) -> None:
    async with (
        watcher.watch("b") as key,
        watcher.watch("b", "d") as span,
        watcher.watch("c", b"\x00") as rest,
        watcher.watch(prefix="b") as prefix,
        watcher.watch(prefix="", deletes=False) as puts,
        watcher.watch(prefix="", puts=False) as deletes,
    ):
        for name in (b"a", b"b", b"b1", b"c", b"d", b"\xff"):
            watch_cluster.write(put(name))
            watch_cluster.write(txn(delete(name), put(b"b0" + name)))
        await asyncio.sleep(1)
        assert_delivered(watch_cluster, key, lambda k: k == b"b")
        assert_delivered(watch_cluster, span, lambda k: b"b" <= k < b"d")
        assert_delivered(watch_cluster, rest, lambda k: k >= b"c")
        assert_delivered(watch_cluster, prefix, lambda k: k.startswith(b"b"))
        for watch, deleted in ((puts, False), (deletes, True)):
            expected = watch_cluster.changes(
                lambda c, deleted=deleted: (c.record is None) is deleted
            )
            assert [delivered(event) for event in await take(watch, len(expected))] == expected


def assert_delivered(
    watch_cluster: WatchCluster, watch: Watch, wanted: Callable[[bytes], bool]
) -> None:
    expected = watch_cluster.changes(lambda change: wanted(change.key))
    batch = [event for arrived in watch._state.queue for event in arrived.events]
    assert [delivered(event) for event in batch] == expected

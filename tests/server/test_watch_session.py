"""The watchers of one stream: synced, unsynced, and the transitions between the two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from raftkv.errors import NoLeader
from raftkv.kv.changes import Change
from raftkv.kv.limits import Limits
from raftkv.kv.machine import Applied, StateMachine
from raftkv.kv.pace import Steps, run
from raftkv.kv.store import Family
from raftkv.node.change_feed import ChangeFeed
from raftkv.rpc.v1 import api_pb2
from raftkv.server.watch import unsynced
from raftkv.server.watch.session import WatchSession
from raftkv.server.watch.stream import ResponseStream
from raftkv.server.watch.synced import SyncedWatchers
from tests.callers import requester_of
from tests.kv.harness import Driver, Listener, batch, compact, entry, no_hash, put

TURNS = 500


class Node:
    """What watches need of a node."""

    def __init__(self) -> None:
        self.db = Driver()
        self.changes = ChangeFeed(self.db.machine)
        self.majority = True

    @property
    def machine(self) -> StateMachine:
        return self.db.machine

    def pin_history(self, revision: int) -> None: ...

    def read_barrier(self, deadline: float) -> asyncio.Future[None]:
        barrier: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.majority:
            barrier.set_result(None)
        else:
            barrier.set_exception(NoLeader("no majority answers"))
        return barrier

    def put(self, *keys: bytes) -> None:
        for key in keys:
            self.db.do(put(key, b"v" * 50))

    def use_short_steps(self) -> None:
        """A run of entries takes many steps from now on."""
        self.db.restart(step_units=1)
        self.changes.replace(self.db.machine)

    def begin_run(self, *keys: bytes) -> Steps[list[Applied]]:
        """A run in which these keys are put, and of which the first one was."""
        first = self.machine.applied_index + 1
        entries = [entry(first + number, 0, batch(put(key))) for number, key in enumerate(keys)]
        steps = self.machine.apply_in_steps(entries, no_hash)
        next(steps)
        return steps

    def install_snapshot(self, *keys: bytes) -> None:
        """The state of another node, on which these keys were put as well."""
        other = Driver()
        other.store.write(
            {family: dict(self.db.store.scan(family, b"", None)) for family in Family}
        )
        other.restart()
        for key in keys:
            other.do(put(key))
        self.db = other
        self.changes.replace(other.machine)


class Bench:
    """A watch stream on a node, and the responses sent on it."""

    def __init__(self, *, buffer_bytes: int = 1 << 20, watches_max: int = 100) -> None:
        self.node = Node()
        self.synced = SyncedWatchers(self.node, 60.0)  # type: ignore[arg-type]
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.responses: list[api_pb2.WatchNews] = []
        self.stream = ResponseStream(self._write, api_pb2.ReplyHeader, buffer_bytes, 0.0)
        self.session = WatchSession(
            self.node,  # type: ignore[arg-type]
            self.synced,
            self.stream,
            requester_of(self.node, "Watch"),
            Limits(),
            watches_max=watches_max,
            watches_per_stream_max=50,
        )
        self.tasks = [
            asyncio.create_task(self.stream.run()),
            asyncio.create_task(self.session.run()),
        ]

    async def _write(self, message: bytes) -> None:
        await self.may_write.wait()
        self.responses += api_pb2.WatchReply.FromString(message).news

    async def watch(self, watch_id: int, key: bytes = b"k", **fields: object) -> None:
        create = api_pb2.WatchCreate(watch_id=watch_id, key=key, **fields)  # type: ignore[arg-type]
        self.session.handle(api_pb2.WatchRequest(creates=[create]))
        await self.settle()

    async def settle(self) -> None:
        """Run the event loop until only timers are left."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def revisions(self, watch_id: int) -> list[int]:
        return [
            event.kv.mod_revision
            for response in self.responses
            if watch_id in response.watch_ids
            for event in response.events
        ]

    def ended(self, watch_id: int) -> str | None:
        found = [n.ended for n in self.responses if watch_id in n.watch_ids and n.HasField("ended")]
        return found[0].reason if found else None

    def progress(self, watch_id: int) -> int:
        """The revision up to which a client takes this watch to be complete."""
        created, revision = False, 0
        for response in self.responses:
            addressed = watch_id in response.watch_ids
            created |= addressed and response.created
            if created and not response.more and (addressed or not response.watch_ids):
                revision = max(revision, response.revision)
        return revision

    def is_synced(self, watch_id: int) -> bool:
        return watch_id not in self.session._group_of


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await close(made)


async def close(bench: Bench) -> None:
    for task in bench.tasks:
        task.cancel()
    await asyncio.gather(*bench.tasks, return_exceptions=True)
    bench.session.close()
    assert bench.synced.watcher_count == 0
    assert not bench.node.changes._subscribers


async def test_a_node_without_synced_watchers_does_not_follow_its_change_feed(bench: Bench) -> None:
    assert not bench.node.changes._subscribers
    await bench.watch(1)
    assert bench.node.changes._subscribers
    bench.session.handle(api_pb2.WatchRequest(cancels=[1]))
    assert not bench.node.changes._subscribers


async def test_a_write_during_a_read_of_history_is_sent_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsynced, "CHANGES_PER_TURN", 1)
    monkeypatch.setattr(unsynced, "REVISIONS_PER_STEP", 2)
    bench.node.put(*[b"k"] * 10)
    bench.session.handle(
        api_pb2.WatchRequest(creates=[api_pb2.WatchCreate(watch_id=1, key=b"k", start_revision=2)])
    )
    for _ in range(40):
        bench.node.put(b"k")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await bench.settle()
    assert bench.is_synced(1)
    assert bench.revisions(1) == list(range(2, 52))


async def test_a_watcher_added_during_a_step_of_an_unsynced_group_misses_no_event(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsynced, "CHANGES_PER_TURN", 1)
    bench.node.put(*[b"k"] * 20)
    first, second = (
        api_pb2.WatchCreate(watch_id=watch_id, key=b"k", start_revision=start)
        for watch_id, start in ((1, 2), (2, 4))
    )
    bench.session.handle(api_pb2.WatchRequest(creates=[first]))
    for _ in range(10):
        await asyncio.sleep(0)
    bench.session.handle(api_pb2.WatchRequest(creates=[second]))
    await bench.settle()
    assert bench.revisions(1) == list(range(2, 22))
    assert bench.revisions(2) == list(range(4, 22))


async def test_compaction_during_a_step_ends_the_watches_that_need_the_compacted_history(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsynced, "CHANGES_PER_TURN", 1)
    bench.node.put(*[b"k"] * 20)
    bench.session.handle(
        api_pb2.WatchRequest(
            creates=[
                api_pb2.WatchCreate(watch_id=1, key=b"k", start_revision=5),
                api_pb2.WatchCreate(watch_id=2, key=b"k", start_revision=15),
            ]
        )
    )
    for _ in range(6):
        await asyncio.sleep(0)
    bench.node.db.do(compact(15))
    bench.node.db.idle(5)
    await bench.settle()
    assert bench.revisions(1) == []
    assert bench.ended(1) == "REVISION_COMPACTED"
    assert bench.revisions(2) == list(range(15, 22))


async def test_a_snapshot_during_a_step_makes_the_group_read_the_new_state(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsynced, "CHANGES_PER_TURN", 1)
    bench.node.put(*[b"k"] * 10)
    bench.session.handle(
        api_pb2.WatchRequest(creates=[api_pb2.WatchCreate(watch_id=1, key=b"k", start_revision=2)])
    )
    for _ in range(6):
        await asyncio.sleep(0)
    bench.node.install_snapshot(b"k", b"k")
    await bench.settle()
    assert bench.revisions(1) == list(range(2, 14))


async def test_a_synced_watcher_receives_the_changes_that_a_snapshot_skipped(bench: Bench) -> None:
    await bench.watch(1)
    bench.node.put(b"k")
    bench.node.install_snapshot(b"k", b"other", b"k")
    bench.node.put(b"k")
    await bench.settle()
    assert bench.is_synced(1)
    assert bench.revisions(1) == [2, 3, 5, 6]


async def test_a_watcher_that_becomes_synced_within_a_run_receives_all_changes_of_the_run(
    bench: Bench,
) -> None:
    bench.node.use_short_steps()
    steps = bench.node.begin_run(b"k", b"other", b"k")
    await bench.watch(1)
    await bench.watch(2, key=b"other", start_revision=3)
    assert bench.is_synced(1)
    assert not bench.is_synced(2)
    run(steps)
    bench.node.put(b"k")
    await bench.settle()
    assert [bench.revisions(watch_id) for watch_id in (1, 2)] == [[2, 4, 5], [3]]


async def test_a_subscription_within_a_run_takes_no_changes_from_another_subscriber(
    bench: Bench,
) -> None:
    bench.node.use_short_steps()
    await bench.watch(1)
    steps = bench.node.begin_run(b"k", b"other", b"k")
    reported: list[Change] = []
    other = Listener(reported.extend)
    bench.node.changes.follow(other)
    run(steps)
    await bench.settle()
    assert bench.revisions(1) == [2, 4]
    assert [change.revision for change in reported] == [2, 3, 4]
    bench.node.changes.leave(other)


async def test_a_watch_from_a_future_revision_receives_no_earlier_event(bench: Bench) -> None:
    bench.node.put(b"k")
    await bench.watch(1, start_revision=6)
    await bench.watch(2, start_revision=1)
    for _ in range(6):
        bench.node.put(b"k")
        await bench.settle()
    assert bench.revisions(1) == [6, 7, 8]
    assert bench.revisions(2) == [2, 3, 4, 5, 6, 7, 8]


async def test_a_watch_from_a_future_revision_in_a_group_with_a_past_one_receives_no_earlier_event(
    bench: Bench,
) -> None:
    bench.node.put(b"k")
    past, to_come = (
        api_pb2.WatchCreate(watch_id=watch_id, key=b"k", start_revision=start)
        for watch_id, start in ((1, 1), (2, 5))
    )
    bench.session.handle(api_pb2.WatchRequest(creates=[past, to_come]))
    await bench.settle()
    assert bench.is_synced(1)
    for _ in range(6):
        bench.node.put(b"k")
        await bench.settle()
    assert bench.revisions(2) == [5, 6, 7, 8]
    assert bench.is_synced(2)


async def test_a_group_none_of_which_becomes_synced_sends_no_progress_for_other_watches(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsynced, "REVISIONS_PER_STEP", 4)
    monkeypatch.setattr(unsynced, "JOIN_REVISIONS_MAX", 12)
    bench.node.put(*[b"k"] * 40)
    async with bench.synced.history_lock:
        for watch_id, start in ((1, 2), (2, 38), (3, 45)):
            await bench.watch(watch_id, start_revision=start)
        bench.session.handle(api_pb2.WatchRequest(cancels=[2]))
    for _ in range(TURNS):
        await asyncio.sleep(0)
        assert bench.progress(1) <= max([1, *bench.revisions(1)])
    assert bench.is_synced(1)
    assert bench.revisions(1) == list(range(2, 42))


async def test_a_slow_stream_is_bounded_and_its_watchers_become_unsynced() -> None:
    bench = Bench(buffer_bytes=2_000)
    await bench.watch(1)
    bench.may_write.clear()
    for _ in range(200):
        bench.node.put(b"k")
    assert bench.stream._bytes < 3_000
    assert not bench.is_synced(1)
    bench.may_write.set()
    await bench.settle()
    assert bench.is_synced(1)
    assert bench.revisions(1) == list(range(2, 202))
    await close(bench)


async def test_a_slow_stream_delays_no_other_stream(bench: Bench) -> None:
    slow = Bench(buffer_bytes=500)
    slow.session.close()
    for task in slow.tasks:
        task.cancel()
    slow.session = WatchSession(
        bench.node,  # type: ignore[arg-type]
        bench.synced,
        slow.stream,
        requester_of(bench.node, "Watch"),
        Limits(),
        watches_max=100,
        watches_per_stream_max=50,
    )
    await slow.watch(1)
    await bench.watch(1)
    slow.may_write.clear()
    for revision in range(2, 50):
        bench.node.put(b"k")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bench.revisions(1)[-1] == revision
    slow.session.close()


async def test_requested_progress_follows_the_events_and_needs_a_read_barrier(
    bench: Bench,
) -> None:
    await bench.watch(1)
    bench.node.put(b"k", b"other")
    bench.session.handle(api_pb2.WatchRequest(progress=True))
    await bench.settle()
    assert [(list(n.watch_ids), n.revision) for n in bench.responses[-2:]] == [([1], 2), ([], 3)]
    bench.node.majority = False
    count = len(bench.responses)
    bench.session.handle(api_pb2.WatchRequest(progress=True))
    await bench.settle()
    assert len(bench.responses) == count


async def test_progress_of_a_stream_is_that_of_its_slowest_watch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.node.put(*[b"k"] * 9)
    async with bench.synced.history_lock:
        await bench.watch(1, start_revision=4)
        bench.session.handle(api_pb2.WatchRequest(progress=True))
        await bench.settle()
        assert bench.responses[-1].revision == 3
    await bench.settle()
    assert bench.revisions(1) == list(range(4, 11))


async def test_watches_with_progress_notify_receive_progress_at_intervals(bench: Bench) -> None:
    await bench.watch(1, progress_notify=True)
    await bench.watch(2)
    bench.node.put(b"other")
    bench.session.notify_progress()
    await bench.settle()
    assert (list(bench.responses[-1].watch_ids), bench.responses[-1].revision) == ([1], 2)


async def test_a_watch_whose_start_is_not_confirmed_receives_no_progress(bench: Bench) -> None:
    barrier: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    bench.node.read_barrier = lambda deadline: barrier  # type: ignore[method-assign]
    await bench.watch(1, progress_notify=True)
    bench.session.notify_progress()
    await bench.settle()
    assert not bench.responses
    barrier.set_result(None)
    await bench.settle()
    assert [response.created for response in bench.responses] == [True]


async def test_a_watch_is_refused_if_no_majority_confirms_its_start(bench: Bench) -> None:
    bench.node.majority = False
    await bench.watch(1)
    assert bench.ended(1) == "NO_LEADER"
    assert bench.synced.watcher_count == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"key": b""}, "INVALID_REQUEST"),
        ({"key": b"k" * 9_000}, "TOO_LARGE"),
        ({"key": b"k", "range_end": b"a"}, "INVALID_REQUEST"),
        ({"key": b"k", "range_end": b"k"}, "INVALID_REQUEST"),
        ({"key": b"k", "start_revision": -1}, "INVALID_REQUEST"),
        ({"key": b"k", "no_put": True, "no_delete": True}, "INVALID_REQUEST"),
    ],
)
async def test_a_watch_that_can_never_receive_an_event_is_refused(
    bench: Bench, fields: dict[str, object], reason: str
) -> None:
    await bench.watch(1, **fields)  # type: ignore[arg-type]
    assert bench.ended(1) == reason
    assert bench.synced.watcher_count == 0


async def test_an_id_in_use_is_refused_and_its_watch_goes_on(bench: Bench) -> None:
    await bench.watch(1)
    await bench.watch(1, b"other")
    assert bench.ended(1) == "INVALID_REQUEST"
    bench.node.put(b"k", b"other")
    await bench.settle()
    assert bench.revisions(1) == [2]


@pytest.mark.parametrize(("watches_max", "taken"), [(100, 50), (7, 7)])
async def test_watches_are_bounded_per_stream_and_per_node(watches_max: int, taken: int) -> None:
    bench = Bench(watches_max=watches_max)
    for watch_id in range(taken):
        await bench.watch(watch_id)
    await bench.watch(99)
    assert bench.ended(99) == "OVERLOADED"
    bench.session.handle(api_pb2.WatchRequest(cancels=[0]))
    await bench.watch(100)
    assert bench.ended(100) is None
    await close(bench)


async def test_a_cancelled_watch_whose_id_is_used_again_starts_once(bench: Bench) -> None:
    first = api_pb2.WatchCreate(watch_id=1, key=b"a")
    second = api_pb2.WatchCreate(watch_id=1, key=b"b")
    bench.session.handle(api_pb2.WatchRequest(creates=[first]))
    bench.session.handle(api_pb2.WatchRequest(cancels=[1]))
    bench.session.handle(api_pb2.WatchRequest(creates=[second]))
    await bench.settle()
    bench.node.put(b"a", b"b")
    await bench.settle()
    assert bench.revisions(1) == [3]

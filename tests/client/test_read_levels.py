"""What a client requests at each read level, the revision it has seen, and the fallback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from raftkv.client.client import Client, connect
from raftkv.client.connection.link import PIPELINE, WATCH, LinkStream
from raftkv.client.model import op, when
from raftkv.client.model.read_levels import ReadLevel, bounded
from raftkv.client.settings import ClientSettings
from raftkv.errors import DeadlineExceeded, InvalidRequest, NoLeader, RaftkvError, TooStale
from raftkv.rpc.v1 import api_pb2, kv_pb2
from tests.client.lock_cluster import LockCluster, LockLink
from tests.client.scripted import ScriptedCluster, ScriptedLink
from tests.client.watch_cluster import Link, WatchCluster, take
from tests.kv.harness import put

Read = Callable[[Client], Awaitable[object]]


def last(cluster: ScriptedCluster) -> api_pb2.ReadBatch:
    return cluster.reads[-1].request.reads


async def test_each_level_is_asked_for_by_its_name(
    client: Client, cluster: ScriptedCluster
) -> None:
    asked = []
    for level in (*ReadLevel, bounded(0.25)):
        await client.get("k", level=level)
        asked.append((last(cluster).level, last(cluster).max_staleness_ms))
    assert asked == [
        (api_pb2.READ_LEVEL_LINEARIZABLE, 0),
        (api_pb2.READ_LEVEL_LEADER_LEASE, 0),
        (api_pb2.READ_LEVEL_SESSION, 0),
        (api_pb2.READ_LEVEL_STALE, 0),
        (api_pb2.READ_LEVEL_BOUNDED, 250),
    ]


async def test_reads_of_different_bounds_share_no_message(
    client: Client, cluster: ScriptedCluster
) -> None:
    bounds = [0.1, 0.2, 0.1]
    await asyncio.gather(*(client.get("k", level=bounded(bound)) for bound in bounds))
    batches = [seen.request.reads for seen in cluster.reads]
    assert {(each.max_staleness_ms, len(each.ranges)) for each in batches} == {(100, 2), (200, 1)}


async def test_ranges_and_transactions_share_no_message_as_their_answers_come_sorted(
    client: Client, cluster: ScriptedCluster
) -> None:
    await asyncio.gather(client.read_txn(), client.get("k"), client.read_txn(), client.get("j"))
    batches = [seen.request.reads for seen in cluster.reads]
    assert sorted((len(each.ranges), len(each.transactions)) for each in batches) == [
        (0, 2),
        (2, 0),
    ]


async def test_a_session_read_asks_for_what_the_client_has_written(
    client: Client, cluster: ScriptedCluster
) -> None:
    written = await client.put("k", "v")
    await client.get("k", level=ReadLevel.SESSION)
    assert last(cluster).min_revision == written.revision


async def test_a_session_read_asks_for_what_the_client_has_read_anywhere(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.revision = 70
    await client.get("k", level=ReadLevel.STALE)
    cluster.nodes[cluster.reads[-1].node].kill()  # the next one is asked of another node
    await client.get("k", level=ReadLevel.SESSION)
    assert cluster.reads[-1].node != cluster.reads[0].node
    assert last(cluster).min_revision == 70


class WatchedLink:
    """Watches at a node of `WatchCluster`, everything else at one of the scripted cluster."""

    def __init__(self, scripted: ScriptedLink, watched: Link) -> None:
        self._scripted = scripted
        self._watched = watched
        self.call = scripted.call
        self.close = scripted.close

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = PIPELINE,
        token: str = "",
    ) -> LinkStream:
        if method == WATCH:
            return self._watched.open(on_message, on_end, method)
        return self._scripted.open(on_message, on_end)


@pytest.fixture
async def watching(cluster: ScriptedCluster, watch_cluster: WatchCluster) -> AsyncIterator[Client]:
    def link(address: str) -> WatchedLink:
        return WatchedLink(cluster.link(address), Link(watch_cluster.nodes[address]))

    async with connect(list(cluster.nodes), links=link) as client:
        yield client


async def test_a_session_read_asks_for_what_a_watch_has_delivered(
    watching: Client, cluster: ScriptedCluster, watch_cluster: WatchCluster
) -> None:
    async with watching.watch("k") as watch:
        watch_cluster.write(put(b"k", b"1"))
        delivered = (await take(watch, 1))[-1].revision
        watch_cluster.write(put(b"k", b"2"))
        await asyncio.sleep(0.1)  # it has arrived, and is not consumed yet
        await watching.get("k", level=ReadLevel.SESSION)
        assert last(cluster).min_revision == delivered
        delivered = (await watch.next_batch())[-1].revision
        await watching.get("k", level=ReadLevel.SESSION)
        assert last(cluster).min_revision == delivered


async def test_a_session_read_asks_for_the_bookmark_of_an_idle_watch(
    watching: Client, cluster: ScriptedCluster, watch_cluster: WatchCluster
) -> None:
    watch_cluster.write(put(b"other"))
    async with watching.watch("k") as watch:
        await watching.get("k", level=ReadLevel.SESSION)
        assert last(cluster).min_revision == watch.revision == 2
        watch_cluster.write(put(b"other"))
        await asyncio.sleep(5.0)
        await watching.get("k", level=ReadLevel.SESSION)
        assert last(cluster).min_revision == watch.revision == 3


async def test_a_session_read_asks_for_no_revision_that_a_watch_only_waits_for(
    watching: Client, cluster: ScriptedCluster
) -> None:
    async with watching.watch("k", from_revision=1_000):
        await watching.get("k", level=ReadLevel.SESSION)
    assert last(cluster).min_revision <= 1


async def test_a_session_read_asks_for_what_an_answer_outside_the_pipeline_has_shown(
    client: Client, cluster: ScriptedCluster
) -> None:
    shown = api_pb2.LockInfoReply(header=api_pb2.ReplyHeader(revision=70)).SerializeToString()
    cluster.unary = lambda node, method: shown  # type: ignore[method-assign]
    await client.lock_info("n")
    await client.get("k", level=ReadLevel.SESSION)
    assert last(cluster).min_revision == 70
    await client.read_txn(level=ReadLevel.SESSION)
    assert last(cluster).min_revision == 70


class RevisionOnWaitLink(LockLink):
    """A link whose answer to a wait says from which revision it is."""

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        reply = await super().call(method, request, timeout_s)
        if not method.endswith("/Wait"):
            return reply
        header = api_pb2.ReplyHeader(revision=self._cluster.machine.revision)
        return api_pb2.LockWaitReply(header=header).SerializeToString()


class RevisionOnWaitCluster(LockCluster):
    """A cluster of such links."""

    def link(self, address: str) -> RevisionOnWaitLink:
        return RevisionOnWaitLink(self.hosts[address], self)


async def test_a_session_read_asks_for_what_the_last_holder_of_a_lock_had_written() -> None:
    cluster = RevisionOnWaitCluster("a:1", "b:2", "c:3")
    last_holder = await cluster.connect(5.0, ClientSettings())
    holder = await cluster.connect(5.0, ClientSettings())
    async with last_holder.lock("n"):
        waiting = asyncio.ensure_future(holder.lock("n").acquire())
        await asyncio.sleep(0.1)
        cluster.store.run(put=kv_pb2.Put(key=b"k"))
        written = cluster.machine.revision
    await waiting
    await holder.get("k", level=ReadLevel.SESSION)
    assert last(cluster).min_revision > written
    for client in (last_holder, holder):
        await client.close()


async def test_answers_have_their_node_and_maximal_age(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    cluster.term, cluster.staleness_ms = 9, 1_500
    reading = await client.read("k", level=ReadLevel.STALE)
    assert reading.kv is not None
    assert reading.kv.value == b"v"
    assert (reading.node, reading.term, reading.revision) == (1, 9, 2)
    assert (reading.staleness, reading.fallback) == (1.5, False)
    found = await client.range_prefix("k", level=ReadLevel.STALE)
    assert (found.node, found.term, found.revision, found.staleness) == (1, 9, 2, 1.5)
    run = await client.read_txn(level=ReadLevel.STALE)
    assert (run.node, run.term, run.revision, run.staleness) == (1, 9, 2, 1.5)


async def test_an_unknown_age_is_none_and_not_zero(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.staleness_ms = -1
    assert (await client.read("k", level=ReadLevel.STALE)).staleness is None


async def test_pages_after_the_first_need_only_a_node_that_has_their_revision(
    client: Client, cluster: ScriptedCluster
) -> None:
    await asyncio.gather(*(client.put(f"k{i}") for i in range(25)))
    cluster.store.reply_keys_max = 10
    before = len(cluster.reads)
    found = await client.range_prefix("k", level=ReadLevel.STALE)
    assert found.count == 25
    pages = [seen.request.reads for seen in cluster.reads[before:]]
    later = [page for page in pages if page.ranges[0].revision]
    assert len(later) >= 2
    assert {(page.level, page.min_revision) for page in later} == {(api_pb2.READ_LEVEL_SESSION, 26)}


async def test_later_pages_ask_for_the_revision_of_the_first_not_for_what_was_seen_elsewhere(
    client: Client, cluster: ScriptedCluster
) -> None:
    await asyncio.gather(*(client.put(f"k{i}") for i in range(25)))
    cluster.store.reply_keys_max = 10
    cluster.store.revision = 70
    await client.get("k", level=ReadLevel.STALE)
    cluster.store.revision = 26  # another node, which is behind
    no_majority(cluster)
    found = await client.range_prefix("k", level=ReadLevel.STALE)
    assert (len(found.kvs), found.revision) == (25, 26)
    fallen_back = await client.range_prefix("k", fallback="stale", timeout=2.0)
    assert (len(fallen_back.kvs), fallen_back.fallback) == (25, True)


async def test_later_pages_of_a_stale_range_do_not_wait_behind_calls_that_need_a_majority(
    client: Client, cluster: ScriptedCluster
) -> None:
    await asyncio.gather(*(client.put(f"k{i}") for i in range(25)))
    cluster.store.reply_keys_max = 10
    no_majority(cluster)
    others = [asyncio.ensure_future(client.get("k", timeout=30.0)) for _ in range(50)]
    await asyncio.sleep(1.0)
    found = await client.range_prefix("k", level=ReadLevel.STALE, timeout=5.0)
    assert len(found.kvs) == 25
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("bad", [0, -1.0, float("nan")])
async def test_a_bound_that_nothing_meets_is_refused(bad: float) -> None:
    with pytest.raises(InvalidRequest, match="LINEARIZABLE"):
        bounded(bad)


async def test_a_read_transaction_that_would_write_is_never_sent(
    client: Client, cluster: ScriptedCluster
) -> None:
    nested = op.transaction([when.exists("a")], [op.delete("a")])
    with pytest.raises(InvalidRequest, match="delete_range"):
        await client.read_txn(success=[op.get("a"), nested])
    assert not cluster.reads


def no_majority(cluster: ScriptedCluster) -> None:
    """Every node answers from what it has, and refuses reads that need more."""

    def refuse(reads: api_pb2.ReadBatch) -> NoLeader | None:
        session = reads.level == api_pb2.READ_LEVEL_SESSION
        has_it = session and reads.min_revision <= cluster.store.revision
        stale = reads.level == api_pb2.READ_LEVEL_STALE
        return None if stale or has_it else NoLeader("no majority")

    cluster.refuse_reads = refuse


READS: dict[str, Read] = {
    "read": lambda client: client.read("k", fallback="stale", timeout=2.0),
    "range": lambda client: client.range("k", "l", fallback="stale", timeout=2.0),
    "prefix": lambda client: client.range_prefix("k", fallback="stale", timeout=2.0),
    "read_txn": lambda client: client.read_txn(fallback="stale", timeout=2.0),
    "bounded": lambda client: client.read("k", level=bounded(0.1), fallback="stale", timeout=2.0),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_without_a_majority_the_fallback_comes_in_time_and_is_marked(
    client: Client, cluster: ScriptedCluster, read: Read
) -> None:
    await client.put("k", "v")
    no_majority(cluster)
    cluster.staleness_ms = 60_000
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    answer = await read(client)
    assert loop.time() - asked_at < 2.0
    assert answer.fallback  # type: ignore[attr-defined]
    assert answer.staleness == 60.0  # type: ignore[attr-defined]


async def test_the_fallback_does_not_wait_behind_calls_that_need_a_majority(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    no_majority(cluster)
    others = [asyncio.ensure_future(client.get("k", timeout=30.0)) for _ in range(50)]
    found = await client.get("k", fallback="stale", timeout=2.0)
    assert found is not None
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_with_a_majority_there_is_no_fallback(client: Client) -> None:
    assert not (await client.read("k", fallback="stale")).fallback


async def test_a_fallback_that_is_not_stale_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="fallback"):
        await client.get("k", fallback="fast")  # type: ignore[arg-type]


async def test_a_bounded_read_that_times_out_is_too_stale_and_others_exceed_their_deadline(
    client: Client, cluster: ScriptedCluster
) -> None:
    no_majority(cluster)
    with pytest.raises(TooStale, match=r"0\.2"):
        await client.get("k", level=bounded(0.2), timeout=1.0)
    with pytest.raises(DeadlineExceeded):
        await client.get("k", timeout=1.0)

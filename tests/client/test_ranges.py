"""Ranges that do not fit one reply come back whole, in order, from one revision."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.api import paging
from raftkv.client.client import Client
from raftkv.client.model.op import Sort
from raftkv.client.model.read_levels import ReadLevel
from raftkv.client.requests import prefix_end
from raftkv.errors import DeadlineExceeded, InvalidRequest, NoLeader, RevisionCompacted
from raftkv.rpc.v1 import api_pb2
from tests.client.scripted import ScriptedCluster, failure_of

KEYS = [f"k{i:03}".encode() for i in range(25)]


@pytest.fixture
async def filled(client: Client, cluster: ScriptedCluster) -> Client:
    await asyncio.gather(*(client.put(key, key[::-1]) for key in KEYS))
    cluster.store.reply_keys_max = 10
    return client


async def test_a_range_too_large_for_a_reply_comes_in_pages_of_one_revision(
    filled: Client, cluster: ScriptedCluster
) -> None:
    found = await filled.range_prefix("k")
    assert [kv.key for kv in found.kvs] == KEYS
    assert (found.count, found.more, found.revision) == (25, False, 26)
    pages = [seen.request.reads.ranges[0] for seen in cluster.reads]
    assert {page.revision for page in pages if page.key > b"k"} == {26}
    assert all(page.page for page in pages[1:]), "no page costs the rest of the range"


async def test_a_limit_holds_across_pages(filled: Client) -> None:
    found = await filled.range("k", "l", limit=13)
    assert [kv.key for kv in found.kvs] == KEYS[:13]
    assert found.more


async def test_a_sorted_range_too_large_for_a_reply_is_sorted_by_the_client(filled: Client) -> None:
    found = await filled.range_prefix("k", descending=True, limit=12)
    assert [kv.key for kv in found.kvs] == KEYS[::-1][:12]
    by_value = await filled.range_prefix("k", sort=Sort.VALUE)
    assert [kv.value for kv in by_value.kvs] == sorted(key[::-1] for key in KEYS)


async def test_a_range_of_more_rows_than_one_read_may_scan_is_read_in_pages(
    filled: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.read_rows_max = 4
    assert [kv.key for kv in (await filled.range_prefix("k")).kvs] == KEYS
    counted = await filled.range_prefix("k", count_only=True)
    assert (counted.kvs, counted.count, counted.more) == ((), 25, False)
    last = await filled.range_prefix("k", descending=True, limit=3)
    assert ([kv.key for kv in last.kvs], last.count, last.more) == (KEYS[:-4:-1], 25, True)


async def test_a_sorted_range_with_a_limit_holds_not_much_more_than_that(
    filled: Client, cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "SORTED_MIN", 0)
    cluster.store.read_rows_max = 4
    by_value = await filled.range_prefix("k", sort=Sort.VALUE, limit=3)
    assert [kv.value for kv in by_value.kvs] == sorted(key[::-1] for key in KEYS)[:3]
    assert (by_value.count, by_value.more) == (25, True)


@pytest.mark.parametrize(("limit", "more"), [(13, True), (24, True), (25, False), (26, False)])
async def test_the_count_is_of_the_whole_range_also_where_pages_stop_at_the_limit(
    filled: Client, cluster: ScriptedCluster, limit: int, more: bool
) -> None:
    cluster.store.read_rows_max = 4
    found = await filled.range("k", "l", limit=limit)
    assert [kv.key for kv in found.kvs] == KEYS[:limit]
    assert (found.count, found.more, found.next_key) == (25, more, b"")
    counting = [page for seen in cluster.reads for page in seen.request.reads.ranges]
    assert sum(page.count_only for page in counting) == -(-(25 - min(limit, 25)) // 4)


async def test_a_sorted_range_in_pages_shows_no_values_if_none_are_wanted(
    filled: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.read_rows_max = 4
    found = await filled.range_prefix("k", sort=Sort.VALUE, keys_only=True, limit=12)
    assert [kv.key for kv in found.kvs] == sorted(KEYS, key=lambda key: key[::-1])[:12]
    assert {kv.value for kv in found.kvs} == {b""}


async def test_a_range_that_times_out_reports_how_many_keys_were_read(
    filled: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.read_rows_max = 4
    cluster.refuse_reads = lambda reads: (
        NoLeader("no majority") if reads.ranges and reads.ranges[0].key > KEYS[10] else None
    )
    with pytest.raises(DeadlineExceeded, match=r"12 keys were read in time.*scan"):
        await filled.range_prefix("k", timeout=0.5)


async def test_pages_start_afresh_when_their_revision_is_compacted(
    filled: Client, cluster: ScriptedCluster
) -> None:
    read, compacted = cluster.store.read, [RevisionCompacted("gone", compacted_revision=30)]

    def compacting(request):  # type: ignore[no-untyped-def]
        result = read(request)
        if request.revision and compacted:
            result.failure.CopyFrom(failure_of(compacted.pop()))
        return result

    cluster.store.read = compacting  # type: ignore[method-assign]
    found = await filled.range_prefix("k")
    assert [kv.key for kv in found.kvs] == KEYS


async def test_stale_reads_have_their_level_and_share_no_message_with_others(
    filled: Client, cluster: ScriptedCluster
) -> None:
    await asyncio.gather(filled.get("k001"), filled.get("k002", level=ReadLevel.STALE))
    levels = [seen.request.reads.level for seen in cluster.reads[-2:]]
    assert levels == [api_pb2.READ_LEVEL_LINEARIZABLE, api_pb2.READ_LEVEL_STALE]


async def test_an_empty_prefix_means_every_key_and_is_refused_for_deletions(
    filled: Client, cluster: ScriptedCluster
) -> None:
    assert (await filled.range_prefix("")).count == 25
    with pytest.raises(InvalidRequest, match="delete_range"):
        await filled.delete_prefix("")


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")]
)
def test_the_end_of_a_prefix_is_the_next_key_that_lacks_it(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


async def test_a_prefix_names_a_range_as_it_does_for_a_watch(filled: Client) -> None:
    assert await filled.range(prefix="k01") == await filled.range_prefix("k01")
    assert [kv.key async for kv in filled.scan(prefix="k01")] == KEYS[10:20]
    assert (await filled.delete_range(prefix="k01")).deleted == 10
    pages = [page.deleted async for page in filled.delete_range_in_pages(prefix="k02", page_keys=3)]
    assert sum(pages) == 5
    assert [kv.key for kv in (await filled.range(prefix="")).kvs] == KEYS[:10]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"prefix": "k", "start": "a"}, "prefix"),
        ({"prefix": "k", "end": "a"}, "prefix"),
        ({"start": "k"}, "end"),
        ({"end": "k"}, "start"),
        ({}, "start"),
    ],
)
async def test_a_range_is_given_by_both_its_ends_or_by_a_prefix(
    client: Client, arguments: dict[str, str], field: str
) -> None:
    for method in (client.range, client.delete_range):
        with pytest.raises(InvalidRequest) as refused:
            await method(**arguments)  # type: ignore[arg-type]
        assert refused.value.facts["field"] == field
    for paged in (client.scan, client.delete_range_in_pages):
        with pytest.raises(InvalidRequest):
            paged(**arguments)  # type: ignore[arg-type]


async def test_an_empty_prefix_deletes_nothing(filled: Client) -> None:
    with pytest.raises(InvalidRequest, match="prefix is empty"):
        await filled.delete_range(prefix="")
    with pytest.raises(InvalidRequest, match="prefix is empty"):
        filled.delete_range_in_pages(prefix="")

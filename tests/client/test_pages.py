"""Ranges of any size are read and deleted page by page, and interrupted ones can be continued."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raftkv.client.api.paging import PagedDeletion
from raftkv.client.client import Client
from raftkv.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NoLeader,
    OutcomeUnknown,
    RevisionCompacted,
    TooManyKeys,
)
from tests.client.scripted import Fault, ScriptedCluster, failure_of

KEYS = [f"k{i:03}".encode() for i in range(25)]


@pytest.fixture
async def filled(client: Client, cluster: ScriptedCluster) -> Client:
    await asyncio.gather(*(client.put(key, key[::-1]) for key in (*KEYS, b"other")))
    cluster.store.read_rows_max = 10
    cluster.store.delete_keys_max = 10
    return client


@asynccontextmanager
async def without_majority(cluster: ScriptedCluster) -> AsyncIterator[None]:
    cluster.answer_to = lambda _: NoLeader("no majority")
    cluster.refuse_reads = lambda reads: NoLeader("no majority") if reads.ranges else None
    yield
    cluster.answer_to = lambda _: None
    cluster.refuse_reads = lambda _: None


# ---- scans ---------------------------------------------------------------------------


async def test_a_scan_shows_every_key_once_as_of_one_revision(
    filled: Client, cluster: ScriptedCluster
) -> None:
    scan = filled.scan_prefix("k", page_keys=7)
    assert scan.revision == 0
    found = []
    async for kv in scan:
        found.append((kv.key, kv.value))
        await filled.put("other", "changed")
    assert found == [(key, key[::-1]) for key in KEYS]
    pages = [seen.request.reads.ranges[0] for seen in cluster.reads]
    assert [page.revision for page in pages] == [0, 27, 27, 27]
    assert {page.limit for page in pages} == {7}
    assert scan.revision == 27


async def test_a_scan_reads_no_page_before_it_is_needed(
    filled: Client, cluster: ScriptedCluster
) -> None:
    scan = filled.scan_prefix("k", page_keys=7)
    assert [(await anext(scan)).key for _ in range(7)] == KEYS[:7]
    assert len(cluster.reads) == 1


async def test_a_page_without_keys_is_not_the_end(filled: Client, cluster: ScriptedCluster) -> None:
    read = cluster.store.read

    def no_keys_at_first(request):  # type: ignore[no-untyped-def]
        result = read(request)
        if request.key < KEYS[10]:  # rows that were looked at and do not show at the revision
            result.range.ClearField("kvs")
        return result

    cluster.store.read = no_keys_at_first  # type: ignore[method-assign]
    assert [kv.key async for kv in filled.scan_prefix("k")] == KEYS[10:]


async def test_a_scan_continues_where_an_error_has_interrupted_it(
    filled: Client, cluster: ScriptedCluster
) -> None:
    scan = filled.scan("k", "l", page_keys=10, timeout=0.5)
    found = [(await anext(scan)).key for _ in range(10)]
    async with without_majority(cluster):
        with pytest.raises(DeadlineExceeded):
            await anext(scan)
    found += [kv.key async for kv in scan]
    assert found == KEYS


async def test_each_page_of_a_scan_has_the_whole_timeout(
    filled: Client, cluster: ScriptedCluster
) -> None:
    found = []
    async for kv in filled.scan_prefix("k", page_keys=5, timeout=1.0):
        found.append(kv.key)
        await asyncio.sleep(0.5)
    assert found == KEYS


async def test_another_scan_continues_after_a_page(filled: Client) -> None:
    first = filled.scan_prefix("k", page_keys=10)
    page = await first.next_page()
    assert page is not None
    assert (page.count, page.more) == (10, True)
    rest = filled.scan(page.next_key, "l", revision=first.revision)
    assert [kv.key async for kv in rest] == KEYS[10:]
    while page is not None:
        last, page = page, await first.next_page()
    assert (last.more, last.next_key) == (False, b"")


async def test_a_scan_counts_the_keys_that_it_has_not_shown_yet(
    filled: Client, cluster: ScriptedCluster
) -> None:
    assert await filled.scan_prefix("k").count() == 25
    asked = [seen.request.reads.ranges[0] for seen in cluster.reads]
    assert [(page.count_only, page.limit) for page in asked] == [(True, 0)] * 3
    scan = filled.scan_prefix("k", page_keys=7)
    await scan.next_page()
    assert await scan.count() == 18
    assert await scan.next_page() is None


async def test_a_scan_says_that_its_revision_was_compacted(
    filled: Client, cluster: ScriptedCluster
) -> None:
    scan = filled.scan_prefix("k", page_keys=10)
    await scan.next_page()
    compacted = failure_of(RevisionCompacted("gone", compacted_revision=30))
    read = cluster.store.read

    def compacting(request):  # type: ignore[no-untyped-def]
        result = read(request)
        result.failure.CopyFrom(compacted)
        return result

    cluster.store.read = compacting  # type: ignore[method-assign]
    with pytest.raises(RevisionCompacted):
        await scan.next_page()


# ---- deletions -----------------------------------------------------------------------


async def test_a_deletion_of_too_many_keys_deletes_none_and_names_the_paged_one(
    filled: Client, cluster: ScriptedCluster
) -> None:
    with pytest.raises(TooManyKeys, match="delete_range_in_pages") as refused:
        await filled.delete_prefix("k")
    assert refused.value.facts["keys_max"] == "10"
    assert len(cluster.store.keys) == 26


async def test_a_limited_deletion_takes_the_first_keys_and_says_whether_there_are_more(
    filled: Client, cluster: ScriptedCluster
) -> None:
    deleted = await filled.delete_range("k", "l", limit=3)
    assert (deleted.deleted, deleted.more) == (3, True)
    assert min(cluster.store.keys) == KEYS[3]
    assert not (await filled.delete_prefix("k02", limit=5)).more


async def test_a_range_of_any_size_is_deleted_in_pages_of_one_revision_each(
    filled: Client, cluster: ScriptedCluster
) -> None:
    deletion = filled.delete_prefix_in_pages("k")
    seen = [(page.revision, page.deleted, deletion.deleted) async for page in deletion]
    assert seen == [(28, 10, 10), (29, 10, 20), (30, 5, 25)]
    assert (deletion.pages, deletion.first_revision, deletion.last_revision) == (3, 28, 30)
    assert (deletion.complete, deletion.outcome_unknown) == (True, False)
    assert set(cluster.store.keys) == {b"other"}


async def test_nothing_is_deleted_before_the_first_page_is_requested(
    filled: Client, cluster: ScriptedCluster
) -> None:
    deletion = filled.delete_prefix_in_pages("k", page_keys=4)
    await asyncio.sleep(1.0)
    assert len(cluster.store.keys) == 26
    assert (await anext(deletion)).deleted == 4
    assert len(cluster.store.keys) == 22


async def test_of_an_empty_range_no_page_is_counted(filled: Client) -> None:
    deletion = await filled.delete_range_in_pages("x", "z").finish()
    assert (deletion.deleted, deletion.pages, deletion.first_revision) == (0, 0, 0)
    assert deletion.complete


async def test_a_page_whose_answer_was_lost_runs_once(
    filled: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.extend([Fault.APPLY_AND_BREAK, None, Fault.APPLY_AND_BREAK])
    deletion = await filled.delete_prefix_in_pages("k").finish()
    assert (deletion.deleted, deletion.pages) == (25, 3)


async def test_an_interrupted_deletion_reports_what_is_deleted_and_can_continue(
    filled: Client, cluster: ScriptedCluster
) -> None:
    deletion = filled.delete_prefix_in_pages("k", timeout=0.5)
    await anext(deletion)
    async with without_majority(cluster):
        with pytest.raises(DeadlineExceeded):
            await deletion.finish()
    assert (deletion.deleted, deletion.complete, deletion.outcome_unknown) == (10, False, False)
    await deletion.finish()
    assert (deletion.deleted, deletion.complete) == (25, True)


async def test_a_page_of_unknown_outcome_is_reported_as_such(
    filled: Client, cluster: ScriptedCluster
) -> None:
    deletion = filled.delete_prefix_in_pages("k", timeout=0.5)
    await anext(deletion)
    cluster.script.append(Fault.REPLY_LOST)
    with pytest.raises(OutcomeUnknown):
        await anext(deletion)
    assert (deletion.deleted, deletion.outcome_unknown) == (10, True)
    await deletion.finish()
    assert (deletion.deleted, deletion.outcome_unknown) == (15, True)
    assert set(cluster.store.keys) == {b"other"}


async def test_a_cancelled_page_counts_as_unknown(filled: Client) -> None:
    deletion: PagedDeletion = filled.delete_prefix_in_pages("k")
    await anext(deletion)
    under_way = asyncio.ensure_future(deletion.finish())
    await asyncio.sleep(0)
    under_way.cancel()
    await asyncio.wait([under_way])
    assert (deletion.deleted, deletion.complete, deletion.outcome_unknown) == (10, False, True)


async def test_invalid_arguments_are_refused_at_the_call(filled: Client) -> None:
    with pytest.raises(InvalidRequest, match="delete_range"):
        filled.delete_prefix_in_pages("")
    with pytest.raises(InvalidRequest, match="page_keys"):
        filled.delete_range_in_pages("k", "l", page_keys=0)
    with pytest.raises(InvalidRequest, match="page_keys"):
        filled.scan("k", "l", page_keys=0)

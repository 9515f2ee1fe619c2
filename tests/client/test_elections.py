"""Elections: one leader at a time, and observers that miss no leader and no proclamation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from raftkv.client.client import Client
from raftkv.client.coordination.election import Election, LeaderInfo
from raftkv.client.model.results import EventKind, KeyValue, PutResult, RangeResult, WatchEvent
from raftkv.client.settings import ClientSettings
from raftkv.errors import DeadlineExceeded, LockLost, LockNotAcquired, NotElected
from tests.client.conftest import Connect
from tests.client.lock_cluster import LockCluster

TTL = 10.0


@pytest.fixture
async def cluster() -> LockCluster:
    return LockCluster("a:1", "b:2", "c:3")


@pytest.fixture
async def other(connect: Connect) -> Client:
    return await connect()


def value_of(cluster: LockCluster) -> bytes:
    """What the leader says."""
    holder = cluster.machine.lock_holder(b"e")
    assert holder is not None
    return holder.record[-1:]


async def test_candidates_lead_one_after_the_other(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    first = await client.election("e").campaign("1")
    waiting = asyncio.create_task(other.election("e").campaign("2"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    assert await first.resign()
    second = await waiting
    assert second.token > first._entry.token
    assert value_of(cluster) == b"2"
    with pytest.raises(LockLost):
        await first.proclaim("x")
    assert value_of(cluster) == b"2"


async def test_a_leader_proclaims_another_value_and_keeps_leading(
    client: Client, cluster: LockCluster
) -> None:
    leadership = await client.election("e").campaign("1")
    token = leadership.token
    await leadership.proclaim("2")
    assert value_of(cluster) == b"2"
    assert cluster.store.tokens(b"e") == [token]
    assert list(cluster.machine.lease_keys(leadership._entry.lease.id)) == [leadership.key]


async def test_a_leader_whose_key_is_gone_proclaims_nothing(
    client: Client, cluster: LockCluster
) -> None:
    leadership = await client.election("e").campaign("1")
    cluster.store.run(delete_range={"key": leadership.key})
    with pytest.raises(LockLost):
        await leadership.proclaim("2")
    assert not cluster.store.tokens(b"e")
    cluster.store.run(put={"key": leadership.key, "value": b"another client's"})
    with pytest.raises(LockLost):
        await leadership.proclaim("2")


async def test_a_campaign_whose_lease_ended_never_leads(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    await other.election("e", ttl=60.0).campaign("1")
    waiting = asyncio.create_task(client.election("e").campaign("2"))
    await asyncio.sleep(0.1)
    cluster.go_down()
    with pytest.raises(LockLost, match=r"^the entry in the queue of e is lost: the lease was not"):
        await waiting


async def test_a_campaign_that_times_out_leaves_the_queue(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    await other.election("e").campaign("1")
    with pytest.raises(NotElected, match=r"^not elected for e within 1 s: others lead$") as late:
        await client.election("e").campaign("2", timeout=1.0)
    assert isinstance(late.value, LockNotAcquired), "callers that catch the lock's error go on"
    assert late.value.facts == {"name": "e"}
    await asyncio.sleep(0.1)
    assert len(cluster.store.tokens(b"e")) == 1


async def test_a_campaign_without_an_answer_reports_no_leader(
    client: Client, cluster: LockCluster
) -> None:
    cluster.go_down()
    with pytest.raises(DeadlineExceeded, match="whether others lead is not known"):
        await client.election("e").campaign("1", timeout=1.0)


async def test_losing_leadership_cancels_its_block(client: Client, cluster: LockCluster) -> None:
    async def lead() -> None:
        async with await client.election("e").campaign("1"):
            cluster.go_down()
            await asyncio.Event().wait()

    with pytest.raises(LockLost, match=r"^the leadership of e is lost: the lease was not renewed"):
        await lead()


# ---- observing -------------------------------------------------------------------------


def member(token: int, value: bytes = b"", revision: int = 0) -> KeyValue:
    return KeyValue(b"e/%016x" % token, value, token, revision or token, 1, 9)


def put(kv: KeyValue) -> WatchEvent:
    return WatchEvent(EventKind.PUT, kv.mod_revision, kv.key, kv.value, kv=kv)


def delete(token: int, revision: int) -> WatchEvent:
    return WatchEvent(EventKind.DELETE, revision, b"e/%016x" % token)


class ScriptedElection:
    """A store with members at revision 10, and the events of a watch from then on."""

    def __init__(self, members: Sequence[KeyValue], *batches: Sequence[WatchEvent]) -> None:
        self._members = members
        self._batches = batches
        self.from_revision = 0
        self.closed = False

    async def put(self, *_: object, **__: object) -> PutResult:
        raise NotImplementedError

    async def range(self, start: str | bytes, end: str | bytes, **_: object) -> RangeResult:
        return RangeResult(10, tuple(self._members), len(self._members), False)

    def watch(self, start: bytes, end: bytes, *, from_revision: int) -> ScriptedElection:
        assert (start, end) == (b"e/0", b"e/8")
        self.from_revision = from_revision
        return self

    async def batches(self) -> AsyncIterator[Sequence[WatchEvent]]:
        for batch in self._batches:
            yield batch

    async def close(self) -> None:
        self.closed = True


async def observed(store: ScriptedElection) -> list[tuple[int, bytes] | None]:
    election = Election(None, store, ClientSettings(), b"e", 10_000)  # type: ignore[arg-type]
    seen: list[LeaderInfo | None] = [leader async for leader in election.observe()]
    assert store.closed
    assert store.from_revision == 11
    return [(leader.token, leader.value) if leader else None for leader in seen]


async def test_observers_see_every_leader_and_every_vacancy_in_order() -> None:
    store = ScriptedElection(
        [],
        [put(member(11, b"a")), put(member(12, b"b")), delete(11, 13), delete(12, 14)],
        [put(member(15, b"c"))],
    )
    assert await observed(store) == [None, (11, b"a"), (12, b"b"), None, (15, b"c")]


async def test_changes_of_one_revision_are_observed_as_one() -> None:
    """One lease held the first two places and ended."""
    members = [member(5, b"a"), member(6, b"b"), member(7, b"c")]
    store = ScriptedElection(members, [delete(5, 11), delete(6, 11)])
    assert await observed(store) == [(5, b"a"), (7, b"c")]


async def test_observers_see_no_cancelled_candidate_and_every_proclamation() -> None:
    store = ScriptedElection(
        [member(5, b"a"), member(6)], [delete(6, 11), put(member(5, b"b", 12))]
    )
    assert await observed(store) == [(5, b"a"), (5, b"b")]


async def test_observers_see_proclamations_and_leaders_of_equal_values() -> None:
    store = ScriptedElection(
        [member(5, b"a"), member(6, b"a")], [put(member(5, b"a", 11)), delete(5, 12)]
    )
    assert await observed(store) == [(5, b"a"), (5, b"a"), (6, b"a")]


async def test_an_observer_that_is_left_by_break_closes_its_watch() -> None:
    store = ScriptedElection([], [put(member(11, b"a"))], [delete(11, 12)])
    async for leader in Election(None, store, ClientSettings(), b"e", 10_000).observe():  # type: ignore[arg-type]
        if leader:
            break
    for _ in range(3):  # the loop finishes a generator that is collected
        await asyncio.sleep(0)
    assert store.closed


async def test_a_foreign_key_among_the_candidates_does_not_lead() -> None:
    forged = KeyValue(b"e/0000000000000001", b"x", 8, 8, 1, 0)
    foreign = WatchEvent(EventKind.PUT, 11, forged.key, b"y", kv=forged)
    store = ScriptedElection([forged, member(9, b"a")], [foreign], [delete(9, 12)])
    assert await observed(store) == [(9, b"a"), None]

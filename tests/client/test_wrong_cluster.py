"""A client belongs to one cluster and one history: nothing is used of another cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from raftkv.client.client import Client
from raftkv.client.model.read_levels import ReadLevel, bounded
from raftkv.client.settings import ClientSettings
from raftkv.errors import (
    DeadlineExceeded,
    LeaseNotFound,
    LockLost,
    NoLeader,
    NotServing,
    OutcomeUnknown,
    RaftkvError,
    WrongCluster,
)
from tests.client.scripted import Fault
from tests.client.two_clusters import ADDRESSES, TwoClusters
from tests.recipes.recipe_cluster import until

OWN = r"cluster 0000000000000007 \(incarnation 0000000000000046\)"
OTHER = r"cluster 0000000000000007 \(incarnation 0000000000000047\)"
LONG_S = 60.0
"""The timeout of a call that is not to wait for it."""

Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def clusters() -> TwoClusters:
    return TwoClusters()


@pytest.fixture
async def connect(clusters: TwoClusters) -> AsyncIterator[Connect]:
    """Makes clients and closes them; a client must leave no task behind."""
    clients: list[Client] = []

    async def made(timeout: float = 5.0, **settings: float) -> Client:
        client = await clusters.connect(timeout, ClientSettings(**settings))  # type: ignore[arg-type]
        clients.append(client)
        return client

    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: failures.append(facts))
    before = asyncio.all_tasks()
    yield made
    for client in clients:
        await client.close()
    await asyncio.sleep(1.0)  # for the nodes' ends of its streams
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, "a closed client has no task"
    assert not failures


@pytest.fixture
async def client(connect: Connect) -> Client:
    return await connect()


async def in_time(call: Awaitable[object], seconds: float = 1.0) -> None:
    """It ends with `WrongCluster`, and not only when its own time is up."""
    with pytest.raises(WrongCluster, match=f"{OWN}, to which this client belongs, is not there"):
        async with asyncio.timeout(seconds):
            await call


# ---- connecting ------------------------------------------------------------------------


@pytest.mark.parametrize(("cluster_id", "incarnation"), [(7, 71), (8, 70), (8, 0)])
async def test_endpoints_of_two_clusters_are_refused(
    clusters: TwoClusters, connect: Connect, cluster_id: int, incarnation: int
) -> None:
    clusters.say(clusters.other, cluster_id, incarnation)
    clusters.rebuild("c:3")
    with pytest.raises(WrongCluster) as refused:
        await connect()
    words = refused.value.message
    assert f"c:3 answers for cluster {cluster_id:016x}" in words
    assert "a:1 answers for cluster 0000000000000007" in words
    assert "b:2 answers for cluster 0000000000000007" in words


async def test_a_node_that_does_not_know_its_incarnation_belongs_to_no_other_cluster(
    clusters: TwoClusters, connect: Connect
) -> None:
    clusters.say(clusters.other, 7, 0)
    clusters.rebuild("a:1", "b:2")
    client = await connect()
    clusters.bring_back("a:1", "b:2")
    await client.put("k", "v")
    clusters.rebuild("b:2", "c:3")
    await client.put("k", "w")
    assert len(clusters.own.writes) == 2


async def test_the_first_known_incarnation_is_the_clients(
    clusters: TwoClusters, connect: Connect
) -> None:
    clusters.say(clusters.own, 7, 0)  # they wait to be founded, perhaps
    client = await connect()
    clusters.say(clusters.own, 7, 70)
    await client.put("k", "v")
    clusters.rebuild(*ADDRESSES)
    await in_time(client.put("k", "w", timeout=LONG_S))


async def test_a_foreign_node_that_answers_late_is_left_out_with_an_event(
    clusters: TwoClusters, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    clusters.rebuild("c:3")
    clusters.other.nodes["c:3"].mute = True
    client = await connect()
    clusters.other.nodes["c:3"].mute = False
    clusters.own.leader, clusters.own.term = "b:2", 2  # so the client looks around
    with caplog.at_level(logging.WARNING, "raftkv.client"):
        await client.put("k", "v")
        await until(lambda: bool(caplog.records))
    assert "endpoint_left_out" in caplog.text
    assert "c:3" in caplog.text
    assert clusters.other.seen == []


# ---- one that is left out --------------------------------------------------------------


async def test_nothing_is_sent_to_another_cluster_and_no_reply_of_it_is_used(
    clusters: TwoClusters, client: Client
) -> None:
    await client.put("k", "v")
    for number in range(50):
        clusters.other.store.run(put={"key": b"%d" % number})
    clusters.rebuild("a:1", "b:2")
    await client.put("k", "w", timeout=LONG_S)
    kv = await client.get("k", level=ReadLevel.SESSION, timeout=LONG_S)
    assert kv is not None
    assert kv.value == b"w"
    assert clusters.other.seen == []


async def test_the_revision_and_the_term_of_another_cluster_are_not_the_clients(
    clusters: TwoClusters, client: Client
) -> None:
    """Else its session would read at a revision that its own store does not have."""
    for number in range(50):
        clusters.other.store.run(put={"key": b"%d" % number})
    clusters.other.term = 9
    clusters.rebuild("a:1")
    await client.put("k", "v", timeout=LONG_S)
    await client.get("k", level=ReadLevel.SESSION, timeout=LONG_S)
    assert clusters.other.nodes["a:1"].connections, "it was tried, and has greeted"
    asked = clusters.own.reads[-1].request.reads
    assert asked.min_revision == clusters.own.store.revision < clusters.other.store.revision
    assert client._pipeline.term == clusters.own.term


async def test_an_endpoint_that_returns_to_the_cluster_is_used_again(
    clusters: TwoClusters, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect(look_around_s=1.0)
    clusters.rebuild("a:1", "b:2")
    await client.put("k", "v")
    clusters.bring_back("a:1")
    with caplog.at_level(logging.WARNING, "raftkv.client"):
        await asyncio.sleep(1.0)
        await client.put("k", "w")
        await until(lambda: "endpoint_back" in caplog.text)
    clusters.kill("c:3")
    await client.put("k", "x")
    assert clusters.own.writes[-1].node == "a:1"


async def test_an_outage_beside_an_endpoint_that_was_left_out_before_is_an_outage(
    clusters: TwoClusters, connect: Connect
) -> None:
    client = await connect(look_around_s=1.0)
    clusters.rebuild("a:1")
    await client.put("k", "v")
    await asyncio.sleep(1.0)
    await client.put("k", "v")
    async with client.lock("n", ttl=20.0) as lock:
        await asyncio.sleep(1.0)
        clusters.kill("b:2", "c:3")
        asyncio.get_running_loop().call_later(3.0, clusters.revive, "b:2", "c:3")
        await client.put("k", "w", fence=lock)
        assert lock.remaining() > 0


async def test_a_refusal_by_a_foreign_node_is_not_the_result(
    clusters: TwoClusters, client: Client
) -> None:
    clusters.rebuild("a:1", "b:2")
    for node in clusters.other.nodes.values():
        node.refusal = LeaseNotFound("no such lease here")
    assert await client.lease_time_to_live(1)
    assert clusters.own.called


async def test_members_are_not_changed_in_another_cluster(
    clusters: TwoClusters, client: Client
) -> None:
    clusters.rebuild("a:1", "b:2")
    await client.member_remove(2)
    clusters.rebuild("c:3")
    await in_time(client.member_remove(2, timeout=LONG_S))
    with pytest.raises(WrongCluster):
        await client.set_log_level("debug", "a:1")
    assert clusters.other.called == []


async def test_the_status_of_a_node_of_another_cluster_names_both(
    clusters: TwoClusters, client: Client
) -> None:
    clusters.rebuild("c:3")
    with pytest.raises(WrongCluster, match=f"c:3 answers for {OTHER}.* belongs to {OWN}"):
        await client.status("c:3")
    answers = await client.status_all()
    assert isinstance(answers["c:3"], WrongCluster)
    assert not isinstance(answers["a:1"], RaftkvError)


# ---- once only foreign nodes answer ---------------------------------------------------


@pytest.mark.parametrize(
    "level", [ReadLevel.LINEARIZABLE, ReadLevel.SESSION, ReadLevel.STALE, bounded(1.0)]
)
async def test_reads_fail_at_once(clusters: TwoClusters, client: Client, level: ReadLevel) -> None:
    await client.put("k", "v")
    clusters.rebuild(*ADDRESSES)
    await in_time(client.get("k", level=level, timeout=LONG_S))
    await in_time(client.get("k", level=level, fallback="stale", timeout=LONG_S), 0.01)


async def test_writes_fail_at_once_and_are_not_applied(
    clusters: TwoClusters, client: Client
) -> None:
    await client.put("k", "v")
    clusters.rebuild(*ADDRESSES)
    await in_time(client.put("k", "w", timeout=LONG_S))
    await in_time(client.put("k", "w", timeout=LONG_S), 0.01)
    assert clusters.other.seen == []


async def test_the_first_write_of_a_client_fails_at_once_too(
    clusters: TwoClusters, client: Client
) -> None:
    clusters.rebuild(*ADDRESSES)
    await in_time(client.put("k", "v", timeout=LONG_S))


@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.LOST])
async def test_a_write_that_was_sent_to_the_own_cluster_may_have_been_applied(
    clusters: TwoClusters, client: Client, fault: Fault
) -> None:
    await client.put("k", "v")
    clusters.own.script.append(fault)
    put = asyncio.ensure_future(client.put("k", "w", timeout=LONG_S))
    await asyncio.sleep(0.1)
    clusters.rebuild(*ADDRESSES)
    with pytest.raises(OutcomeUnknown, match=f"may have been applied.*{OWN}.* is not there"):
        async with asyncio.timeout(1.0):
            await put
    assert clusters.other.seen == []


async def test_unary_calls_fail_at_once(clusters: TwoClusters, client: Client) -> None:
    clusters.rebuild(*ADDRESSES)
    await in_time(client.lock_info("n", timeout=LONG_S))
    await in_time(client.member_list(timeout=LONG_S), 0.01)


async def test_the_cluster_is_gone_also_if_its_own_nodes_are_down(
    clusters: TwoClusters, client: Client
) -> None:
    await client.put("k", "v")
    clusters.kill("b:2", "c:3")
    clusters.rebuild("a:1")
    with pytest.raises(WrongCluster, match=f"a:1 answers for {OTHER}, b:2 does not answer"):
        await client.put("k", "w", timeout=LONG_S)


async def test_half_of_the_given_endpoints_do_not_prove_that_the_cluster_is_gone(
    clusters: TwoClusters,
) -> None:
    client = await clusters.connect(given=ADDRESSES[:2])
    await client.put("k", "v")
    clusters.rebuild(ADDRESSES[0])
    for _ in range(5):  # the own cluster answers after the other one has
        await client.put("k", "w")
        await asyncio.sleep(5.0)
    clusters.kill(*ADDRESSES[1:])
    with pytest.raises((DeadlineExceeded, OutcomeUnknown)):
        await client.put("k", "x", timeout=3.0)
    clusters.bring_back(*ADDRESSES[1:])
    await client.put("k", "y", timeout=20.0)
    await client.close()


async def test_a_node_without_a_majority_still_belongs_to_the_own_cluster(
    clusters: TwoClusters, client: Client
) -> None:
    await client.put("k", "v")
    clusters.rebuild("a:1", "b:2")
    clusters.own.nodes["c:3"].refusal = NoLeader("no majority")
    with pytest.raises(DeadlineExceeded, match="no majority"):
        await client.put("k", "w", timeout=2.0)


async def test_a_lock_is_lost_at_once_and_its_block_cancelled(
    clusters: TwoClusters, client: Client
) -> None:
    async def hold() -> None:
        async with client.lock("n", ttl=LONG_S):
            clusters.rebuild(*ADDRESSES)
            await in_time(client.put("k", "v", timeout=LONG_S))
            await asyncio.sleep(LONG_S)

    with pytest.raises(LockLost, match=f"is lost: {OWN}"):
        async with asyncio.timeout(1.0):
            await hold()


async def test_a_lock_is_lost_when_its_renewal_reaches_no_own_node(
    clusters: TwoClusters, client: Client
) -> None:
    async def hold() -> None:
        async with client.lock("n", ttl=9.0):
            clusters.rebuild(*ADDRESSES)
            await asyncio.sleep(LONG_S)

    with pytest.raises(LockLost, match=f"is lost: {OWN}"):
        async with asyncio.timeout(4.0):
            await hold()


async def test_leadership_and_kept_leases_are_lost_too(
    clusters: TwoClusters, client: Client
) -> None:
    leadership = await client.election("n", ttl=LONG_S).campaign("me")
    async with client.lease(LONG_S) as lease:
        clusters.rebuild(*ADDRESSES)
        await in_time(client.get("k"))
        assert lease.lost.is_set()
    with pytest.raises(LockLost):
        leadership.check()


async def test_a_waiter_for_a_lock_fails_at_once(
    clusters: TwoClusters, client: Client, connect: Connect
) -> None:
    holder = await connect()
    await holder.lock("n", ttl=LONG_S).acquire()
    waiting = asyncio.ensure_future(client.lock("n", ttl=LONG_S).acquire())
    await asyncio.sleep(1.0)
    clusters.rebuild(*ADDRESSES)
    await in_time(client.get("k"))
    with pytest.raises((WrongCluster, LockLost), match="is not there any more"):
        async with asyncio.timeout(1.0):
            await waiting


async def test_watches_end_after_what_has_arrived(clusters: TwoClusters, client: Client) -> None:
    async with client.watch(prefix="") as watch:
        await client.put("k", "v")
        await asyncio.sleep(0.1)
        clusters.rebuild(*ADDRESSES)
        assert (await anext(watch)).value == b"v"
        await in_time(anext(watch))
    with pytest.raises(WrongCluster):
        await client.watch(prefix="").started()


async def test_an_observer_of_an_election_gets_wrong_cluster(
    clusters: TwoClusters, client: Client
) -> None:
    leaders = client.election("n").observe()
    assert await anext(leaders) is None
    clusters.rebuild(*ADDRESSES)
    await in_time(anext(leaders))


async def test_an_idle_client_whose_cluster_is_gone_sends_nothing(
    clusters: TwoClusters, client: Client
) -> None:
    await client.put("k", "v")
    clusters.rebuild(*ADDRESSES)
    await in_time(client.put("k", "w"))
    await asyncio.sleep(5.0)
    connections = sum(node.connections for node in clusters.other.nodes.values())
    await asyncio.sleep(300.0)  # the session would have been renewed fifteen times
    more = sum(node.connections for node in clusters.other.nodes.values()) - connections
    assert more <= 15 * len(ADDRESSES)
    assert clusters.other.seen == []


async def test_a_cluster_that_returns_is_used_in_the_same_session(
    clusters: TwoClusters, client: Client
) -> None:
    await client.put("k", "v")
    clusters.rebuild(*ADDRESSES)
    await in_time(client.put("k", "w"))
    await asyncio.sleep(5.0)  # the search for the leader has ended
    clusters.bring_back(*ADDRESSES)
    await asyncio.sleep(5.0)
    await client.put("k", "x")
    sessions = {seen.batch.session for seen in clusters.own.writes}
    assert len(sessions) == 1
    async with client.lock("n"), client.watch(prefix="") as watch:
        await client.put("k", "y")
        assert (await anext(watch)).value == b"y"


# ---- nodes that serve nothing ----------------------------------------------------------


async def test_a_node_that_does_not_serve_is_left_for_another_one(
    clusters: TwoClusters, client: Client
) -> None:
    clusters.own.nodes["a:1"].refusal = NotServing("waits for node 2")
    await client.put("k", "v")
    assert {seen.node for seen in clusters.own.writes} <= {"b:2", "c:3"}
    assert await client.member_list()


async def test_attempts_at_nodes_that_do_not_serve_are_bounded(
    clusters: TwoClusters, client: Client
) -> None:
    for node in clusters.own.nodes.values():
        node.refusal = NotServing("waits for node 2")
    with pytest.raises(DeadlineExceeded):
        await client.put("k", "v", timeout=10.0)
    assert clusters.own.seen == []
    assert max(node.connections for node in clusters.own.nodes.values()) <= 3 + 10


async def test_if_no_node_serves_the_error_has_the_reason(
    clusters: TwoClusters, client: Client
) -> None:
    for node in clusters.own.nodes.values():
        node.refusal = NotServing("waits to be founded: node 2 does not answer")
    for call in (
        client.put("k", "v", timeout=1.0),
        client.get("k", timeout=1.0),
        client.member_list(timeout=1.0),
    ):
        with pytest.raises(DeadlineExceeded, match="waits to be founded: node 2 does not answer"):
            await call

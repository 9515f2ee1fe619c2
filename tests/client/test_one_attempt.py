"""A timeout of 0: one attempt, whose answer is awaited, and no other wait."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.api.transactions import Transaction
from raftkv.client.client import Client
from raftkv.client.coordination.lock import Lock
from raftkv.client.settings import ClientSettings
from raftkv.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    LockNotAcquired,
    NoLeader,
    NotElected,
    OutcomeUnknown,
    Overloaded,
    TransactionConflict,
    Unavailable,
)
from raftkv.rpc.v1 import api_pb2
from tests.client.conftest import Connect
from tests.client.lock_cluster import LockCluster
from tests.client.scripted import LATENCY_S, Fault, ScriptedCluster

SILENCE_S = ClientSettings().silence_s_max
SWEEP_S = 0.03
TTL = 10.0


@pytest.fixture
async def locks() -> LockCluster:
    return LockCluster("a:1", "b:2", "c:3")


def seconds() -> float:
    return asyncio.get_running_loop().time()


def refuse_all(cluster: ScriptedCluster, error: Unavailable | None) -> None:
    for node in cluster.nodes.values():
        node.refusal = error


async def test_the_first_call_of_a_client_may_be_one_attempt(connect: Connect) -> None:
    client = await connect(timeout=0)
    await client.put("k", "v")
    found = await client.get("k", timeout=0)
    assert found is not None


async def test_a_refusal_is_the_result_and_nothing_is_sent_again(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    refuse_all(cluster, NoLeader("no leader is known"))
    sent = len(cluster.seen)
    for call in (client.put("k", "v", timeout=0), client.get("k", timeout=0)):
        with pytest.raises(NoLeader, match="no leader is known"):
            await call
    assert [bool(seen.batch.session) for seen in cluster.seen[sent:]] == [True, False]
    refuse_all(cluster, None)
    await client.put("k", "v")


async def test_a_call_that_was_refused_alone_is_not_deferred(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.idempotency_refusal = Overloaded("no room for the key", retry_after_s=1.0)
    with pytest.raises(Overloaded, match="no room for the key"):
        await client.put("k", "v", idempotency_key="once", timeout=0)
    assert len(cluster.writes) == 1


async def test_a_single_attempt_in_a_batch_with_others_is_refused_alone(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    cluster.script.append(NoLeader("electing"))
    once, patient = await asyncio.gather(
        client.put("once", "v", timeout=0), client.put("patient", "v"), return_exceptions=True
    )
    assert isinstance(once, NoLeader)
    assert not isinstance(patient, BaseException)
    assert b"once" not in cluster.store.keys
    assert b"patient" in cluster.store.keys


async def test_an_ambiguous_batch_is_sent_again(client: Client, cluster: ScriptedCluster) -> None:
    await client.put("k", "v")
    cluster.script.append(Fault.APPLY_AND_BREAK)
    await client.put("k", "w", timeout=0)
    assert cluster.store.puts == [b"k", b"k"], "applied once"


async def test_a_read_whose_node_fails_is_not_sent_to_another(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    reading = asyncio.create_task(client.get("k", timeout=0))
    await asyncio.sleep(LATENCY_S / 2)
    cluster.nodes["a:1"].kill()
    with pytest.raises(ConnectionFailed, match="connection reset"):
        await reading
    assert await client.get("k") is not None


async def test_an_answer_is_awaited_for_as_long_as_a_silent_node_is(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    cluster.script.extend([Fault.LOST] * 10)
    began = seconds()
    with pytest.raises(OutcomeUnknown):
        await client.put("k", "v", timeout=0)
    assert SILENCE_S <= seconds() - began <= SILENCE_S + SWEEP_S


async def test_each_node_is_tried_until_one_takes_the_call(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    cluster.nodes["a:1"].kill()
    await asyncio.sleep(0.1)
    await client.put("k", "v", timeout=0)
    await client.member_list(timeout=0)
    for node in cluster.nodes.values():
        node.kill()
    await asyncio.sleep(0.1)
    began = seconds()
    for call in (client.get("k", timeout=0), client.member_list(timeout=0)):
        with pytest.raises(ConnectionFailed):
            await call
    assert seconds() - began < SILENCE_S


async def test_a_write_fails_with_the_refusal_of_the_session_that_it_needs(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect()
    refuse_all(cluster, NoLeader("no leader is known"))
    began = seconds()
    with pytest.raises(NoLeader):
        await client.put("k", "v", timeout=0)
    assert seconds() - began < 10 * LATENCY_S
    assert not cluster.writes


async def test_a_unary_call_is_not_repeated(client: Client, cluster: ScriptedCluster) -> None:
    refuse_all(cluster, NoLeader("no leader is known"))
    with pytest.raises(NoLeader):
        await client.member_list(timeout=0)
    assert len(cluster.called) == 1


async def test_connecting_asks_each_endpoint_once(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    for node in cluster.nodes.values():
        node.up = False
    began = seconds()
    with pytest.raises(ConnectionFailed):
        await connect(timeout=0)
    assert seconds() - began < 10 * LATENCY_S
    for node in cluster.nodes.values():
        node.up = node.mute = True
    with pytest.raises(ConnectionFailed):
        await connect(timeout=0)
    assert seconds() - began < SILENCE_S + 10 * LATENCY_S


async def test_a_stale_read_follows_the_refused_one(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    refusing = NoLeader("no leader is known")
    cluster.refuse_reads = lambda reads: (
        None if reads.level == api_pb2.READ_LEVEL_STALE else refusing
    )
    reading = await client.read("k", fallback="stale", timeout=0)
    assert reading.fallback


async def test_a_transaction_that_conflicts_is_not_run_again(
    client: Client, cluster: ScriptedCluster
) -> None:
    attempts = 0

    async def overtaken(transaction: Transaction) -> None:
        nonlocal attempts
        attempts += 1
        transaction.put("k", "v")
        transaction.commit = _lost  # type: ignore[method-assign]

    with pytest.raises(TransactionConflict):
        await client.transaction(overtaken, timeout=0)
    assert attempts == 1


async def _lost() -> bool:
    return False


# ---- locks -------------------------------------------------------------------------------


async def test_a_free_lock_is_acquired_also_as_the_first_call(locks: LockCluster) -> None:
    client = await locks.connect(0, ClientSettings())
    lock = await client.lock("l").acquire(timeout=0)
    assert lock.token
    await lock.release()
    leadership = await client.election("e").campaign("x", timeout=0)
    assert leadership.token
    await client.close()


async def at_once(lock: Lock) -> None:
    await lock.acquire(timeout=0)


async def test_a_held_lock_is_refused_without_an_entry_in_its_queue(locks: LockCluster) -> None:
    client, other = [await locks.connect(5.0, ClientSettings()) for _ in range(2)]
    await other.lock("l").acquire()
    began = seconds()
    with pytest.raises(LockNotAcquired, match="at once: others hold it"):
        await client.lock("l").acquire(timeout=0)
    with pytest.raises(NotElected, match="at once: others lead"):
        await client.election("l").campaign("x", timeout=0)
    assert seconds() - began < 20 * LATENCY_S
    assert len(locks.store.tokens(b"l")) == 1
    shared = other.lock("m")
    await shared.acquire()
    with pytest.raises(LockNotAcquired):
        await asyncio.create_task(at_once(shared))
    await client.close()
    await other.close()


async def test_an_outage_is_not_reported_as_a_holder_and_leaves_no_entry(
    locks: LockCluster,
) -> None:
    client = await locks.connect(5.0, ClientSettings())
    held = await client.lock("held").acquire()
    locks.go_down()
    began = seconds()
    with pytest.raises(DeadlineExceeded, match="no answer came"):
        await client.lock("l").acquire(timeout=0)
    assert seconds() - began <= SILENCE_S + SWEEP_S
    locks.come_up()
    await asyncio.sleep(1.0)
    assert not locks.store.tokens(b"l")
    assert held.remaining(), "the lease that both share goes on"
    refuse_all(locks, NoLeader("no leader is known"))
    with pytest.raises(NoLeader):
        await client.lock("l").acquire(timeout=0)
    refuse_all(locks, None)
    assert held.remaining()
    await client.close()


async def test_a_call_with_a_timeout_does_not_fail_with_a_single_attempt(
    locks: LockCluster,
) -> None:
    client = await locks.connect(5.0, ClientSettings())
    refuse_all(locks, NoLeader("no leader is known"))
    once = asyncio.create_task(client.lock("a").acquire(timeout=0))
    patient = asyncio.create_task(client.lock("b").acquire())
    with pytest.raises(NoLeader):
        await once
    await asyncio.sleep(1.0)
    refuse_all(locks, None)
    assert (await patient).token
    await client.close()


async def test_a_timeout_too_short_for_an_answer_does_not_blame_the_majority(
    locks: LockCluster,
) -> None:
    client = await locks.connect(5.0, ClientSettings())
    with pytest.raises(DeadlineExceeded) as short:
        await client.lock("free").acquire(timeout=LATENCY_S / 2)
    assert "majority" not in str(short.value)
    await client.close()

"""How a session is opened, renewed and revoked."""

from __future__ import annotations

import asyncio
import gc

import pytest

from raftkv.client.client import Client
from raftkv.client.connection.session import Session
from raftkv.errors import NoLeader, OutcomeUnknown, Unavailable
from tests.client.conftest import Connect
from tests.client.scripted import ScriptedCluster


def commands(cluster: ScriptedCluster, kind: str) -> list[float]:
    """When commands of this kind arrived."""
    return [
        seen.at
        for seen in cluster.seen
        for command in seen.batch.commands
        if command.WhichOneof("command") == kind
    ]


async def test_a_client_that_only_reads_has_no_session(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.get("k")
    assert not cluster.store.leases


async def test_many_first_writes_open_one_session(client: Client, cluster: ScriptedCluster) -> None:
    await asyncio.gather(*(client.put(f"k{i}", "v") for i in range(10)))
    assert list(cluster.store.leases.values()) == [60_000]


async def test_a_session_is_renewed_at_a_third_of_its_ttl(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    await asyncio.sleep(65.0)
    assert commands(cluster, "lease_renew") == pytest.approx([20.0, 40.0, 60.0], abs=0.1)


async def test_a_session_found_lost_by_its_renewal_is_replaced_by_the_next_write(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    cluster.store.leases.clear()
    await asyncio.sleep(25.0)
    await client.put("l", "v")
    assert len(commands(cluster, "lease_grant")) == 2
    assert [seen.applied for seen in cluster.writes] == [True, True]


async def test_the_late_end_of_a_renewal_changes_nothing_of_the_session_that_came_after(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    await asyncio.sleep(19.9)
    for node in cluster.nodes.values():
        node.mute = True
    await asyncio.sleep(0.2)
    for node in cluster.nodes.values():
        node.mute = False
    cluster.store.leases.clear()
    await client.put("l", "v")  # finds its session lost, and opens another one
    opened_at = commands(cluster, "lease_grant")[-1]
    await asyncio.sleep(45.0)
    old, *renewals = commands(cluster, "lease_renew")[1:]
    assert old > opened_at, "the renewal that was lost was sent again, and refused"
    assert renewals == pytest.approx([opened_at + 20.0, opened_at + 40.0], abs=0.01)
    assert len(cluster.store.leases) == 1


async def test_a_renewal_survives_an_outage(client: Client, cluster: ScriptedCluster) -> None:
    await client.put("k", "v")
    for node in cluster.nodes.values():
        node.refusal = NoLeader("no majority")
    await asyncio.sleep(50.0)
    for node in cluster.nodes.values():
        node.refusal = None
    renewals = len(commands(cluster, "lease_renew"))
    await asyncio.sleep(5.0)
    assert len(commands(cluster, "lease_renew")) > renewals


async def test_closing_waits_for_the_calls_under_way_and_revokes_the_session(
    cluster: ScriptedCluster, connect: Connect
) -> None:
    client = await connect()
    puts = [asyncio.ensure_future(client.put(f"k{i}", "v")) for i in range(10)]
    await asyncio.sleep(0)
    await client.close()
    assert all(put.result().revision for put in puts)
    assert not cluster.store.leases


@pytest.mark.parametrize("sent", [False, True])
async def test_closing_during_an_outage_ends_all_calls_in_bounded_time(
    cluster: ScriptedCluster, connect: Connect, sent: bool
) -> None:
    client = await connect(2.0)
    await client.put("k", "v")
    for node in cluster.nodes.values():
        if sent:
            node.mute = True
        else:
            node.kill()
    await asyncio.sleep(0.1)
    put = asyncio.ensure_future(client.put("l", "v", timeout=60.0))
    await asyncio.sleep(0)
    await client.close()
    await asyncio.wait({put}, timeout=0.1)
    assert cluster.loop.time() < 4.0
    assert isinstance(put.exception(), OutcomeUnknown if sent else Unavailable)


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("fault", ["mute", "refusal"])
async def test_closing_without_a_majority_takes_a_second_at_most(
    cluster: ScriptedCluster, connect: Connect, opened: bool, fault: str
) -> None:
    client = await connect(5.0)
    if opened:
        await client.put("k", "v")
    for node in cluster.nodes.values():
        setattr(node, fault, NoLeader("no majority") if fault == "refusal" else True)
    with pytest.raises((Unavailable, OutcomeUnknown)):
        await client.put("l", "v", timeout=1.0)
    before = cluster.loop.time()
    await client.close()
    assert cluster.loop.time() - before < 1.1


async def test_a_session_that_is_granted_while_its_client_closes_is_revoked(
    cluster: ScriptedCluster, connect: Connect
) -> None:
    client = await connect(5.0)
    for node in cluster.nodes.values():
        node.refusal = NoLeader("no majority")
    with pytest.raises(Unavailable):
        await client.put("k", "v", timeout=1.0)
    closing = asyncio.ensure_future(client.close())
    await asyncio.sleep(0)
    for node in cluster.nodes.values():
        node.refusal = None
    await closing
    assert cluster.store.leases_granted
    assert not cluster.store.leases


@pytest.mark.parametrize("opened", [False, True])
async def test_closing_during_a_failing_session_grant_reports_no_failure_to_the_loop(
    cluster: ScriptedCluster, connect: Connect, opened: bool
) -> None:
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: failures.append(facts))
    client = await connect(2.0)
    if opened:
        await client.put("k", "v")
    for node in cluster.nodes.values():
        node.mute = True
    await asyncio.sleep(21.0)  # its renewal is under way
    with pytest.raises((Unavailable, OutcomeUnknown)):
        await client.put("l", "v", timeout=0.5)
    await client.close()
    await asyncio.sleep(0)
    gc.collect()
    assert not failures


async def test_a_closed_client_refuses_calls(connect: Connect) -> None:
    client = await connect()
    await client.close()
    with pytest.raises(Unavailable):
        await client.put("k", "v")


def test_acknowledged_stops_before_the_first_sequence_without_an_answer() -> None:
    session = Session(7)
    sequences = [session.next_sequence() for _ in range(4)]
    assert sequences == [1, 2, 3, 4]
    session.settle(1)
    session.settle(3)
    assert session.acknowledged == 1
    session.settle(2)
    assert session.acknowledged == 3

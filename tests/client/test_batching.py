"""Which calls share a batch, and that a lone call is never delayed."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.client import Client
from raftkv.errors import InvalidRequest, LeaseNotFound, NoLeader, OutcomeUnknown, TooLarge
from tests.client.conftest import Connect
from tests.client.scripted import LATENCY_S, Fault, ScriptedCluster


async def test_calls_of_one_turn_share_a_message(client: Client, cluster: ScriptedCluster) -> None:
    await asyncio.gather(*(client.put(f"k{i}", "v") for i in range(50)))
    assert [len(seen.batch.commands) for seen in cluster.writes] == [50]


async def test_callers_woken_by_one_reply_share_the_next_message(
    client: Client, cluster: ScriptedCluster
) -> None:
    async def writer(name: int) -> None:
        for i in range(3):
            await client.put(f"k{name}-{i}", "v")

    await asyncio.gather(*(writer(name) for name in range(20)))
    assert [len(seen.batch.commands) for seen in cluster.writes] == [20, 20, 20]


async def test_a_lone_call_takes_one_round_trip(client: Client, cluster: ScriptedCluster) -> None:
    await client.put("first", "opens the session")
    started = cluster.loop.time()
    await client.put("k", "v")
    assert cluster.loop.time() - started == pytest.approx(2 * LATENCY_S)


async def test_reads_of_one_turn_share_a_message(client: Client, cluster: ScriptedCluster) -> None:
    await client.put("k", "v")
    found = await asyncio.gather(*(client.get("k") for _ in range(10)))
    assert {kv.value if kv else None for kv in found} == {b"v"}
    assert [len(seen.request.reads.ranges) for seen in cluster.reads] == [10]


async def test_calls_are_queued_while_the_maximum_of_batches_is_in_flight(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect(batches_in_flight_max=2)
    await client.put("first", "opens the session")
    puts = []
    for i in range(6):
        puts.append(asyncio.ensure_future(client.put(f"k{i}", "v")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*puts)
    assert [len(seen.batch.commands) for seen in cluster.writes[1:]] == [1, 1, 4]


async def test_a_batch_is_split_at_the_limits_of_operations_and_bytes(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect(batch_operations_max=10, batch_bytes_max=1_000)
    await asyncio.gather(*(client.put(f"k{i}", "v") for i in range(25)))
    await asyncio.gather(*(client.put(f"k{i}", "v" * 400) for i in range(4)))
    sizes = [len(seen.batch.commands) for seen in cluster.writes]
    assert sizes == [10, 10, 5, 2, 2]


async def test_sequences_are_dense_and_answers_are_acknowledged(
    client: Client, cluster: ScriptedCluster
) -> None:
    for i in range(4):
        await client.put(f"k{i}", "v")
    batches = [seen.batch for seen in cluster.writes]
    assert [batch.sequence for batch in batches] == [1, 2, 3, 4]
    assert [batch.acknowledged for batch in batches] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("", "v", InvalidRequest),
        ("k" * 8_193, "v", TooLarge),
        ("k", "v" * ((1 << 20) + 1), TooLarge),
        (7, "v", InvalidRequest),
    ],
)
async def test_an_invalid_key_or_value_fails_no_other_call_of_its_batch(
    client: Client, cluster: ScriptedCluster, key: str, value: str, error: type[Exception]
) -> None:
    results = await asyncio.gather(
        client.put("left", "v"),
        client.put(key, value),
        client.put("right", "v"),
        return_exceptions=True,
    )
    assert isinstance(results[1], error)
    assert cluster.store.puts == [b"left", b"right"]


async def test_a_command_that_the_server_rejects_by_position_fails_alone(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.append(TooLarge("this server's limits are lower", position=1))
    results = await asyncio.gather(
        *(client.put(key, "v") for key in ("a", "b", "c")), return_exceptions=True
    )
    assert isinstance(results[1], TooLarge)
    assert cluster.store.puts == [b"a", b"c"]


async def test_a_rejection_after_an_outage_admits_what_has_been_queued(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    too_large = TooLarge("this server's limits are lower", position=0)
    cluster.answer_to = lambda seen: (
        NoLeader("electing") if seen.at < 2.0 else too_large if b"k0" in seen.keys else None
    )
    first, *others = (asyncio.ensure_future(client.put(f"k{i}", "v")) for i in range(50))
    with pytest.raises(TooLarge):
        await first
    await asyncio.gather(*others)
    probe, *rest = (seen for seen in cluster.writes if seen.at >= 2.0)
    assert probe.keys == [b"k0"]
    assert len(rest) == 1


async def test_a_batch_too_large_for_the_server_leaves_in_smaller_ones(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.answer_to = lambda seen: (
        TooLarge("at most 30 commands") if len(seen.batch.commands) > 30 else None
    )
    await asyncio.gather(*(client.put(f"k{i}", "v") for i in range(100)))
    assert len(set(cluster.store.puts)) == len(cluster.store.puts) == 100


async def test_a_rejection_after_a_lost_reply_leaves_the_outcome_unknown(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.extend([Fault.BREAK, TooLarge("another node's limits are lower", position=0)])
    results = await asyncio.gather(
        client.put("a", "v"), client.put("b", "v"), return_exceptions=True
    )
    assert [type(result) for result in results] == [OutcomeUnknown, OutcomeUnknown]


async def test_a_failed_command_fails_only_its_caller(client: Client) -> None:
    results = await asyncio.gather(
        client.put("a", "v"), client.put("b", "v", lease=99), return_exceptions=True
    )
    assert results[0].revision == 2
    assert isinstance(results[1], LeaseNotFound)


async def test_reads_that_do_not_fit_a_reply_are_sent_again(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("k", "v")
    cluster.store.answers_per_reply_max = 4
    found = await asyncio.gather(*(client.get("k") for _ in range(10)))
    assert all(kv is not None for kv in found)
    assert [len(seen.request.reads.ranges) for seen in cluster.reads] == [10, 6, 2]


async def test_a_command_whose_result_does_not_fit_a_reply_is_run_alone(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.answers_per_reply_max = 1
    await asyncio.gather(
        *(client.put(key, "v", prev_kv=True) for key in ("a", "b", "c")), client.put("d", "v")
    )
    assert sorted(cluster.store.puts) == [b"a", b"b", b"c", b"d"]
    cluster.store.answers_per_reply_max = 0
    with pytest.raises(TooLarge):
        await client.put("e", "v", prev_kv=True)


async def test_batches_are_as_small_as_a_node_advises(
    cluster: ScriptedCluster, connect: Connect
) -> None:
    client = await connect(batch_operations_max=10)

    async def sizes_of_20() -> list[int]:
        before = len(cluster.writes)
        await asyncio.gather(*(client.put(f"k{n}", b"") for n in range(20)))
        return [len(seen.keys) for seen in cluster.writes[before:]]

    cluster.batch_commands_max = 4
    await client.put("gets the advice", b"")
    assert await sizes_of_20() == [4, 4, 4, 4, 4]
    cluster.batch_commands_max = 100  # its own bound is lower
    await client.put("gets the advice", b"")
    assert await sizes_of_20() == [10, 10]
    cluster.batch_commands_max = 0
    await client.put("gets the advice", b"")
    assert await sizes_of_20() == [10, 10]

"""What is sent again, in which form, and the error when the time is over."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from raftkv.client.client import Client
from raftkv.errors import (
    DeadlineExceeded,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    RevisionCompacted,
    SessionExpired,
    ShuttingDown,
)
from tests.client.conftest import Connect
from tests.client.scripted import Fault, ScriptedCluster


async def test_a_write_whose_reply_was_lost_is_sent_again_under_the_same_sequence(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.append(Fault.APPLY_AND_BREAK)
    result = await client.put("k", "v")
    first, second = cluster.writes
    assert first.request.commands == second.request.commands
    assert first.node != second.node
    assert cluster.store.puts == [b"k"]
    assert result.revision == 2


async def test_a_write_that_may_have_been_applied_is_sent_again_unchanged(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.append(OutcomeUnknown("the leader changed"))
    await asyncio.gather(client.put("k", "v"), client.put("l", "v"))
    first, second = cluster.writes
    assert first.request.commands == second.request.commands


async def test_a_lost_reply_is_noticed_by_silence_and_the_write_runs_once(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.append(Fault.REPLY_LOST)
    await client.put("k", "v")
    assert cluster.loop.time() < 3.0
    assert cluster.store.puts == [b"k"]
    assert len({seen.node for seen in cluster.writes}) == 2


async def test_every_write_in_flight_when_a_node_is_killed_runs_once(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect()
    await client.put("first", "opens the session")

    async def writer(name: int) -> None:
        for i in range(20):
            await client.put(f"k{name}-{i}", "v")

    writers = asyncio.gather(*(writer(name) for name in range(10)))
    await asyncio.sleep(0.0105)
    cluster.nodes["a:1"].kill()
    await writers
    assert len(cluster.store.puts) == len(set(cluster.store.puts)) == 201


async def test_failover_after_a_kill_takes_a_few_round_trips(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    cluster.nodes["a:1"].kill()
    started = cluster.loop.time()
    await client.put("k", "v")
    assert cluster.loop.time() - started < 0.05


async def test_a_deadline_after_sending_is_outcome_unknown(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.answer_to = lambda seen: Fault.LOST
    with pytest.raises(OutcomeUnknown, match="read it back before you repeat it"):
        await client.put("k", "v", timeout=1.0)
    assert cluster.loop.time() == pytest.approx(1.0, abs=0.05)


async def test_an_unknown_outcome_advises_by_idempotency_key_and_by_kind_of_command(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.answer_to = lambda seen: Fault.LOST
    with pytest.raises(OutcomeUnknown, match="repeat it under the same idempotency key"):
        await client.put("k", "v", idempotency_key="order-1", timeout=1.0)
    with pytest.raises(OutcomeUnknown, match="if it is not renewed, it ends by itself"):
        await client.lease_grant(10.0, timeout=1.0)


async def test_a_deadline_before_sending_is_deadline_exceeded(
    client: Client, cluster: ScriptedCluster
) -> None:
    for node in cluster.nodes.values():
        node.kill()
    with pytest.raises(DeadlineExceeded):
        await client.put("k", "v", timeout=1.0)
    assert cluster.loop.time() == pytest.approx(1.0, abs=0.05)


async def test_a_deadline_after_a_certain_refusal_is_deadline_exceeded(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.answer_to = lambda seen: NoLeader("no leader")
    with pytest.raises(
        DeadlineExceeded,
        match=r"nothing was applied \(the last answer: [abc]:\d: no leader\); try again",
    ):
        await client.put("k", "v", timeout=1.0)


async def test_a_timeout_reports_the_last_refusal_rather_than_dead_nodes(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.nodes["b:2"].refusal = NoLeader("no leader")
    cluster.nodes["a:1"].kill()
    cluster.nodes["c:3"].kill()
    for call in (client.put("k", "v", timeout=1.0), client.get("k", timeout=1.0)):
        with pytest.raises(DeadlineExceeded, match="the last answer: b:2: no leader"):
            await call
    with pytest.raises(DeadlineExceeded, match=r"^no leader$"):
        await client.member_list(timeout=1.0)
    with pytest.raises(DeadlineExceeded, match=r"^no leader; the membership was not changed$"):
        await client.member_remove(2, timeout=1.0)


async def test_a_past_refusal_is_not_reported_for_a_later_failure(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.append(NoLeader("electing"))
    await client.put("k", "v")
    for node in cluster.nodes.values():
        node.kill()
    with pytest.raises(DeadlineExceeded, match="nothing was applied; try again"):
        await client.put("k", "v", timeout=1.0)


@pytest.mark.parametrize("timeout_s", [1.0, 5.0])  # before and after it is left for its silence
async def test_a_timeout_names_a_silent_node(
    client: Client, cluster: ScriptedCluster, timeout_s: float
) -> None:
    cluster.nodes["b:2"].mute = True
    cluster.nodes["a:1"].kill()
    cluster.nodes["c:3"].kill()
    with pytest.raises(DeadlineExceeded, match=r"nothing was applied \(b:2 has not answered\)"):
        await client.put("k", "v", timeout=timeout_s)


async def test_a_membership_change_without_an_answer_advises_to_read_the_members(
    client: Client, cluster: ScriptedCluster
) -> None:
    for node in cluster.nodes.values():
        node.mute = node.greets = True
    with pytest.raises(OutcomeUnknown, match=r"may have been changed, .* `raftkv member list`"):
        await client.member_remove(2, timeout=1.0)


async def test_a_membership_change_is_not_sent_to_a_node_without_a_status(
    client: Client, cluster: ScriptedCluster
) -> None:
    for node in cluster.nodes.values():
        node.mute = True
    with pytest.raises(DeadlineExceeded, match="the membership was not changed"):
        await client.member_remove(2, timeout=1.0)


async def test_a_refusal_after_a_lost_reply_is_still_outcome_unknown(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.append(Fault.BREAK)
    cluster.answer_to = lambda seen: NoLeader("no leader")
    with pytest.raises(OutcomeUnknown):
        await client.put("k", "v", timeout=1.0)


async def test_a_call_whose_own_deadline_passes_fails_alone(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.append(Fault.REPLY_LOST)
    hasty, patient = await asyncio.gather(
        client.put("hasty", "v", timeout=0.5), client.put("patient", "v"), return_exceptions=True
    )
    assert isinstance(hasty, OutcomeUnknown)
    assert not isinstance(patient, BaseException)
    assert cluster.store.puts == [b"hasty", b"patient"]


async def test_a_call_that_failed_as_not_sent_is_never_sent_later(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.nodes["a:1"].refusal = cluster.nodes["b:2"].refusal = NoLeader("no leader")
    cluster.nodes["c:3"].refusal = NoLeader("no leader")
    results = await asyncio.gather(
        client.put("hasty", "v", timeout=0.5), client.put("late", "v", timeout=0.7),
        return_exceptions=True,
    )  # fmt: skip
    assert [type(result) for result in results] == [DeadlineExceeded, DeadlineExceeded]
    for node in cluster.nodes.values():
        node.refusal = None
    await client.put("k", "v")
    assert cluster.store.puts == [b"k"]


async def test_without_a_leader_the_client_waits_until_there_is_one(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.answer_to = lambda seen: NoLeader("electing") if seen.at < 1.5 else None
    await client.put("k", "v")
    assert 1.5 <= cluster.loop.time() < 1.8


async def test_a_node_without_a_leader_is_left_for_one_that_has_one(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    cluster.nodes["a:1"].refusal = NoLeader("partitioned")
    await client.put("k", "v")
    assert cluster.loop.time() < 0.1
    assert cluster.writes[-1].node != "a:1"


async def test_a_node_that_shuts_down_is_left_without_losing_a_call(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    cluster.nodes["a:1"].refusal = ShuttingDown("stopping")
    await asyncio.gather(*(client.put(f"k{i}", "v") for i in range(10)))
    assert len(cluster.store.puts) == 11


async def test_the_servers_retry_after_is_honoured(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.script.append(Overloaded("full", retry_after_s=0.7))
    await client.put("k", "v")
    first, second = cluster.writes
    assert second.at - first.at >= 0.7
    assert first.node == second.node


async def test_a_store_without_memory_for_the_session_gets_one_write_at_a_time_and_serves_reads(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect()
    cluster.store.session_refusal = Overloaded("too many sessions", retry_after_s=0.7)
    writes = asyncio.gather(*(client.put(f"k{i}", "v") for i in range(20)))
    await asyncio.sleep(0.1)
    before = cluster.loop.time()
    assert await client.get("k0") is None
    assert cluster.loop.time() - before < 0.1
    await asyncio.sleep(2.0)
    first, *others = cluster.writes
    assert len(first.batch.commands) == 20
    assert [len(seen.batch.commands) for seen in others] == [1, 1]
    assert all(later.at - seen.at > 0.7 for seen, later in pairwise(cluster.writes))
    cluster.store.session_refusal = None
    await writes
    assert len(cluster.store.puts) == 20


async def test_a_command_with_a_retry_after_is_deferred_alone(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.idempotency_refusal = Overloaded("too many keys", retry_after_s=0.7)
    named = asyncio.ensure_future(client.put("named", "v", idempotency_key="x"))
    before = cluster.loop.time()
    await asyncio.gather(client.put("k", "v"), client.get("k"))
    assert cluster.loop.time() - before < 0.1
    await asyncio.sleep(1.0)
    asked = [seen.at for seen in cluster.writes if b"named" in seen.keys]
    assert len(asked) == 2
    assert asked[1] - asked[0] > 0.7
    cluster.store.idempotency_refusal = None
    await named
    assert cluster.store.puts == [b"k", b"named"]


async def test_a_retry_after_beyond_the_deadline_fails_at_once(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.idempotency_refusal = Overloaded("too many keys", retry_after_s=3.0)
    with pytest.raises(DeadlineExceeded, match="too many keys"):
        await client.put("named", "v", idempotency_key="x", timeout=2.0)
    assert cluster.loop.time() < 1.0


async def test_a_closing_client_waits_for_deferred_calls(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect()
    cluster.store.idempotency_refusal = Overloaded("too many keys", retry_after_s=0.7)
    named = asyncio.ensure_future(client.put("named", "v", idempotency_key="x"))
    await asyncio.sleep(0.1)
    cluster.store.idempotency_refusal = None
    await client.close()
    assert (await named).revision == 2


async def test_a_timeout_reports_a_store_without_memory(
    client: Client, cluster: ScriptedCluster
) -> None:
    cluster.store.session_refusal = Overloaded("too many sessions", retry_after_s=0.7)
    writing = asyncio.ensure_future(client.put("k", "v", timeout=2.0))
    await asyncio.sleep(1.0)
    await client.get("k")
    with pytest.raises(DeadlineExceeded, match=r"nothing was applied.*too many sessions"):
        await writing


async def test_an_outage_costs_the_servers_one_small_message_at_a_time(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    before = len(cluster.writes)
    cluster.answer_to = lambda seen: NoLeader("electing") if seen.at < 2.0 else None
    await asyncio.gather(*(client.put(f"k{i}", "v") for i in range(500)))
    during = [seen for seen in cluster.writes[before:] if seen.at < 2.0]
    assert len(during[0].batch.commands) == 500
    assert {len(seen.batch.commands) for seen in during[1:]} == {1}
    assert len(cluster.store.puts) == 501


async def test_the_retry_budget_bounds_amplification(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect(
        backoff_s_min=0.0001, backoff_s_max=0.0002, retries_burst=20, retries_per_second=5
    )
    cluster.answer_to = lambda seen: NoLeader("never")
    with pytest.raises(DeadlineExceeded):
        await client.put("k", "v", timeout=10.0)
    assert len(cluster.writes) <= 1 + 20 + 10 * 5 + 0.1 * len(cluster.writes)


async def test_reads_are_repeated_freely_and_end_in_deadline_exceeded(
    client: Client, cluster: ScriptedCluster
) -> None:
    for node in cluster.nodes.values():
        node.mute = node.greets = True
    with pytest.raises(DeadlineExceeded):
        await client.get("k", timeout=5.0)
    assert len({seen.node for seen in cluster.reads}) >= 2


async def test_the_remaining_time_is_sent_with_the_request(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    await client.put("k", "v", timeout=2.0)
    assert cluster.writes[-1].request.timeout_ms == pytest.approx(2_000, abs=1)


async def test_no_timeout_is_longer_than_the_maximum(
    connect: Connect, cluster: ScriptedCluster
) -> None:
    client = await connect(timeout_s_max=2.0)
    cluster.answer_to = lambda seen: NoLeader("never")
    with pytest.raises(DeadlineExceeded):
        await client.put("k", "v", timeout=3_600.0)
    assert cluster.loop.time() < 2.1


async def test_a_cancelled_call_harms_no_other(client: Client, cluster: ScriptedCluster) -> None:
    await client.put("first", "opens the session")
    queued, sent, kept = (asyncio.ensure_future(client.put(key, "v")) for key in ("q", "s", "k"))
    await asyncio.sleep(0)
    queued.cancel()
    await asyncio.sleep(0.0005)
    sent.cancel()
    await kept
    assert cluster.store.puts == [b"first", b"s", b"k"]
    with pytest.raises(asyncio.CancelledError):
        await sent


async def test_a_batch_of_cancelled_calls_is_not_sent_again(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "opens the session")
    cluster.script.append(Fault.BREAK)
    put = asyncio.ensure_future(client.put("k", "v"))
    await asyncio.sleep(0.0005)
    put.cancel()
    await asyncio.sleep(1.0)
    await client.put("last", "v")
    assert cluster.store.puts == [b"first", b"last"]
    assert cluster.writes[-1].batch.acknowledged == cluster.writes[-1].batch.sequence - 1


async def test_a_permanent_error_is_not_retried(client: Client, cluster: ScriptedCluster) -> None:
    cluster.script.append(RevisionCompacted("gone", compacted_revision=7))
    with pytest.raises(RevisionCompacted) as caught:
        await client.put("k", "v")
    assert caught.value.facts["compacted_revision"] == "7"
    assert len(cluster.writes) == 1


async def test_a_write_refused_by_an_expired_session_runs_under_a_new_one(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "v")
    cluster.store.leases.clear()
    await client.put("k", "v")
    assert cluster.store.puts == [b"first", b"k"]
    assert [seen.batch.session for seen in cluster.writes] == [1, 1, 2]


async def test_an_ambiguous_write_of_an_expired_session_is_outcome_unknown(
    client: Client, cluster: ScriptedCluster
) -> None:
    await client.put("first", "v")
    cluster.script.extend([Fault.APPLY_AND_BREAK, SessionExpired("expired")])
    with pytest.raises(OutcomeUnknown):
        await client.put("k", "v")
    assert cluster.store.puts == [b"first", b"k"]

"""Read levels over real gRPC on loopback: what each waits for, and the staleness it reports."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from fake_node import EVERYTHING, FakeServer, get, put

from raftkv.kv.pace import Steps
from raftkv.rpc.v1 import api_pb2, kv_pb2

STALE = api_pb2.READ_LEVEL_STALE
SESSION = api_pb2.READ_LEVEL_SESSION
BOUNDED = api_pb2.READ_LEVEL_BOUNDED
LEADER_LEASE = api_pb2.READ_LEVEL_LEADER_LEASE

IF_A_EXISTS = kv_pb2.Transaction(
    compare=[
        kv_pb2.Compare(key=b"a", version=0, result=kv_pb2.COMPARE_RESULT_GREATER),
    ],
    success=[kv_pb2.Operation(range=get("a")), kv_pb2.Operation(range=EVERYTHING)],
    failure=[kv_pb2.Operation(range=get("b"))],
)


def age(server: FakeServer, seconds: float) -> None:
    """The state of the node was confirmed so long ago."""
    server.node.fresh_as_of_s = asyncio.get_running_loop().time() - seconds


async def ask(server: FakeServer, *ranges: kv_pb2.Range, **reads: object) -> api_pb2.PipelineReply:
    pipeline = server.pipeline()
    await pipeline.send_reads(1, *ranges, **reads)  # type: ignore[arg-type]
    return await pipeline.reply()


async def test_a_session_read_does_not_wait_if_the_revision_is_applied(server: FakeServer) -> None:
    server.node.run(put("a"))
    server.node.majority = False
    reply = await ask(server, get("a"), level=SESSION, min_revision=2)
    assert reply.reads.results[0].range.count == 1
    assert server.node.barriers == 0


async def test_a_session_read_waits_until_the_revision_is_applied(server: FakeServer) -> None:
    pipeline = server.pipeline()
    server.node.on_barrier = lambda: server.node.run(put("a"))
    await pipeline.send_reads(1, get("a"), level=SESSION, min_revision=2)
    reply = await pipeline.reply()
    assert server.node.barriers == 1
    assert reply.reads.results[0].revision == 2


async def test_a_session_read_of_a_revision_never_reached_fails(server: FakeServer) -> None:
    reply = await ask(server, get("a"), level=SESSION, min_revision=99)
    assert reply.failure.reason == "REVISION_IN_FUTURE"
    assert reply.failure.outcome == kv_pb2.OUTCOME_NOT_APPLIED


async def test_a_bounded_read_within_its_bound_does_not_wait(server: FakeServer) -> None:
    age(server, 0.2)
    server.node.majority = False
    reply = await ask(server, get("a"), level=BOUNDED, max_staleness_ms=20_000)
    assert server.node.barriers == 0
    assert 200 <= reply.reads.staleness_ms <= 20_000


@pytest.mark.parametrize("known", [True, False], ids=["too old", "of unknown age"])
async def test_a_bounded_read_beyond_its_bound_does_a_read_barrier(
    server: FakeServer, known: bool
) -> None:
    if known:
        age(server, 100.0)
    reply = await ask(server, get("a"), level=BOUNDED, max_staleness_ms=20_000)
    assert server.node.barriers == 1
    assert 0 <= reply.reads.staleness_ms <= 20_000


async def test_a_bounded_read_fails_if_no_majority_confirms_a_newer_state(
    server: FakeServer,
) -> None:
    age(server, 100.0)
    server.node.majority = False
    reply = await ask(server, get("a"), level=BOUNDED, max_staleness_ms=500, timeout_ms=100)
    assert (reply.failure.reason, reply.failure.outcome) == (
        "TOO_STALE",
        kv_pb2.OUTCOME_SAFE_TO_RETRY,
    )
    assert "500 ms" in reply.failure.message


async def test_a_bounded_read_that_took_longer_than_its_bound_is_repeated(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the bound when it began is not enough: the range shows the state of its first step."""
    loop, read = asyncio.get_running_loop(), server.node.machine.read
    real_time, late_s = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real_time() + late_s)

    def slow(request: kv_pb2.Range) -> Steps[kv_pb2.Result]:
        nonlocal late_s
        yield
        result = yield from read(request)
        if not server.node.barriers:
            server.node.run(put("a"))
            late_s = 2.0
        return result

    server.node.machine.read = slow  # type: ignore[method-assign]
    age(server, 0.0)
    reply = await ask(server, EVERYTHING, level=BOUNDED, max_staleness_ms=1_000)
    assert reply.reads.staleness_ms <= 1_000
    assert reply.reads.results[0].range.count == 1


@pytest.mark.parametrize("bound_ms", [0, -1])
async def test_a_staleness_bound_below_1_ms_is_a_bad_request(
    server: FakeServer, bound_ms: int
) -> None:
    reply = await ask(server, get("a"), level=BOUNDED, max_staleness_ms=bound_ms)
    assert reply.failure.reason == "INVALID_REQUEST"
    assert "max_staleness_ms" in reply.failure.message


async def test_a_stale_read_reports_its_staleness(server: FakeServer) -> None:
    assert (await ask(server, get("a"), level=STALE)).reads.staleness_ms == -1
    age(server, 3.0)
    assert 3_000 <= (await ask(server, get("a"), level=STALE)).reads.staleness_ms < 60_000
    assert server.node.barriers == 0


async def test_a_lease_read_needs_no_barrier_only_while_there_is_a_leader_lease(
    server: FakeServer,
) -> None:
    server.node.leased = True
    reply = await ask(server, get("a"), level=LEADER_LEASE)
    assert (server.node.barriers, reply.reads.staleness_ms) == (0, 0)
    server.node.leased = False
    await ask(server, get("a"), level=LEADER_LEASE)
    assert server.node.barriers == 1


async def test_an_unknown_read_level_is_refused(server: FakeServer) -> None:
    reply = await ask(server, get("a"), level=17)
    assert reply.failure.reason == "INVALID_REQUEST"


async def test_transactions_are_answered_after_the_ranges_in_one_state(server: FakeServer) -> None:
    server.node.run(put("a"), put("b"))
    reply = await ask(server, get("b"), transactions=[IF_A_EXISTS, IF_A_EXISTS])
    of_range, first, second = reply.reads.results
    assert of_range.range.kvs[0].key == b"b"
    assert first == second
    assert first.transaction.succeeded
    one, all_ = first.transaction.responses
    assert [kv.key for kv in one.range.kvs] == [b"a"]
    assert [kv.key for kv in all_.range.kvs] == [b"a", b"b"]
    assert {first.revision, one.revision, all_.revision} == {3}


async def test_a_read_transaction_with_a_write_is_refused_and_writes_nothing(
    server: FakeServer,
) -> None:
    nested = kv_pb2.Transaction(success=[kv_pb2.Operation(put=kv_pb2.Put(key=b"x"))])
    writing = kv_pb2.Transaction(failure=[kv_pb2.Operation(transaction=nested)])
    reply = await ask(server, get("a"), transactions=[writing])
    assert reply.reads.results[1].failure.reason == "INVALID_REQUEST"
    assert "put" in reply.reads.results[1].failure.message
    assert server.node.machine.revision == 1


async def test_unary_reads_have_the_levels_too(server: FakeServer) -> None:
    server.node.run(put("a"))
    age(server, 3.0)
    found = await server.kv.Range(
        api_pb2.RangeRequest(range=get("a"), level=api_pb2.READ_LEVEL_STALE)
    )
    assert found.staleness_ms >= 3_000
    assert (found.header.node_id, found.header.term, found.header.revision) == (1, 3, 2)
    read = await server.kv.ReadTransaction(
        api_pb2.ReadTransactionRequest(
            transaction=IF_A_EXISTS, level=api_pb2.READ_LEVEL_SESSION, min_revision=2
        )
    )
    assert read.result.succeeded
    assert read.staleness_ms >= 3_000
    server.node.majority = False
    with pytest.raises(grpc.aio.AioRpcError, match="no majority confirmed"):
        await server.kv.Range(
            api_pb2.RangeRequest(
                range=get("a"), level=api_pb2.READ_LEVEL_BOUNDED, max_staleness_ms=500
            ),
            timeout=0.3,
        )

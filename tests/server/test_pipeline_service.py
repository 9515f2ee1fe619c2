"""The pipelined stream, over real gRPC on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from fake_node import EVERYTHING, FakeServer, get, open_server, put

from raftkv.rpc.v1 import api_pb2, kv_pb2

STALE = api_pb2.READ_LEVEL_STALE


def results_of(reply: api_pb2.PipelineReply) -> kv_pb2.BatchResult:
    return kv_pb2.BatchResult.FromString(reply.results)


async def test_a_batch_comes_back_applied_under_its_number(server: FakeServer) -> None:
    pipeline = server.pipeline()
    await pipeline.send_commands(42, put("a"), put("b"))

    reply = await pipeline.reply()

    assert reply.number == 42
    assert [result.revision for result in results_of(reply).results] == [2, 3]
    assert (reply.header.cluster_id, reply.header.node_id) == (0xC0FFEE, 1)
    assert (reply.header.term, reply.header.revision) == (3, 3)


async def test_the_bytes_of_a_batch_are_proposed_unchanged(server: FakeServer) -> None:
    pipeline = server.pipeline()
    commands = await pipeline.send_commands(1, put("a"))
    await pipeline.reply()

    assert server.node.submitted == [commands]


async def test_a_proposal_carries_its_client_and_its_weight(server: FakeServer) -> None:
    first, second = server.pipeline(), server.pipeline()
    await first.send_commands(1, put("a"), put("b"))
    await first.reply()
    await second.send_commands(1, put("c"))
    await second.reply()
    (one, two), (other, single) = server.node.submitted_by
    assert one == other != 0  # one connection, however many streams it has
    assert (two, single) == (2, 1)


async def test_replies_carry_the_advised_batch_size(
    server: FakeServer,
) -> None:
    pipeline = server.pipeline()
    server.node.batch_commands_advised = 128
    await pipeline.send_commands(1, put("a"))
    assert (await pipeline.reply()).batch_commands_max == 128


async def test_a_reply_does_not_wait_for_replies_to_earlier_requests(server: FakeServer) -> None:
    server.node.hold = True
    pipeline = server.pipeline()
    await pipeline.send_commands(1, put("a"))
    await pipeline.send_commands(2, put("b"))
    await pipeline.send_reads(3, get("a"))

    first = await pipeline.reply()
    await server.node.submissions(2)
    server.node.release()

    assert [first.number, (await pipeline.reply()).number, (await pipeline.reply()).number] == [
        3,
        2,
        1,
    ]


async def test_a_bad_command_is_refused_before_the_log_with_its_position_and_limit(
    server: FakeServer,
) -> None:
    pipeline = server.pipeline()
    await pipeline.send_commands(1, put("a"), put("k" * 9000), put("b"))

    failure = (await pipeline.reply()).failure

    assert (failure.reason, failure.outcome) == ("TOO_LARGE", kv_pb2.OUTCOME_NOT_APPLIED)
    assert failure.facts["position"] == "1"
    assert "8192" in failure.message
    assert server.node.submitted == []


async def test_a_batch_that_is_too_large_is_refused_and_the_stream_goes_on(
    server: FakeServer,
) -> None:
    pipeline = server.pipeline()
    await pipeline.send_commands(1, *(put(f"k{n}", b"x" * (1 << 20)) for n in range(4)))
    await pipeline.send_commands(2, put("a"))

    refused, applied = await pipeline.reply(), await pipeline.reply()

    assert (refused.number, refused.failure.reason) == (1, "TOO_LARGE")
    assert "position" not in refused.failure.facts
    assert (applied.number, applied.WhichOneof("reply")) == (2, "results")


async def test_bytes_that_are_no_batch_are_refused_and_the_stream_goes_on(
    server: FakeServer,
) -> None:
    pipeline = server.pipeline()
    await pipeline.send(api_pb2.PipelineRequest(number=1, commands=b"\xff\xff"))
    await pipeline.send(api_pb2.PipelineRequest(number=2))
    await pipeline.send_commands(3, put("a"))

    replies = {reply.number: reply for reply in [await pipeline.reply() for _ in range(3)]}

    assert replies[1].failure.reason == "INVALID_REQUEST"
    assert replies[2].failure.reason == "INVALID_REQUEST"
    assert replies[3].HasField("results")


async def test_bytes_that_are_no_request_end_the_stream_with_a_typed_status(
    server: FakeServer,
) -> None:
    pipeline = server.pipeline()
    await pipeline.call.write(b"\xff\xff\xff")

    assert await pipeline.end() is grpc.StatusCode.INVALID_ARGUMENT


async def test_requests_in_flight_are_answered_before_bad_bytes_end_the_stream(
    server: FakeServer,
) -> None:
    server.node.hold = True
    pipeline = server.pipeline()
    await pipeline.send_commands(7, put("a"))
    await server.node.submissions(1)
    await pipeline.call.write(b"\xff\xff")
    server.node.release()

    assert (await pipeline.reply()).number == 7
    assert await pipeline.end() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_deadline_that_passes_after_the_submit_is_outcome_unknown(
    server: FakeServer,
) -> None:
    server.node.majority = False
    pipeline = server.pipeline()
    await pipeline.send_commands(1, put("a"), timeout_ms=20)

    failure = (await pipeline.reply()).failure

    assert (failure.reason, failure.outcome) == ("OUTCOME_UNKNOWN", kv_pb2.OUTCOME_MAYBE_APPLIED)


async def test_over_the_bound_a_request_is_refused_at_once_with_a_retry_delay(
    tmp_path: Path,
) -> None:
    async with open_server(tmp_path, requests_per_client_max=2) as server:
        server.node.hold = True
        pipeline = server.pipeline()
        for number in (1, 2, 3):
            await pipeline.send_commands(number, put("a"))

        refused = await pipeline.reply()

        assert (refused.number, refused.failure.reason) == (3, "OVERLOADED")
        assert refused.failure.outcome == kv_pb2.OUTCOME_SAFE_TO_RETRY
        assert refused.failure.retry_after_ms > 0
        await server.node.submissions(2)
        server.node.release()
        assert {(await pipeline.reply()).number for _ in range(2)} == {1, 2}


async def test_requests_of_a_disconnected_client_are_no_longer_counted(tmp_path: Path) -> None:
    async with open_server(tmp_path, submissions_in_flight_max=2) as server:
        server.node.hold = True
        gone, other = server.pipeline(), server.pipeline()
        await gone.send_commands(1, put("a"))
        await gone.send_commands(2, put("a"))
        await server.node.submissions(2)
        gone.call.cancel()
        server.node.release()

        await other.send_commands(1, put("b"))

        assert (await other.reply()).WhichOneof("reply") == "results"


async def test_a_stale_read_needs_no_read_barrier(server: FakeServer) -> None:
    server.node.run(put("a"))
    server.node.majority = False
    pipeline = server.pipeline()
    await pipeline.send_reads(1, get("a"), get("missing"), level=STALE)

    found, missing = (await pipeline.reply()).reads.results

    assert (found.range.kvs[0].value, missing.range.count) == (b"v", 0)
    assert server.node.barriers == 0


async def test_a_linearizable_read_without_a_majority_fails_and_is_safe_to_retry(
    server: FakeServer,
) -> None:
    server.node.majority = False
    pipeline = server.pipeline()
    await pipeline.send_reads(1, get("a"), timeout_ms=20)

    failure = (await pipeline.reply()).failure

    assert (failure.reason, failure.outcome) == ("NO_LEADER", kv_pb2.OUTCOME_SAFE_TO_RETRY)


async def test_all_reads_of_a_batch_share_one_barrier(server: FakeServer) -> None:
    pipeline = server.pipeline()
    await pipeline.send_reads(1, *(get(f"k{n}") for n in range(100)))

    assert len((await pipeline.reply()).reads.results) == 100
    assert server.node.barriers == 1


async def test_one_bad_range_does_not_fail_the_others(server: FakeServer) -> None:
    server.node.run(put("a"))
    pipeline = server.pipeline()
    await pipeline.send_reads(1, kv_pb2.Range(), get("a"), kv_pb2.Range(key=b"a", revision=99))

    empty, good, future = (await pipeline.reply()).reads.results

    assert empty.failure.reason == "INVALID_REQUEST"
    assert good.range.count == 1
    assert future.failure.reason == "REVISION_IN_FUTURE"


async def test_a_long_range_comes_back_whole_while_writes_go_on(server: FakeServer) -> None:
    server.node.run(*(put(f"k{n:05}") for n in range(5000)))
    pipeline = server.pipeline()
    await pipeline.send_reads(1, EVERYTHING)
    await pipeline.send_commands(2, put("k00000x"))

    replies = {reply.number: reply for reply in [await pipeline.reply() for _ in range(2)]}

    (everything,) = replies[1].reads.results
    assert everything.range.count in (5000, 5001)
    assert len(everything.range.kvs) == everything.range.count
    assert replies[2].HasField("results")


@pytest.mark.parametrize("request_", [get("k1"), EVERYTHING], ids=["points", "ranges"])
async def test_reads_that_do_not_fit_one_reply_fail_as_overloaded(
    server: FakeServer, request_: kv_pb2.Range
) -> None:
    server.node.run(put("k1", b"x" * (1 << 20)))
    pipeline = server.pipeline()
    await pipeline.send_reads(1, *[request_] * 6)

    results = (await pipeline.reply()).reads.results

    answered = [result for result in results if result.HasField("range")]
    told = [result.failure for result in results if result.HasField("failure")]
    assert (len(answered), len(told)) == (3, 3)
    assert {(each.reason, each.outcome) for each in told} == {
        ("OVERLOADED", kv_pb2.OUTCOME_SAFE_TO_RETRY)
    }


async def test_a_client_that_reads_no_replies_does_not_delay_another(server: FakeServer) -> None:
    server.node.run(put("k1", b"x" * (1 << 20)))
    idle, busy = server.pipeline(), server.pipeline()
    for number in range(64):
        await idle.send_reads(number, *[get("k1")] * 3)

    await busy.send_commands(1, put("a"))

    assert (await busy.reply()).HasField("results")
    assert sorted([(await idle.reply()).number for _ in range(64)]) == list(range(64))


async def test_a_client_that_has_ended_its_requests_still_gets_every_reply(
    server: FakeServer,
) -> None:
    server.node.hold = True
    pipeline = server.pipeline()
    await pipeline.send_commands(1, put("a"))
    await pipeline.call.done_writing()
    await server.node.submissions(1)
    server.node.release()

    assert (await pipeline.reply()).number == 1
    assert await pipeline.end() is grpc.StatusCode.OK


async def test_a_stopping_node_answers_requests_in_flight_and_refuses_new_ones(
    server: FakeServer,
) -> None:
    server.node.hold = True
    pipeline = server.pipeline()
    await pipeline.send_commands(1, put("a"))
    await server.node.submissions(1)
    stopping = asyncio.create_task(_stop(server))
    await server.client_server.drain(0)

    await pipeline.send_commands(2, put("b"))
    refused = await pipeline.reply()
    server.node.release()
    answered = await pipeline.reply()

    assert (refused.number, refused.failure.reason) == (2, "SHUTTING_DOWN")
    assert (answered.number, answered.WhichOneof("reply")) == (1, "results")
    assert await pipeline.end() is grpc.StatusCode.UNAVAILABLE
    await stopping


async def _stop(server: FakeServer) -> None:
    await server.client_server.drain(20)
    await server.client_server.stop(20)

"""The client port's call intake: what is counted, refused and closed while others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from fake_node import PATIENCE_S, FakeServer, get, open_server, put
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from raw_http2 import RawClient, message
from structlog.testing import capture_logs

from raftkv.errors import InvalidRequest, Overloaded
from raftkv.kv.limits import Limits
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server import call_intake, request_reader, traffic
from raftkv.server.call_intake import CallKind, CallSlots
from raftkv.server.grpc_server import MESSAGE_BYTES_OVER_BATCH
from raftkv.wire.grpc_status import error_of_call

EXECUTE = "/raftkv.rpc.v1.KV/Execute"
RANGE = "/raftkv.rpc.v1.KV/Range"
PIPELINE = "/raftkv.rpc.v1.Pipeline/Open"
GARBAGE = b"\x0a\xff\xff\xff\x7f" + bytes(range(20))
HALF = message(bytes(1_000), size=1 << 20)
LARGE_HALF = message(bytes(25_000), size=1 << 20)
"""Two of it stay within what a connection may send before the server has read any."""

API = api_pb2.DESCRIPTOR.services_by_name.values()
EVERY_METHOD = [
    *(f"/{service.full_name}/{method.name}" for service in API for method in service.methods),
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    f"/{REFLECTION}/ServerReflectionInfo",
]


async def check_write_succeeds(server: FakeServer) -> None:
    """Check that another client's write succeeds."""
    async with asyncio.timeout(PATIENCE_S):
        await server.kv.Execute(api_pb2.ExecuteRequest(command=put("a")))


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "SAMPLE_INTERVAL_S", 0.01)


# ---- malformed -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", EVERY_METHOD)
async def test_malformed_bytes_are_refused_with_a_typed_error_and_no_traceback(
    server: FakeServer, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as lines:
        call = server.channel.stream_stream(method)()
        await call.write(GARBAGE)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error_of_call(ended.value), InvalidRequest)
    assert [line for line in lines if line["log_level"] in ("warning", "error")] == []
    assert caplog.records == []  # gRPC's own


async def test_a_call_without_a_message_is_refused(server: FakeServer) -> None:
    call = server.channel.stream_stream(EXECUTE)()
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_too_large_message_ends_its_call_and_nothing_else(server: FakeServer) -> None:
    over = bytes(Limits().batch_bytes_max + MESSAGE_BYTES_OVER_BATCH + 1)
    for method in (EXECUTE, PIPELINE):
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await server.channel.stream_unary(method)(iter([over]))
        assert ended.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await check_write_succeeds(server)


async def test_a_defect_is_a_typed_error_and_is_logged_once_a_second(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.node, "submit", lambda *_: 1 // 0)
    with capture_logs() as lines:
        for _ in range(5):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await server.kv.Execute(api_pb2.ExecuteRequest(command=put("a", b"secret")))
            assert error_of_call(ended.value) is not None
    logged = [line for line in lines if line["log_level"] == "error"]
    assert [(line["event"], line["method"]) for line in logged] == [("call_failed", EXECUTE)]


# ---- counted -------------------------------------------------------------------------------


def test_calls_of_a_kind_are_bounded_per_node_and_per_connection() -> None:
    places, kind = CallSlots(), CallKind("things", per_connection_max=2, count_max=3)
    places.enter(kind, "a")
    places.enter(kind, "a")
    with pytest.raises(Overloaded, match="things of this connection: the bound of 2"):
        places.enter(kind, "a")
    places.enter(kind, "b")
    with pytest.raises(Overloaded, match="things of this node: the bound of 3"):
        places.enter(kind, "c")
    places.leave(kind, "a")
    places.enter(kind, "c")


async def test_a_slot_is_free_again_after_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_server(tmp_path, submissions_in_flight_max=1) as server:
        calls = [check_write_succeeds(server) for _ in range(3)]  # two of them are refused
        await asyncio.gather(*calls, return_exceptions=True)
        # The answer may be here before the call has ended there.
        async with asyncio.timeout(PATIENCE_S):
            while server.client_server._intake._slots._of_connection:  # noqa: ASYNC110
                await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("method", "first", "kind"),
    [
        (PIPELINE, api_pb2.PipelineRequest(number=1), call_intake.PIPELINE),
        ("/raftkv.rpc.v1.Watch/Open", api_pb2.WatchRequest(progress=True), call_intake.WATCH),
        ("/raftkv.rpc.v1.Lease/KeepAlive", api_pb2.LeaseKeepAliveRequest(), call_intake.KEEP_ALIVE),
        (
            "/grpc.health.v1.Health/Watch",
            health_pb2.HealthCheckRequest(),
            call_intake.HEALTH_WATCH,
        ),
    ],
)
async def test_streams_of_a_connection_are_bounded(
    server: FakeServer, method: str, first: api_pb2.PipelineRequest, kind: CallKind
) -> None:
    calls = [server.channel.stream_stream(method)() for _ in range(kind.per_connection_max)]
    for call in calls:
        await call.write(first.SerializeToString())
        assert isinstance(await call.read(), bytes)
    one_more = server.channel.stream_stream(method)()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await one_more.read()
    assert isinstance(error_of_call(ended.value), Overloaded)
    for call in calls:
        call.cancel()


# ---- arriving ------------------------------------------------------------------------------


async def test_partial_requests_are_timed_out_while_other_calls_wait(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reader, "READS_MAX", 3)
    monkeypatch.setattr(request_reader, "READ_S_MAX", 1000.0)
    monkeypatch.setattr(request_reader, "READ_UNDER_PRESSURE_S_MAX", 0.01)
    async with RawClient(server.port) as raw:
        for _ in range(10):
            await raw.call(EXECUTE, HALF, end=False)
        for _ in range(5):
            await check_write_succeeds(server)


class SlowCall:
    """A context whose message arrives when the test sets it."""

    def __init__(self) -> None:
        self.message: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        return await self.message


async def test_requests_are_read_round_robin_between_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_reader, "READS_MAX", 1)
    reading, order = request_reader.RequestReader(), []

    async def read(peer: str, call: SlowCall) -> None:
        await reading.read(call, peer)  # type: ignore[arg-type]
        order.append(peer)

    calls = [("many", SlowCall()) for _ in range(5)] + [("one", SlowCall())]
    tasks = [asyncio.create_task(read(*call)) for call in calls]
    await asyncio.sleep(0)
    for _, call in calls:
        call.message.set_result(b"")
    await asyncio.gather(*tasks)
    assert order.index("one") <= 2


async def test_a_request_that_does_not_arrive_in_time_is_refused(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reader, "READ_S_MAX", 0.01)
    call = server.channel.stream_stream(EXECUTE)()
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# ---- open streams --------------------------------------------------------------------------


@asynccontextmanager
async def half_sender(port: int) -> AsyncIterator[RawClient]:
    greeting = api_pb2.PipelineRequest(number=0).SerializeToString()
    async with RawClient(port) as raw:
        for _ in range(2):
            await raw.call(PIPELINE, message(greeting) + LARGE_HALF, end=False)
        yield raw


async def test_a_connection_with_too_many_partial_requests_is_closed(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(traffic, "HALF_SENT_BYTES_MAX", 20_000)
    pipeline = server.pipeline()
    async with half_sender(server.port) as raw:
        cut = asyncio.create_task(raw.until_cut())
        number = 0
        while not cut.done():
            number += 1
            await pipeline.send_commands(number, put("a", bytes(50_000)))
            await pipeline.reply()
        await cut
    await pipeline.send_commands(0, put("a"))
    assert (await pipeline.reply()).number == 0


def test_a_connection_in_use_may_have_one_message_in_transit() -> None:
    connection = traffic.ClientConnection("ipv4:127.0.0.1:1")
    connection.calls = 1
    for number in range(1, 100):
        connection.received += 100
        connection.sample(number * 100 + 1_000_000)
        assert connection.in_use
    connection.sample(connection.sampled + traffic.IN_FLIGHT_BYTES_MAX)
    assert not connection.in_use  # several are half-sent
    connection.received += traffic.IN_FLIGHT_BYTES_MAX
    connection.sample(connection.sampled)
    assert connection.in_use
    for _ in range(traffic.IN_USE_SAMPLES_MAX):
        connection.sample(connection.sampled)
    assert not connection.in_use  # and none follows


def test_partial_requests_are_the_bytes_received_beyond_messages() -> None:
    connection = traffic.ClientConnection("ipv4:127.0.0.1:1")
    connection.calls = 1
    connection.sample(1_000_000)
    assert connection.half_sent == pytest.approx(1_000_000, rel=0.01)
    before = connection.half_sent
    connection.sample(1_000_000 + traffic.FRAMING_BYTES_PER_SAMPLE)  # pings and the like
    assert connection.half_sent == before
    connection.received += 2_000_000  # the rest arrived, and it became a message
    connection.sample(2_000_000)
    assert connection.half_sent == 0
    connection.sample(3_000_000)
    connection.calls = 0  # whatever it was, it is gone with its call
    connection.sample(3_000_000)
    assert connection.half_sent == 0


# ---- not fetched ---------------------------------------------------------------------------


def fill(server: FakeServer) -> bytes:
    """The request of a reply of a megabyte."""
    server.node.run(put("big", bytes(1_000_000)))
    return message(api_pb2.RangeRequest(range=get("big")).SerializeToString())


async def all_replies_are_let_go(server: FakeServer) -> None:
    """gRPC reports the end of a call some turns of the event loop after its connection is cut."""
    async with asyncio.timeout(PATIENCE_S):
        while server.client_server._intake._traffic.bytes >= 1_000_000:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_client_that_reads_no_reply_loses_its_connection(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(traffic, "STALL_S_MAX", 0.05)
    request = fill(server)
    async with RawClient(server.port, window=0) as raw:
        for _ in range(5):
            await raw.call(RANGE, request)
        await raw.until_cut()
    await check_write_succeeds(server)
    await all_replies_are_let_go(server)


@pytest.mark.parametrize("method", [PIPELINE, "/raftkv.rpc.v1.Watch/Open"])
async def test_a_client_that_reads_nothing_of_a_stream_loses_its_connection(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(traffic, "STALL_S_MAX", 0.05)
    bad_creates = [api_pb2.WatchCreate(watch_id=1) for _ in range(100)]
    first = {PIPELINE: api_pb2.PipelineRequest(number=1)}.get(
        method, api_pb2.WatchRequest(creates=bad_creates)
    )
    async with RawClient(server.port, window=0) as raw:
        await raw.call(method, message(first.SerializeToString()), end=False)
        await raw.until_cut()


async def test_above_the_bound_of_unread_replies_no_more_are_produced(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "UNFETCHED_BYTES_MAX", 1_500_000)
    request = fill(server)
    async with RawClient(server.port, window=0) as raw:
        for _ in range(2):
            await raw.call(RANGE, request)
        async with asyncio.timeout(PATIENCE_S):
            while server.client_server._intake._traffic.has_room:  # noqa: ASYNC110 (there is no event for it)
                await asyncio.sleep(0.001)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await server.kv.Range(api_pb2.RangeRequest(range=get("big")))
        assert isinstance(error_of_call(ended.value), Overloaded)
        pipeline = server.pipeline()  # one that fetches its replies goes on
        for number in range(3):
            await pipeline.send_reads(number, get("big"))
            assert (await pipeline.reply()).number == number


async def test_a_pipeline_far_above_its_bound_of_unread_results_is_closed(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "STALL_S_MAX", 1000.0)
    fill(server)
    reading = kv_pb2.Transaction()
    reading.success.add().range.key = b"big"
    batch = kv_pb2.CommandBatch(commands=[kv_pb2.Command(transaction=reading)]).SerializeToString()
    server.node.hold = True
    async with RawClient(server.port, window=0) as raw:
        requests = [api_pb2.PipelineRequest(number=n, commands=batch) for n in range(40)]
        data = b"".join(message(request.SerializeToString()) for request in requests)
        await raw.call(PIPELINE, data, end=False)
        await server.node.submissions(40)
        server.node.release()
        await raw.until_cut()

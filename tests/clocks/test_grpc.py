"""Every kind of gRPC call carries clocks both ways, and an invalid time breaks no call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from raftkv.clocks import (
    HybridClock,
    HybridTime,
    LamportClock,
    LamportTime,
    VectorClock,
    VectorTime,
    grpc_aio,
    grpc_sync,
)
from raftkv.clocks.metadata import HYBRID_KEY, LAMPORT_KEY, VECTOR_KEY, AnyClock

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
LATE = LamportTime(1000)

# What a handler does with the clock of its server, and when.
Act = Callable[[], object]


class SyncService(grpc.GenericRpcHandler):
    """Echoes once; `act` runs inside every handler, `fails` ends it with an abort."""

    def __init__(self, act: Act, fails: bool = False) -> None:
        self._act = act
        self._fails = fails

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        kind = details.method.rpartition("/")[2]
        handler = self._stream if kind.endswith("stream") else self._unary
        return getattr(grpc, f"{kind}_rpc_method_handler")(handler)

    def _unary(self, request: Any, context: Any) -> bytes:
        assert request == b"ask" or list(request) == [b"ask"]
        context.set_trailing_metadata((("own", "kept"),))
        self._act()
        if self._fails:
            context.abort(grpc.StatusCode.ABORTED, "asked for")
        return b"answer"

    def _stream(self, request: Any, context: Any) -> Iterator[bytes]:
        yield self._unary(request, context)


class AioService(SyncService):
    """The same on an event loop."""

    async def _unary(self, request: Any, context: Any) -> bytes:  # type: ignore[override]
        assert request == b"ask" or [message async for message in request] == [b"ask"]
        context.set_trailing_metadata((("own", "kept"),))
        self._act()
        if self._fails:
            await context.abort(grpc.StatusCode.ABORTED, "asked for")
        return b"answer"

    async def _stream(self, request: Any, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        yield await self._unary(request, context)


class WritingService(AioService):
    """Answers streams by `context.write`, the other form that grpc.aio knows."""

    async def _stream(self, request: Any, context: Any) -> None:  # type: ignore[override]
        await context.write(await self._unary(request, context))


@contextmanager
def sync_server(clock: AnyClock, service: grpc.GenericRpcHandler) -> Iterator[str]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        server = grpc.server(pool, interceptors=[grpc_sync.server_interceptor(clock)])
        server.add_generic_rpc_handlers((service,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


@asynccontextmanager
async def aio_server(clock: AnyClock, service: grpc.GenericRpcHandler) -> AsyncIterator[str]:
    server = grpc.aio.server(
        ThreadPoolExecutor(max_workers=1), interceptors=[grpc_aio.server_interceptor(clock)]
    )
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def call_sync(channel: Any, kind: str, metadata: Any = None) -> Any:
    """Make the call to its end; the call."""
    request: Any = iter([b"ask"]) if kind.startswith("stream") else b"ask"
    make = getattr(channel, kind)(f"/test.Echo/{kind}")
    if kind.endswith("stream"):
        call = make(request, metadata=metadata, timeout=20)
        assert list(call) == [b"answer"]
    else:
        answer, call = make.with_call(request, metadata=metadata, timeout=20)
        assert answer == b"answer"
    return call


@contextmanager
def sync_channel(clock: AnyClock, address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield grpc.intercept_channel(channel, *grpc_sync.client_interceptors(clock))


async def call_aio(channel: Any, kind: str, metadata: Any = None) -> Any:
    request: Any = iter([b"ask"]) if kind.startswith("stream") else b"ask"
    call = getattr(channel, kind)(f"/test.Echo/{kind}")(request, metadata=metadata, timeout=20)
    if kind.endswith("stream"):
        assert [response async for response in call] == [b"answer"]
    else:
        assert await call == b"answer"
    return call


@pytest.mark.parametrize("kind", KINDS)
def test_a_blocking_call_orders_client_handler_and_client(kind: str) -> None:
    here, there = LamportClock(LATE), LamportClock()
    seen: list[LamportTime] = []
    with (
        sync_server(there, SyncService(lambda: seen.append(there.tick()))) as address,
        sync_channel(here, address) as channel,
    ):
        call = call_sync(channel, kind)
    assert LATE < seen[0] < here.now
    assert dict(call.trailing_metadata())["own"] == "kept"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", [AioService, WritingService])
async def test_an_asyncio_call_orders_client_handler_and_client(
    kind: str, service: Callable[[Act], grpc.GenericRpcHandler]
) -> None:
    here, there = LamportClock(LATE), LamportClock()
    seen: list[LamportTime] = []
    async with aio_server(there, service(lambda: seen.append(there.tick()))) as address:
        interceptors = grpc_aio.client_interceptors(here)
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            call = await call_aio(channel, kind)
            assert LATE < seen[0] < here.now
            assert dict(await call.trailing_metadata())["own"] == "kept"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_blocking_handler_of_an_asyncio_server_follows_its_caller(kind: str) -> None:
    here, there = LamportClock(LATE), LamportClock()
    seen: list[LamportTime] = []
    async with aio_server(there, SyncService(lambda: seen.append(there.tick()))) as address:
        interceptors = grpc_aio.client_interceptors(here)
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            call = await call_aio(channel, kind)
            assert seen[0] > LATE
            assert dict(await call.trailing_metadata())["own"] == "kept"


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_of_a_blocking_call_carries_time(kind: str) -> None:
    here, there = LamportClock(), LamportClock(LATE)
    with (
        sync_server(there, SyncService(lambda: None, fails=True)) as address,
        sync_channel(here, address) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        call_sync(channel, kind)
    assert raised.value.code() is grpc.StatusCode.ABORTED  # type: ignore[attr-defined]
    assert here.now > LATE


@pytest.mark.parametrize("kind", KINDS)
async def test_the_error_of_an_asyncio_call_carries_time_and_what_the_handler_set(
    kind: str,
) -> None:
    here, there = LamportClock(), LamportClock(LATE)
    async with aio_server(there, AioService(lambda: None, fails=True)) as address:
        interceptors = grpc_aio.client_interceptors(here)
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call_aio(channel, kind)
    assert raised.value.code() is grpc.StatusCode.ABORTED
    assert dict(raised.value.trailing_metadata())["own"] == "kept"
    assert here.now > LATE


def test_a_blocking_future_has_taken_time_over_when_it_gives_its_result() -> None:
    here, there = LamportClock(), LamportClock(LATE)
    with (
        sync_server(there, SyncService(lambda: None)) as address,
        sync_channel(here, address) as channel,
    ):
        future = channel.unary_unary("/test.Echo/unary_unary").future(b"ask")
        assert future.result(20) == b"answer"
        assert here.now > LATE


async def test_a_stream_that_is_read_and_written_by_hand_carries_time() -> None:
    here, there = LamportClock(), LamportClock(LATE)
    async with aio_server(there, AioService(lambda: None)) as address:
        interceptors = grpc_aio.client_interceptors(here)
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            call = channel.stream_stream("/test.Echo/stream_stream")()
            await call.write(b"ask")
            await call.done_writing()
            assert await call.read() == b"answer"
            assert await call.read() is grpc.aio.EOF
            assert here.now > LATE


@pytest.mark.parametrize("clocks", [HybridClock, lambda: VectorClock("there")])
async def test_every_clock_travels(clocks: Callable[[], AnyClock]) -> None:
    here: Any = VectorClock("here") if isinstance(clocks(), VectorClock) else HybridClock()
    there: Any = clocks()
    before = here.tick()
    async with aio_server(there, AioService(lambda: None)) as address:
        interceptors = grpc_aio.client_interceptors(here)
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            await call_aio(channel, "unary_unary")
    if isinstance(there, VectorClock):
        assert before.happened_before(there.now)
        assert here.now.count("there") == there.now.count("there")
    else:
        assert before < there.now < here.now


BAD: list[tuple[Callable[[], AnyClock], str, bytes]] = [
    (LamportClock, LAMPORT_KEY, b""),
    (LamportClock, LAMPORT_KEY, b"12"),
    (LamportClock, LAMPORT_KEY, b"\xff" * 8),
    (HybridClock, HYBRID_KEY, b"x" * 9),
    (HybridClock, HYBRID_KEY, HybridTime(1 << 47).encode()),
    (lambda: VectorClock("me"), VECTOR_KEY, b"\xff\xff"),
    (lambda: VectorClock("me"), VECTOR_KEY, b"\x00\x00\x02\xff\xff"),
    (lambda: VectorClock("me"), VECTOR_KEY, VectorTime().without_member("me").encode()),
    (lambda: VectorClock("me"), VECTOR_KEY, VectorTime({"me": 2**64 - 1}).encode()),
    (
        lambda: VectorClock("me"),
        VECTOR_KEY,
        VectorTime({f"m{n:060d}": 1 for n in range(70)}).encode(),
    ),
]


@pytest.mark.parametrize(("clock", "key", "data"), BAD)
async def test_an_invalid_received_time_neither_fails_the_call_nor_moves_the_clock(
    clock: Callable[[], AnyClock], key: str, data: bytes
) -> None:
    there = clock()
    before, seen = there.now, list[Any]()
    async with (
        aio_server(there, AioService(lambda: seen.append(there.now))) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await call_aio(channel, "unary_unary", ((key, data),))
    assert seen == [before]


async def test_a_caller_without_a_clock_is_served() -> None:
    there = LamportClock()
    async with (
        aio_server(there, AioService(lambda: None)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = await call_aio(channel, "unary_unary")
        assert LamportTime.decode(dict(await call.trailing_metadata())[LAMPORT_KEY]) == (there.now)


def test_an_unknown_method_stays_unknown() -> None:
    class Nothing(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> None:
            return None

    with (
        sync_server(LamportClock(), Nothing()) as address,
        grpc.insecure_channel(address) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        call_sync(channel, "unary_unary")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]

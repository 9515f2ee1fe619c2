"""The link over real gRPC on loopback: errors before and after the sending, and the end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from raftkv.client.connection import grpc_link
from raftkv.client.connection.grpc_link import BACKUP, PIPELINE, GrpcLink
from raftkv.errors import (
    ConnectionFailed,
    MemberUnknown,
    Outcome,
    OutcomeUnknown,
    Overloaded,
    RaftkvError,
)

METHOD = "/raftkv.rpc.v1.Cluster/MemberList"


class Echo(grpc.GenericRpcHandler):
    """Answers each pipeline message with itself; unary calls with the error that was set."""

    def __init__(self) -> None:
        self.error: status_pb2.Status | None = None

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == PIPELINE:
            return grpc.stream_stream_rpc_method_handler(self._echo)
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _echo(
        self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        async for message in messages:
            yield message

    async def _answer(
        self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        if self.error is not None:
            status = rpc_status.to_status(self.error)
            await context.abort(status.code, status.details, status.trailing_metadata)
        return request


class Received:
    """The messages of a stream, and the error that ended it."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.end: asyncio.Future[RaftkvError] = asyncio.get_running_loop().create_future()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def server(echo: Echo) -> AsyncIterator[grpc.aio.Server]:
    made = grpc.aio.server(handlers=[echo])
    made.port = made.add_insecure_port("127.0.0.1:0")
    await made.start()
    yield made
    await made.stop(None)


@pytest.fixture
async def link(server: grpc.aio.Server) -> AsyncIterator[GrpcLink]:
    made = GrpcLink(f"127.0.0.1:{server.port}")
    yield made
    await made.close()


async def test_messages_are_echoed_in_order(link: GrpcLink) -> None:
    received = Received()
    stream = link.open(received.messages.put_nowait, received.end.set_result)
    for i in range(100):
        stream.send(b"%d" % i)
    assert [await received.messages.get() for _ in range(100)] == [b"%d" % i for i in range(100)]
    stream.close()


async def test_a_stream_that_broke_may_have_sent_everything(
    link: GrpcLink, server: grpc.aio.Server
) -> None:
    received = Received()
    stream = link.open(received.messages.put_nowait, received.end.set_result)
    stream.send(b"hello")
    await received.messages.get()
    await server.stop(None)
    assert isinstance(await received.end, OutcomeUnknown)


async def test_a_refused_connection_has_sent_nothing(
    link: GrpcLink, server: grpc.aio.Server
) -> None:
    await server.stop(None)
    received = Received()
    link.open(received.messages.put_nowait, received.end.set_result).send(b"hello")
    assert isinstance(await received.end, ConnectionFailed)
    with pytest.raises(ConnectionFailed):
        await link.call(METHOD, b"", 1.0)


async def test_an_unknown_method_is_reported_as_a_peer_port_and_not_applied() -> None:
    other_server = grpc.aio.server()
    link = GrpcLink(f"127.0.0.1:{other_server.add_insecure_port('127.0.0.1:0')}")
    await other_server.start()
    received = Received()
    link.open(received.messages.put_nowait, received.end.set_result).send(b"hello")
    with pytest.raises(ConnectionFailed, match=r"\(peer port\)\. Give the client port"):
        await link.call(METHOD, b"", 5.0)
    end = await received.end
    assert isinstance(end, ConnectionFailed)
    assert "peer port" in end.message
    received = Received()
    link.open(received.messages.put_nowait, received.end.set_result, BACKUP).send(b"hello")
    assert "older version" in (await received.end).message
    await link.close()
    await other_server.stop(None)


async def test_an_unknown_host_name_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    link = GrpcLink("nowhere.invalid:7411")
    with pytest.raises(ConnectionFailed, match=r"nowhere\.invalid:7411 can't be resolved: Name"):
        await link.call(METHOD, b"", 20.0)
    await link.close()


async def test_a_silent_name_server_is_asked_once_and_delays_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answered = [], threading.Event()

    def silent(*arguments: object) -> list[object]:
        asked.append(arguments)
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    monkeypatch.setattr(grpc_link, "RESOLVE_S_MAX", 0.01)
    link = GrpcLink("nowhere.invalid:7411")
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match="no name server answers for the host name in"):
            await link.call(METHOD, b"", 20.0)
    await link.close()
    assert len(asked) == 1
    # The loop has no thread of its own that its end, and the interpreter's, would wait for.
    assert [thread.daemon for thread in threading.enumerate() if "resolver" in thread.name] == [
        True
    ]
    answered.set()


async def test_callers_that_ask_at_once_share_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_answer = [], threading.Event()

    def unknown(*arguments: object) -> list[object]:
        asked.append(arguments)
        may_answer.wait()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    link = GrpcLink("nowhere.invalid:7411")
    callers = [asyncio.create_task(link._why_unconnected()) for _ in range(3)]
    while not asked:  # noqa: ASYNC110 - another thread asks
        await asyncio.sleep(0.001)
    may_answer.set()
    assert all("can't be resolved" in answer for answer in await asyncio.gather(*callers))
    assert len(asked) == 1
    await link.close()


async def test_a_closed_stream_calls_back_no_more(link: GrpcLink) -> None:
    received = Received()
    stream = link.open(received.messages.put_nowait, received.end.set_result)
    stream.send(b"hello")
    await received.messages.get()
    stream.close()
    await link.close()
    assert not received.end.done()


async def test_a_typed_error_arrives_with_its_type(link: GrpcLink, echo: Echo) -> None:
    echo.error = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="no node 7")
    echo.error.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason="MEMBER_UNKNOWN",
            domain="raftkv",
            metadata={"outcome": "NOT_APPLIED", "node_id": "7"},
        )
    )
    with pytest.raises(MemberUnknown, match="no node 7") as caught:
        await link.call(METHOD, b"", 1.0)
    assert caught.value.facts == {"node_id": "7"}
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_the_retry_after_of_an_error_arrives(link: GrpcLink, echo: Echo) -> None:
    echo.error = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="full")
    echo.error.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason="OVERLOADED", domain="raftkv", metadata={"outcome": "SAFE_TO_RETRY"}
        )
    )
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(250)
    echo.error.details.add().Pack(retry)
    with pytest.raises(Overloaded) as caught:
        await link.call(METHOD, b"", 1.0)
    assert caught.value.retry_after_s == 0.25


async def test_an_error_of_grpc_itself_leaves_the_outcome_unknown(
    link: GrpcLink, echo: Echo
) -> None:
    echo.error = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="a proxy")
    with pytest.raises(OutcomeUnknown, match="a proxy"):
        await link.call(METHOD, b"", 1.0)
    echo.error = None
    assert await link.call(METHOD, b"ping", 1.0) == b"ping"

"""The link to an endpoint over gRPC: one channel per endpoint, messages as raw bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from raftkv.client.connection.cluster_identity import identity_facts
from raftkv.client.connection.grpc_fork import forks
from raftkv.client.connection.link import AUTH_SERVICE, BACKUP, PIPELINE
from raftkv.client.tls import ChannelCredentials, why_plaintext_failed
from raftkv.errors import (
    ConnectionFailed,
    OutcomeUnknown,
    RaftkvError,
    Refused,
    Unauthenticated,
)
from raftkv.wire.addresses import split_host_port
from raftkv.wire.grpc_status import read_status

RESOLVE_S_MAX = 1.0
EXPLAIN_S_MAX = 0.5  # for gRPC to say why it is not connected, which it does at once
HEALTH = "/grpc.health.v1.Health/Check"

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # missing from the stubs

POLLER = "PollerCompletionQueue"
LOOP_CLOSED = "Event loop is closed"

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.max_receive_message_length", 64 << 20),
    # A node that restarts is found at once; gRPC's own default waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # also the timeout of one attempt
    # So is one that restarts at another address of its name; gRPC's own default is 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
    # The probe for a larger window pings after every message; a fixed large one costs nothing.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 << 20),
    # Two clients of one process share no connection: each has its own bounds on the server.
    ("grpc.use_local_subchannel_pool", 1),
)


class LateAnswers:
    """An exception handler of a loop that drops one error of grpc.aio.

    All loops of a process take gRPC's events from one queue, each for all of them. An event of a
    closed loop raises an error in the loop that took it, which the error does not concern.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = loop.get_exception_handler()

    @staticmethod
    def drop(loop: asyncio.AbstractEventLoop) -> None:
        """Drop these errors on this loop from now on."""
        if not isinstance(loop.get_exception_handler(), LateAnswers):
            loop.set_exception_handler(LateAnswers(loop))

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message, error = context.get("message", ""), context.get("exception")
        if isinstance(error, RuntimeError) and POLLER in message and str(error) == LOOP_CLOSED:
            return
        if self._next is not None:
            self._next(loop, context)
        else:
            loop.default_exception_handler(context)


class GrpcLink:
    """The link to one address. Belongs to the event loop that it was first used on.

    `tls`: the credentials of a connection by TLS; None: plaintext.
    """

    def __init__(self, address: str, tls: ChannelCredentials | None = None) -> None:
        self.address = address
        self._tls = tls
        self._credentials: grpc.ChannelCredentials | None = None  # of the channel
        self.loop = asyncio.get_running_loop()
        self._channel: grpc.aio.Channel | None = None
        self._name_known = False  # the host's name was resolved
        self._look_up: asyncio.Future[str] | None = None  # one at a time
        self._streams: set[asyncio.Task[None]] = set()

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = PIPELINE,
        token: str = "",
    ) -> GrpcStream:
        """See `Link.open`."""
        stream = GrpcStream(self, on_message, on_end, method, token)
        self._streams.add(stream.task)
        stream.task.add_done_callback(self._streams.discard)
        return stream

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        """See `Link.call`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                channel: Any = await self.connected()
        except TimeoutError:
            raise ConnectionFailed(f"{self.address} takes no connection") from None
        try:
            reply: bytes = await channel.unary_unary(method)(
                request, timeout=max(0.001, deadline - loop.time()), metadata=bearer(token)
            )
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self.address, method) from None
        return reply

    async def connected(self) -> grpc.aio.Channel:
        """The channel, once it is connected. Raises `ConnectionFailed` if the attempt fails."""
        channel = self._current_channel()
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state in (
                grpc.ChannelConnectivity.TRANSIENT_FAILURE,
                grpc.ChannelConnectivity.SHUTDOWN,
            ):
                raise ConnectionFailed(await self._why_unconnected())
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
        return channel

    def _current_channel(self) -> grpc.aio.Channel:
        """The channel: a new one if it is not connected and the TLS files have changed."""
        channel, tls = self._channel, self._tls
        if channel is None:
            forks.opened(self)
            LateAnswers.drop(self.loop)
        elif tls is None or channel.get_state() is grpc.ChannelConnectivity.READY:
            return channel
        if tls is None:
            channel = grpc.aio.insecure_channel(self.address, options=OPTIONS)
        elif (credentials := tls.current()) is not self._credentials or channel is None:
            # The channel before is not closed, which would cancel calls that still end in order on
            # a connection that the node is closing. gRPC closes it when its last user is gone.
            self._credentials = credentials
            options = (*OPTIONS, *tls.options)
            channel = grpc.aio.secure_channel(self.address, credentials, options=options)
        self._channel = channel
        return channel

    async def _why_unconnected(self) -> str:
        """gRPC's state of a channel does not distinguish the reasons."""
        host, port = split_host_port(self.address)
        if not self._name_known:
            # Several callers may share one look-up.
            look_up = self._look_up = self._look_up or _look_up(host, port)
            await asyncio.wait({look_up}, timeout=RESOLVE_S_MAX)
            if not look_up.done():
                return f"no name server answers for the host name in {self.address}"
            if self._look_up is look_up:
                self._look_up = None
            if failure := look_up.result():
                return f"the host name in {self.address} can't be resolved: {failure}"
            self._name_known = True
        details = await self._last_failure()
        if self._tls is None:
            return why_plaintext_failed(self.address, details)
        return self._tls.why_failed(self.address, details)

    async def _last_failure(self) -> str:
        """gRPC's description of the last attempt to connect, which it gives to calls only."""
        channel: Any = self._channel
        if channel is None:
            return ""
        try:
            await channel.unary_unary(HEALTH)(b"", timeout=EXPLAIN_S_MAX)
        except grpc.aio.AioRpcError as error:
            return error.details() or ""
        return ""

    async def close(self) -> None:
        """See `Link.close`."""
        if self._streams:
            for task in self._streams:
                task.cancel()
            await asyncio.wait(self._streams)
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None
            forks.closed(self)


def _look_up(host: str, port: int) -> asyncio.Future[str]:
    """Why the name has no address; empty if it has one.

    It runs in a daemon thread, because a name server may never answer: the ends of the loop and of
    the interpreter wait for the threads of the loop's executor.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()

    def look_up() -> None:
        failure = ""
        try:
            socket.getaddrinfo(host, port)
        except socket.gaierror as error:
            failure = str(error.strerror)
        except (OSError, UnicodeError) as error:
            failure = str(error)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(found.set_result, failure)

    threading.Thread(target=look_up, name="raftkv-resolver", daemon=True).start()
    return found


class GrpcStream:
    """One stream, run by two tasks: one writes the queued messages, one reads."""

    def __init__(
        self,
        link: GrpcLink,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str,
        token: str,
    ) -> None:
        self._link = link
        self._method = method
        self._token = token
        self._on_message = on_message
        self._on_end = on_end
        self._outbox: deque[bytes] = deque()
        self._outbox_filled = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    def send(self, message: bytes) -> None:
        """See `LinkStream.send`."""
        self._outbox.append(message)
        self._outbox_filled.set()

    def close(self) -> None:
        """See `LinkStream.close`."""
        self.task.cancel()

    async def _run(self) -> None:
        try:
            channel: Any = await self._link.connected()
        except ConnectionFailed as unsent:
            self._on_end(unsent)
            return
        call: Any = channel.stream_stream(self._method)(metadata=bearer(self._token))
        writer = asyncio.create_task(self._write(call))
        try:
            while (message := await call.read()) is not EOF:
                self._on_message(message)
            end: RaftkvError = OutcomeUnknown("the node ended the stream")
        except grpc.aio.AioRpcError as error:
            end = _end_of_stream(error, self._link.address, self._method)
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.wait([writer])
        self._on_end(end)

    async def _write(self, call: Any) -> None:
        try:
            while True:
                await self._outbox_filled.wait()
                self._outbox_filled.clear()
                while self._outbox:
                    await call.write(self._outbox.popleft())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call is over, which the reader notices as well


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call that is authenticated with this token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def error_of_call(error: grpc.aio.AioRpcError, address: str, method: str) -> RaftkvError:
    """The typed error that the node ended a call with; `OutcomeUnknown` if gRPC ended it."""
    end = read_status(error)
    if end is None:
        return _no_such_call(error, address, method) or OutcomeUnknown(
            f"{address} did not answer the call: {error.details()}"
        )
    if end.header is not None:
        end.error.facts |= identity_facts(end.header)
    return end.error


def _end_of_stream(error: grpc.aio.AioRpcError, address: str, method: str) -> RaftkvError:
    end = read_status(error)
    # Only a backup has no part that another stream could go on with.
    if end is not None and (method == BACKUP or isinstance(end.error, Unauthenticated)):
        return end.error
    return _no_such_call(error, address, method) or OutcomeUnknown(
        f"the stream broke: {error.details()}"
    )


def _no_such_call(
    error: grpc.aio.AioRpcError, address: str, method: str = ""
) -> RaftkvError | None:
    """The error of a call that the server does not have, so nothing was done."""
    if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
        return None
    if method.startswith(AUTH_SERVICE):
        return Refused(
            f"{address} has no users and roles: it runs an older version of raftkv, which"
            " authenticates no caller. Connect without a user, or update every member first"
        )
    if method == BACKUP:
        return Refused(f"{address} makes no backups: it runs an older version of raftkv; update it")
    return ConnectionFailed(
        f"{address} answers, but not as a node answers clients; it looks like the port for other"
        " nodes (peer port). Give the client port, by default 7410 + node id"
    )

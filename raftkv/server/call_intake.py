"""The intake of every call on the client port: it takes a slot, reads, parses, serves, replies.

    new call -- slot taken --> read -- parsed --> served -- reply read by client --> slot free
       |                        |        |          |
       +- Overloaded            |        |          +- typed error, as a gRPC status
                   Overloaded --+        +- InvalidRequest

For gRPC every method is a stream of bytes, which is the same on the wire, so no request is read or
parsed before its call has a slot. Handlers of streams read their messages from the context.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from raftkv.errors import InvalidRequest, Overloaded, RaftkvError, Unauthenticated
from raftkv.logs import RateLimited
from raftkv.metrics import table
from raftkv.metrics.samples import SampleSet
from raftkv.server import failures
from raftkv.server.observability.request_counts import CANCELLED, OK, RequestCounts
from raftkv.server.request_reader import RequestReader
from raftkv.server.services.lock_waits import WAITS_MAX
from raftkv.server.traffic import UNFETCHED_BYTES_MAX, CallTraffic, ClientTraffic
from raftkv.tls.certificates import certificate_of
from raftkv.tls.deny import NO_CERTIFICATE_DENIED, DenyList

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

OVERLOAD_RETRY_AFTER_S = 0.5
LARGE_REPLIES_AT_ONCE_MAX = 8
"""Calls served at a time whose reply may be large: a reply counts as unread only once it exists."""


@dataclass(frozen=True, slots=True)
class CallKind:
    """Calls that share a bound: `count_max` per node and `per_connection_max` per connection."""

    name: str
    per_connection_max: int
    count_max: int


UNARY: Final = CallKind("calls", 1024, 4096)
LOCK_WAIT: Final = CallKind("waits for locks", 2_000, WAITS_MAX)
PIPELINE: Final = CallKind("pipelines", 8, 1024)
WATCH: Final = CallKind("watch streams", 8, 1024)
KEEP_ALIVE: Final = CallKind("keep-alive streams", 8, 1024)
BACKUP: Final = CallKind("streams of backups", 2, 16)
HEALTH_WATCH: Final = CallKind("health watches", 4, 256)
REFLECTION: Final = CallKind("reflection streams", 2, 16)

STREAMS_PER_CONNECTION_MAX = 4096
"""Streams that gRPC allows per connection: no less than the sum of the kinds."""


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """A method with one request and one reply. `may_be_large`: whether the reply may be large."""

    request_type: type[Message]
    work: Callable[[Any, Context], Awaitable[Message]]
    kind: CallKind = UNARY
    may_be_large: Callable[[Any], bool] = lambda _: False


@dataclass(frozen=True, slots=True)
class ServerStreamMethod:
    """A method with one request, and replies until it returns."""

    request_type: type[Message]
    serve: Callable[[Any, Context, CallTraffic], Awaitable[None]]
    kind: CallKind


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A method that reads and writes its messages itself, until it returns."""

    serve: Callable[[AsyncIterator[bytes], Context, CallTraffic], Awaitable[None]]
    kind: CallKind


Method: TypeAlias = UnaryMethod | ServerStreamMethod | StreamMethod


class CallIntake(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Serves `methods`, by their full names (`/package.Service/Method`), and no others."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        traffic: ClientTraffic,
        log: RateLimited,
        header: Callable[[], Any] = lambda: None,
        deny_list: DenyList = NO_CERTIFICATE_DENIED,
        counts: RequestCounts | None = None,
    ) -> None:
        self._traffic = traffic
        self._log = log
        self._header = header
        self._deny_list = deny_list
        self._counts = counts or RequestCounts()
        self._reader = RequestReader()
        self._loop = asyncio.get_running_loop()
        self._slots = CallSlots()
        self._large_replies = asyncio.Semaphore(LARGE_REPLIES_AT_ONCE_MAX)
        self._handlers = {
            path: grpc.stream_unary_rpc_method_handler(partial(self._serve_unary, path, method))
            if isinstance(method, UnaryMethod)
            else grpc.stream_stream_rpc_method_handler(partial(self._serve_stream, path, method))
            for path, method in methods.items()
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(details.method)

    def sample(self, samples: SampleSet) -> None:
        self._counts.sample(samples)
        for kind, count in self._slots.open_calls().items():
            samples.set(table.OPEN_CALLS, count, kind)
        samples.set(table.UNREAD_REPLY_BYTES, self._traffic.bytes)

    def open_calls(self) -> dict[str, int]:
        """The number of open calls, by the name of their kind."""
        return self._slots.open_calls()

    # ---- one call ------------------------------------------------------------------

    async def _serve_unary(
        self, path: str, method: UnaryMethod, _: AsyncIterator[bytes], context: Context
    ) -> bytes:
        began_s = time.perf_counter()
        traffic = await self._enter(path, method.kind, context)
        outcome = CANCELLED
        try:
            request = await self._request(method.request_type, context, traffic)
            if not self._traffic.has_room:
                raise _overloaded(
                    "bytes of replies that clients have not read", UNFETCHED_BYTES_MAX
                )
            if method.may_be_large(request):
                async with self._large_replies:
                    reply = await method.work(request, context)
            else:
                reply = await method.work(request, context)
            message = reply.SerializeToString()
            outcome = OK
        except grpc.aio.BaseError as error:
            outcome = _outcome_of(error)
            _leave_ended_call(error)
        except Exception as error:  # noqa: BLE001 (the caller gets a typed error of any defect)
            outcome = failures.of_write(error).reason
            await self._fail(path, context, error)
        finally:
            self._counts.ended(short_name(path), outcome, time.perf_counter() - began_s)
        # gRPC writes the reply after this returns; the call is over once the client has read it.
        traffic.add(len(message))
        traffic.writing_since = self._loop.time()
        return message

    async def _serve_stream(
        self,
        path: str,
        method: StreamMethod | ServerStreamMethod,
        requests: AsyncIterator[bytes],
        context: Context,
    ) -> None:
        traffic = await self._enter(path, method.kind, context)
        outcome = CANCELLED
        try:
            async with self._guard(context):
                if isinstance(method, StreamMethod):
                    await method.serve(requests, context, traffic)
                else:
                    request = await self._request(method.request_type, context, traffic)
                    await method.serve(request, context, traffic)
            outcome = OK
        except grpc.aio.BaseError as error:
            outcome = _outcome_of(error)
            _leave_ended_call(error)
        except Exception as error:  # noqa: BLE001 (the caller gets a typed error of any defect)
            outcome = failures.of_write(error).reason
            await self._fail(path, context, error)
        finally:
            self._counts.stream_ended(short_name(path), outcome)

    async def _enter(self, path: str, kind: CallKind, context: Context) -> CallTraffic:
        """Take a slot until the call is over. Ends the call if there is none."""
        peer = context.peer()
        try:
            if self._deny_list.in_use and (certificate := certificate_of(context)) is not None:
                self._deny_list.require(certificate)
            self._slots.enter(kind, peer)
        except (Overloaded, Unauthenticated) as error:
            self._counts.stream_ended(short_name(path), error.reason)
            await self._fail(path, context, error)
        traffic = self._traffic.open(peer)

        def leave(_: object) -> None:
            self._slots.leave(kind, peer)
            traffic.close()

        context.add_done_callback(leave)  # type: ignore[arg-type]  # wrong type in the stubs
        return traffic

    def _guard(self, context: Context) -> AbstractAsyncContextManager[None]:
        """Ends a stream whose caller's certificate comes on the deny list."""
        if not self._deny_list.in_use or (certificate := certificate_of(context)) is None:
            return nullcontext()
        return self._deny_list.guard(certificate)

    async def _request(
        self, request_type: type[Message], context: Context, traffic: CallTraffic
    ) -> Message:
        message = await self._reader.read(context, traffic.peer)
        traffic.connection.received += len(message)
        try:
            return request_type.FromString(message)
        except DecodeError as error:
            raise InvalidRequest(f"not a {request_type.DESCRIPTOR.name}: {error}") from error

    async def _fail(self, path: str, context: Context, error: Exception) -> NoReturn:
        """End the call with the error; an unexpected error is logged."""
        if not isinstance(error, RaftkvError):
            self._log.error("call_failed", method=path, exc_info=error)
        try:
            await failures.abort(context, failures.of_write(error), self._header())
        except grpc.aio.BaseError as over:
            _leave_ended_call(over)


def _outcome_of(error: grpc.aio.BaseError) -> str:
    """The outcome of a call that is over: the reason for which this node aborted it."""
    cause = error.__cause__
    return cause.reason if isinstance(cause, RaftkvError) else CANCELLED


def short_name(path: str) -> str:
    """Service and method of a path, without the package."""
    return path[path.rindex(".") + 1 :]


def _leave_ended_call(error: grpc.aio.BaseError) -> NoReturn:
    """Leave a call that is over: this node aborted it, or its client has disconnected."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    raise asyncio.CancelledError from error


class CallSlots:
    """Counts the open calls of each kind, per node and per connection."""

    def __init__(self) -> None:
        self._total: dict[CallKind, int] = {}
        self._of_connection: dict[tuple[CallKind, str], int] = {}

    def enter(self, kind: CallKind, peer: str) -> None:
        """Take a slot. Raises `Overloaded` if there is none."""
        in_all, own = self._total.get(kind, 0), self._of_connection.get((kind, peer), 0)
        if own >= kind.per_connection_max:
            raise _overloaded(f"{kind.name} of this connection", kind.per_connection_max)
        if in_all >= kind.count_max:
            raise _overloaded(f"{kind.name} of this node", kind.count_max)
        self._total[kind] = in_all + 1
        self._of_connection[kind, peer] = own + 1

    def leave(self, kind: CallKind, peer: str) -> None:
        """Free a slot."""
        self._total[kind] -= 1
        left = self._of_connection[kind, peer] = self._of_connection[kind, peer] - 1
        if not left:
            del self._of_connection[kind, peer]

    def open_calls(self) -> dict[str, int]:
        """The number of open calls, by the name of their kind."""
        return {kind.name: count for kind, count in self._total.items()}


def methods_of(
    service: ServiceDescriptor,
    servicer: object,
    *,
    kinds: Mapping[str, CallKind] = MappingProxyType({}),
    may_be_large: Callable[[Any], bool] = lambda _: False,
) -> dict[str, Method]:
    """The unary methods of a service, implemented by `servicer`; their kind is UNARY by default."""
    return {
        f"/{service.full_name}/{method.name}": UnaryMethod(
            GetMessageClass(method.input_type),
            getattr(servicer, method.name),
            kinds.get(method.name, UNARY),
            may_be_large,
        )
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    }


def _overloaded(what: str, bound: int) -> Overloaded:
    return Overloaded(
        f"{what}: the bound of {bound} is reached; wait and try again, or ask another node",
        retry_after_s=OVERLOAD_RETRY_AFTER_S,
        bound=bound,
    )

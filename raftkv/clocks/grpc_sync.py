"""Interceptors that carry a clock through gRPC's blocking clients and servers.

    channel = grpc.intercept_channel(channel, *client_interceptors(clock))
    server = grpc.server(pool, interceptors=[server_interceptor(clock)])

What travels, and when, is in `metadata`. Several clocks may be carried: one interceptor for each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc

from raftkv.clocks.metadata import AnyClock, receive_from, stamped


def client_interceptors(clock: AnyClock) -> list[Any]:
    """For `grpc.intercept_channel`: stamp all calls, and receive the times of the answers."""
    return [_SyncClientInterceptor(clock)]


def server_interceptor(clock: AnyClock) -> grpc.ServerInterceptor[Any, Any]:
    """For `grpc.server`: receive the times of calls of all kinds, and stamp the answers."""
    return _SyncServerInterceptor(clock)


class _Details(NamedTuple):
    """The details of a call. gRPC reads these names."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


# Without type arguments: these classes are generic only in gRPC's type stubs.
class _SyncClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    def __init__(self, clock: AnyClock) -> None:
        self._clock = clock

    def _intercept(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        sent = _Details(
            details.method,
            details.timeout,
            stamped(self._clock, details.metadata),
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        return _Answer(continuation(sent, request), self._clock)

    # One function for four signatures that differ only in the names of their parameters.
    intercept_unary_unary: Any = _intercept
    intercept_unary_stream: Any = _intercept
    intercept_stream_unary: Any = _intercept
    intercept_stream_stream: Any = _intercept


class _Answer:
    """A call that receives the server's time before its caller gets the result.

    A done-callback would not do: gRPC runs those on its own thread, maybe after the caller
    continues.
    """

    def __init__(self, call: Any, clock: AnyClock) -> None:
        self._call = call
        self._clock = clock
        self._ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __iter__(self) -> _Answer:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except (StopIteration, grpc.RpcError):
            self._end()
            raise

    def result(self, timeout: float | None = None) -> Any:
        """As `grpc.Future.result`."""
        try:
            result = self._call.result(timeout)
        except grpc.RpcError:
            self._end()
            raise
        self._end()
        return result

    def exception(self, timeout: float | None = None) -> Any:
        """As `grpc.Future.exception`."""
        error = self._call.exception(timeout)
        self._end()
        return error

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            receive_from(self._clock, self._call.trailing_metadata())


class _SyncServerInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self, clock: AnyClock) -> None:
        self._clock = clock

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        receive_from(self._clock, handler_call_details.invocation_metadata)
        return with_behavior(handler, lambda behavior: _stamping(behavior, handler, self._clock))


def with_behavior(handler: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Any:
    """The handler with its behaviour wrapped, and the same kind and (de)serialisers."""
    for make, behavior in (
        (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    ):
        if behavior is not None:
            return make(wrap(behavior), handler.request_deserializer, handler.response_serializer)
    return handler


def _stamping(behavior: Callable[..., Any], handler: Any, clock: AnyClock) -> Callable[..., Any]:
    """The blocking behaviour, followed by the clock's time in the trailing metadata."""

    @functools.wraps(behavior)
    def unary(request: Any, context: Any) -> Any:
        try:
            return behavior(request, context)
        finally:
            context.set_trailing_metadata(stamped(clock, context.trailing_metadata()))

    @functools.wraps(behavior)
    def stream(request: Any, context: Any) -> Iterator[Any]:
        try:
            yield from behavior(request, context)
        finally:
            context.set_trailing_metadata(stamped(clock, context.trailing_metadata()))

    return stream if handler.response_streaming else unary

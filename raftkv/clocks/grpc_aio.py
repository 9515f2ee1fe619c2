"""Interceptors that carry a clock through gRPC's asyncio clients and servers.

    channel = grpc.aio.insecure_channel(address, interceptors=client_interceptors(clock))
    server = grpc.aio.server(interceptors=[server_interceptor(clock)])

What travels, and when, is in `metadata`. Several clocks may be carried: one interceptor for each.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc

from raftkv.clocks.grpc_sync import with_behavior
from raftkv.clocks.metadata import AnyClock, receive_from, stamped


def client_interceptors(clock: AnyClock) -> list[Any]:
    """For `grpc.aio` channels: stamp calls of all kinds, and receive the times of the answers."""
    # gRPC sorts interceptors by class, and uses only the first matching kind of each.
    return [_UnaryUnary(clock), _UnaryStream(clock), _StreamUnary(clock), _StreamStream(clock)]


def server_interceptor(clock: AnyClock) -> grpc.aio.ServerInterceptor[Any, Any]:
    """For `grpc.aio.server`: receive the times of calls of all kinds, and stamp the answers.

    Answers of handlers that are plain functions, which gRPC runs on threads, are not stamped.
    """
    return _AsyncServerInterceptor(clock)


class _AsyncClientInterceptor:
    def __init__(self, clock: AnyClock) -> None:
        self._clock = clock

    async def _intercept(
        self, continuation: Callable[..., Awaitable[Any]], details: Any, request: Any
    ) -> Any:
        metadata = grpc.aio.Metadata(*stamped(self._clock, details.metadata))
        call = await continuation(details._replace(metadata=metadata), request)
        # An interceptor below this one may have answered without a server.
        with contextlib.suppress(NotImplementedError):
            call.add_done_callback(self._ended)
        return call

    def _ended(self, call: Any) -> None:
        # gRPC calls this before it wakes the waiting caller. The metadata of an ended call is
        # available without waiting, but only from a coroutine. (It may be empty if the server
        # answered while requests were still being sent: gRPC then ends the call with an error of
        # its own, without the server's time.)
        asking = call.trailing_metadata()
        try:
            asking.send(None)
        except StopIteration as answer:
            receive_from(self._clock, answer.value)
        finally:
            asking.close()


# Without type arguments: these classes are generic only in gRPC's type stubs.
class _UnaryUnary(_AsyncClientInterceptor, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    intercept_unary_unary: Any = _AsyncClientInterceptor._intercept


class _UnaryStream(_AsyncClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    intercept_unary_stream: Any = _AsyncClientInterceptor._intercept


class _StreamUnary(_AsyncClientInterceptor, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    intercept_stream_unary: Any = _AsyncClientInterceptor._intercept


class _StreamStream(_AsyncClientInterceptor, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    intercept_stream_stream: Any = _AsyncClientInterceptor._intercept


class _AsyncServerInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self, clock: AnyClock) -> None:
        self._clock = clock

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        receive_from(self._clock, handler_call_details.invocation_metadata)
        return with_behavior(handler, self._wrap)

    def _wrap(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(behavior):
            return _generator(behavior, self._clock)
        if inspect.iscoroutinefunction(behavior):
            return _coroutine(behavior, self._clock)
        # A blocking handler runs on a thread. Its trailing metadata can't be read back, so a time
        # can't be added to them, and replacing them would be worse than an answer without a time.
        return behavior


class _Context:
    """A servicer context whose `abort` adds the time, because it ends the call at once."""

    def __init__(self, context: Any, clock: AnyClock) -> None:
        self._context = context
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[Any] = ()
    ) -> None:
        """As `ServicerContext.abort`."""
        metadata = trailing_metadata or self._context.trailing_metadata()
        await self._context.abort(code, details, stamped(self._clock, metadata))


def _coroutine(behavior: Callable[..., Awaitable[Any]], clock: AnyClock) -> Callable[..., Any]:
    @functools.wraps(behavior)
    async def stamped_coroutine(request: Any, context: Any) -> Any:
        try:
            return await behavior(request, _Context(context, clock))
        finally:
            context.set_trailing_metadata(stamped(clock, context.trailing_metadata()))

    return stamped_coroutine


def _generator(
    behavior: Callable[..., AsyncIterator[Any]], clock: AnyClock
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(behavior)
    async def stamped_generator(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for response in behavior(request, _Context(context, clock)):
                yield response
        finally:
            context.set_trailing_metadata(stamped(clock, context.trailing_metadata()))

    return stamped_generator

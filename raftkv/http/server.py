"""The HTTP port's thread: it answers while the event loop of the node stalls.

It takes at most `CONNECTIONS_MAX` connections and `REQUESTS_PER_S_MAX` requests a second; others
wait in the kernel's queue, where they cost the node neither a file descriptor nor CPU time.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from raftkv.logs import Logger, RateLimited

CONNECTIONS_MAX: Final = 16
REQUESTS_PER_S_MAX: Final = 100
EXCHANGE_S_MAX: Final = 15.0
"""A connection that takes longer for one request and its answer, or is idle for as long, ends."""

KEEP_ALIVE_S: Final = 5
HEADER_BYTES_MAX: Final = 8 << 10
ACCEPT_RETRY_S: Final = 0.1
CLOSE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class HttpTls:
    """`context` returns the context for the next connection. A caller whose certificate has one of
    the `denied` serial numbers is disconnected.
    """

    context: Callable[[], ssl.SSLContext]
    denied: Container[int]


class HttpServer:
    """Serves `app` on sockets that listen, on a thread and an event loop of its own."""

    def __init__(
        self,
        app: ASGIApp,
        sockets: Sequence[socket.socket],
        log: Logger,
        tls: HttpTls | None = None,
    ) -> None:
        self._config = Config(
            PacedApp(app, 1 / REQUESTS_PER_S_MAX, RateLimited(log, time.monotonic)),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # a caller's invalid requests are no news
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        )
        self._sockets = sockets
        self._log = log
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop
        self._serving: asyncio.Task[None]
        self._thread = threading.Thread(target=self._run, name="raftkv-http", daemon=True)

    def start(self) -> None:
        """Begin to serve. Connections that came before are answered."""
        self._config.load()
        self._loop = asyncio.new_event_loop()
        self._serving = self._loop.create_task(self._serve())
        self._thread.start()

    def stop(self) -> None:
        """End all connections and the thread, and close the sockets. Blocks for milliseconds."""
        with suppress(RuntimeError):  # the thread has failed, and its loop is closed
            self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serving)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 (the node goes on without this port)
            self._log.error("http_port_failed", exc_info=error)
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        connections = Connections(self._config, self._tls)
        accepting = [
            asyncio.ensure_future(self._accept(listening, connections))
            for listening in self._sockets
        ]
        try:
            await asyncio.gather(*accepting)
        finally:
            for task in accepting:
                task.cancel()
            await asyncio.gather(*accepting, return_exceptions=True)
            for listening in self._sockets:
                listening.close()
            await connections.end()

    async def _accept(self, listening: socket.socket, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await connections.free.acquire()
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError:  # for example no file descriptor is left
                connections.free.release()
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            except asyncio.CancelledError:
                connections.free.release()
                raise
            connections.begin(accepted)
            await asyncio.sleep(1 / REQUESTS_PER_S_MAX)


class Connections:
    """The open connections. `free` has as many permits as there may be more of them."""

    def __init__(self, config: Config, tls: HttpTls | None) -> None:
        self._config = config
        self._tls = tls
        self._state = ServerState()
        self._tasks: set[asyncio.Task[None]] = set()
        self.free = asyncio.Semaphore(CONNECTIONS_MAX)

    def begin(self, accepted: socket.socket) -> None:
        """Serve a connection until it ends."""
        task = asyncio.ensure_future(self._serve(accepted))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, accepted))

    def _ended(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        accepted.close()  # also if the task was cancelled before its first step
        self._tasks.discard(task)
        self.free.release()

    async def _serve(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        context = self._tls.context() if self._tls is not None else None
        ended = loop.create_future()
        make = partial(BoundedConnection, self._config, self._state, ended)
        try:
            transport, _ = await loop.connect_accepted_socket(
                make,
                accepted,
                ssl=context,
                ssl_handshake_timeout=EXCHANGE_S_MAX if context else None,
            )
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError
            return
        try:
            if self._tls is not None and _serial(transport) in self._tls.denied:
                return
            await ended
        finally:
            transport.abort()

    async def end(self) -> None:
        """End all connections at once."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close their sockets in this turn


def _serial(transport: asyncio.BaseTransport) -> int:
    """The serial number of the caller's certificate; 0: it has shown none."""
    certificate = transport.get_extra_info("peercert") or {}
    return int(certificate.get("serialNumber", "0"), 16)


class BoundedConnection(H11Protocol):
    """uvicorn's protocol with a bound on the time of each exchange."""

    def __init__(self, config: Config, state: ServerState, ended: asyncio.Future[None]) -> None:
        super().__init__(config, state, {})
        self._ended = ended
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_exchange()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._begin_exchange()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended.done():
            self._ended.set_result(None)

    def _begin_exchange(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(EXCHANGE_S_MAX, self.transport.abort)


class PacedApp:
    """Begins requests one after the other, `interval_s` apart at least. Logs defects of `app`."""

    def __init__(self, app: ASGIApp, interval_s: float, log: RateLimited) -> None:
        self._app = app
        self._log = log
        self._interval_s = interval_s
        self._next_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        now_s = asyncio.get_running_loop().time()
        turn_s = self._next_s = max(now_s, self._next_s + self._interval_s)
        if turn_s > now_s:
            await asyncio.sleep(turn_s - now_s)
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            self._log.error("http_request_failed", path=scope["path"], exc_info=error)
            raise

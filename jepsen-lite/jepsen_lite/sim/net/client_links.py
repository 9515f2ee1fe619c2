"""The client's port to the network (`raftkv.client.connection.link`), over the simulated one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import grpc
import grpc.aio

from jepsen_lite.sim.net.network import SimulatedNetwork
from jepsen_lite.sim.net.peer_links import host_of
from jepsen_lite.sim.net.pipes import Pipe
from jepsen_lite.sim.nodes.client_server import (
    END_OF_STREAM,
    Aborted,
    SimulatedClientServer,
    StreamContext,
)
from jepsen_lite.sim.process import Process
from jepsen_lite.sim.world import World
from raftkv.client.connection.grpc_link import error_of_call
from raftkv.client.connection.link import PIPELINE
from raftkv.errors import ConnectionFailed, OutcomeUnknown, RaftkvError, Unauthenticated

CONNECT_TIMEOUT_S = 1.0
UNARY_BYTES = 500


class ClientServers(Protocol):
    """Finds the server that serves clients at an address now."""

    def client_server(self, address: str) -> SimulatedClientServer | None: ...


class SimulatedClientNetwork:
    """Makes the links of one client process; hand `link` to `raftkv.connect`."""

    def __init__(
        self,
        world: World,
        network: SimulatedNetwork,
        servers: ClientServers,
        process: Process,
        host: str,
    ) -> None:
        self.world = world
        self.network = network
        self.process = process
        self.host = host
        self._servers = servers
        self._dead = False
        self._rng = world.rng(f"{host}/connections")
        # In the order of their opening: the order in which they are cut must not be chance.
        self.streams: dict[SimulatedClientStream, None] = {}

    def connection_delay_s(self) -> float:
        """The delay of a new connection, beyond that of the network."""
        most_s = self.network.clients.delay_s_max
        return self._rng.uniform(0.0, most_s) if most_s else 0.0

    def answer_delay_s(self) -> float:
        """How much longer the next answer takes."""
        conditions = self.network.clients
        if conditions.slow_clients and self.host not in conditions.slow_clients:
            return 0.0
        if not conditions.slow_answers or self._rng.random() >= conditions.slow_answers:
            return 0.0
        return self._rng.uniform(0.0, conditions.slow_answer_s_max)

    def cut(self) -> None:
        """The process is about to die: its connections end, and it makes no new ones."""
        self._dead = True
        for stream in list(self.streams):
            stream.close()

    def link(self, address: str) -> SimulatedClientLink:
        return SimulatedClientLink(self, address)

    def connect(
        self,
        address: str,
        connected: Callable[[SimulatedClientServer], None],
        failed: Callable[[], None],
    ) -> None:
        """Connect to the server at `address`: one of the two is called, outside any process."""
        network, world, there = self.network, self.world, host_of(address)
        if self._dead:
            return

        def arrive() -> None:
            if not (network.reaches(self.host, there) and network.reaches(there, self.host)):
                world.after(CONNECT_TIMEOUT_S, failed)
                return
            server = self._servers.client_server(address)
            if server is None:
                world.after(network.delay_s(there, self.host, 0), failed)
            else:
                connected(server)

        world.after(network.delay_s(self.host, there, 0) + self.connection_delay_s(), arrive)


class SimulatedClientLink:
    """A `Link` to one address."""

    def __init__(self, network: SimulatedClientNetwork, address: str) -> None:
        self._network = network
        self._address = address

    def open(
        self,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
        method: str = PIPELINE,
        token: str = "",
    ) -> SimulatedClientStream:
        return SimulatedClientStream(
            self._network, self._address, method, token, on_message, on_end
        )

    async def call(self, method: str, request: bytes, timeout_s: float, token: str = "") -> bytes:
        network = self._network
        done: asyncio.Future[bytes | Aborted] = network.process.create_future()
        sent = False

        def finish(answer: bytes | Aborted | RaftkvError) -> None:
            if done.done():
                return
            if isinstance(answer, RaftkvError):
                done.set_exception(answer)
            else:
                done.set_result(answer)

        def arrive(answer: bytes | Aborted) -> None:
            # Not the real size: a status holds the real process's memory, which is chance.
            network.network.datagram(
                host_of(self._address),
                network.host,
                UNARY_BYTES,
                lambda: network.process.enter(finish, answer),
            )

        def answered(answer: bytes | Aborted) -> None:
            late_s = network.answer_delay_s()
            if late_s:
                network.world.after(late_s, arrive, answer)
            else:
                arrive(answer)

        def connected(server: SimulatedClientServer) -> None:
            nonlocal sent
            if done.done():  # refused for lack of a connection: this call must not take effect
                return
            sent = True
            server.process.enter(
                server.call, network.host, method, token, request, timeout_s, answered
            )

        def failed() -> None:
            refused = ConnectionFailed(f"{self._address} takes no connection")
            network.process.enter(finish, refused)

        network.connect(self._address, connected, failed)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await done
        except TimeoutError:
            if sent:
                raise OutcomeUnknown(f"{self._address} did not answer in time") from None
            raise ConnectionFailed(f"{self._address} takes no connection") from None
        if isinstance(answer, Aborted):
            raise error_of_call(_as_call_error(answer), self._address, method)
        return answer

    async def close(self) -> None:
        """There is no connection to let go."""


class SimulatedClientStream:
    """A `Stream`: one pipe each way."""

    def __init__(
        self,
        network: SimulatedClientNetwork,
        address: str,
        method: str,
        token: str,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RaftkvError], None],
    ) -> None:
        self._network = network
        self._address = address
        self._method = method
        self._token = token
        self._on_message = on_message
        self._on_end = on_end
        self._unsent: list[bytes] = []
        self._forth: Pipe | None = None
        self._back: Pipe | None = None
        self._server: SimulatedClientServer | None = None
        self._serving: Any = None
        self._context: StreamContext | None = None
        self._over = False
        self._delay_s = network.connection_delay_s()
        network.streams[self] = None
        network.connect(address, self._connected, self._failed)

    def send(self, message: bytes) -> None:
        if self._forth is not None:
            self._forth.send(message)
        elif not self._over:
            self._unsent.append(message)

    def close(self) -> None:
        self._over = True
        self._hang_up()

    # ---- the network's side, outside any process -------------------------------------

    def _connected(self, server: SimulatedClientServer) -> None:
        if self._over:
            return
        process, near, far = self._network.process, self._network.host, host_of(self._address)
        world, network = self._network.world, self._network.network

        def deliver(message: bytes) -> None:
            process.enter(self._arrived, message)

        self._server = server
        self._back = Pipe(world, network, far, near, deliver, self._broke, self._answer_late_s)
        server.process.enter(
            server.open_stream, self._method, self._token, self._back, self._opened
        )

    def _opened(self, context: StreamContext, serving: asyncio.Task[None]) -> None:
        server, near, far = self._server, self._network.host, host_of(self._address)
        if server is None or self._over:
            serving.cancel()
            return
        self._serving, self._context = serving, context
        self._forth = Pipe(
            self._network.world,
            self._network.network,
            near,
            far,
            lambda message: server.process.enter(context.arrived, message),
            self._broke,
            self._late_s,
        )
        for message in self._unsent:
            self._forth.send(message)
        self._unsent.clear()

    def _late_s(self) -> float:
        return min(self._delay_s, self._network.network.clients.delay_s_max)

    def _answer_late_s(self) -> float:
        return self._late_s() + self._network.answer_delay_s()

    def _failed(self) -> None:
        refused = ConnectionFailed(f"{self._address} takes no connection")
        self._network.process.enter(self._end, refused)

    def _broke(self) -> None:
        self._hang_up()
        self._network.process.enter(self._end, OutcomeUnknown("the stream broke: keepalive"))

    def _hang_up(self) -> None:
        """Both ends stop; the node notices when word of it arrives, if it does."""
        network, server, serving = self._network, self._server, self._serving
        network.streams.pop(self, None)
        self._serving = None
        if self._back is not None:
            self._back.close()

        def say_so() -> None:
            if server is not None and serving is not None:
                network.network.datagram(
                    network.host,
                    host_of(self._address),
                    16,
                    lambda: server.process.enter(serving.cancel),
                )

        if self._forth is None:
            say_so()
        elif network.network.clients.lingering:
            self._forth.finish(say_so)
        else:
            self._forth.close()
            say_so()

    # ---- the client's side, in its process -------------------------------------------

    def _arrived(self, message: bytes) -> None:
        if self._over:
            return
        if message == END_OF_STREAM:
            self._end(self._why_ended())
        else:
            self._on_message(message)

    def _why_ended(self) -> RaftkvError:
        """As `raftkv.client.connection.grpc_link` reports the end of a stream."""
        aborted = self._context.aborted if self._context is not None else None
        if aborted is not None:
            error = error_of_call(_as_call_error(aborted), self._address, self._method)
            if isinstance(error, Unauthenticated):
                return error
        return OutcomeUnknown("the node ended the stream")

    def _end(self, error: RaftkvError) -> None:
        if not self._over:
            self._over = True
            self._hang_up()
            self._on_end(error)


def _as_call_error(aborted: Aborted) -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata(*aborted.metadata)
    return grpc.aio.AioRpcError(aborted.code, grpc.aio.Metadata(), metadata, aborted.details, "")

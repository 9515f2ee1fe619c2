"""A listener for what gRPC's own can't accept: plaintext beside TLS on one port, and callers with a
certificate beside callers without one.

    caller -- TLS or plaintext --> RelayListener -- unix socket --> gRPC server

The first byte of a connection tells TLS from plaintext. The listener ends TLS itself and passes the
bytes on. Each connection has an address of its own on the unix socket, so that gRPC's bounds per
connection hold, and by which `relayed_connection` finds the caller. The socket is in a directory
that only this user can open: no other user reaches the gRPC server without the listener.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from raftkv.logs import RateLimited, get_logger
from raftkv.tls.store import CertificateStore
from raftkv.wire.addresses import split_host_port

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""From the accepted connection to the end of its TLS handshake."""

BUFFER_BYTES_MAX: Final = 256 << 10
"""What a connection buffers in each direction before its other side is no longer read."""

CLOSE_TIMEOUT_S: Final = 5.0
"""How long a caller may take to read the last bytes of a connection that is over."""

ACCEPT_RETRY_S: Final = 0.1
BACKLOG: Final = 1024

# The type of a TLS record that begins a handshake. HTTP/2 begins with the P of PRI.
_TLS_HANDSHAKE: Final = b"\x16"


@dataclass(frozen=True, slots=True)
class RelayedConnection:
    """The caller of a connection: its real address in gRPC's form, and its certificate (DER)."""

    address: str
    encrypted: bool
    certificate: bytes | None


# Of all listeners of this process, by the address that gRPC reports as the peer. The addresses have
# the path of a listener's own directory in them.
_relayed: dict[str, RelayedConnection] = {}


def relayed_connection(peer: str) -> RelayedConnection | None:
    """The caller behind a peer that gRPC reports; None if gRPC accepted the connection itself."""
    return _relayed.get(peer)


class RelayListener:
    """Accepts at most `connections_max` (0: no bound) connections and relays them to gRPC.

    Without `plaintext` a connection that does not begin with TLS is closed.
    """

    def __init__(
        self, store: CertificateStore, *, plaintext: bool, connections_max: int = 0
    ) -> None:
        self._store = store
        self._plaintext = plaintext
        self._connections_max = connections_max
        self._log = RateLimited(get_logger(), time.monotonic)
        self._directory = Path(tempfile.mkdtemp(prefix="raftkv-"))  # mode 0700
        self._numbers = itertools.count(1)
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def inner_address(self) -> str:
        """Where the gRPC server must listen, in gRPC's form."""
        return f"unix:{self._socket_path}"

    @property
    def _socket_path(self) -> Path:
        return self._directory / "grpc"

    def bind(self, address: str) -> int:
        """Listen on all addresses of `host:port`. Returns the port. Raises `OSError`."""
        return listen(address, self._sockets)

    def start(self) -> None:
        """Accept connections; the gRPC server must listen by now."""
        loop = asyncio.get_running_loop()
        self._accepting = [loop.create_task(self._accept(each)) for each in self._sockets]

    def stop_accepting(self) -> None:
        """Close the listening sockets."""
        for accepting in self._accepting:
            accepting.cancel()
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()

    async def close(self) -> None:
        """End every connection."""
        self.stop_accepting()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._accepting, *self._connections, return_exceptions=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:  # of descriptors or memory: they may be free again soon
                self._log.error("connection_not_accepted", error=str(error))
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            if self._connections_max and len(self._connections) >= self._connections_max:
                accepted.close()
                continue
            accepted.setblocking(False)
            connection = loop.create_task(self._relay(accepted, _grpc_form(address)))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

    async def _relay(self, accepted: socket.socket, address: str) -> None:
        outer, inner = _Side(), _Side()
        outer.other, inner.other = inner, outer
        name = str(self._directory / str(next(self._numbers)))
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await self._open(accepted, outer, inner, address, name)
            await outer.lost.wait()
            await inner.lost.wait()
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            self._log.info("connection_refused", caller=address, reason=str(error) or "timeout")
        finally:
            for side in (outer, inner):
                side.abort()
            _relayed.pop(f"unix:{name}", None)

    async def _open(
        self, accepted: socket.socket, outer: _Side, inner: _Side, address: str, name: str
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            encrypted = await self._is_encrypted(accepted)
        except BaseException:
            accepted.close()
            raise
        context = self._store.current.server_context if encrypted else None
        transport, _ = await loop.connect_accepted_socket(lambda: outer, accepted, ssl=context)
        tls = transport.get_extra_info("ssl_object")
        _relayed[f"unix:{name}"] = RelayedConnection(
            address, encrypted, tls.getpeercert(binary_form=True) if tls is not None else None
        )
        to_grpc = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            to_grpc.setblocking(False)
            to_grpc.bind(name)
            await loop.sock_connect(to_grpc, str(self._socket_path))
            # The connection keeps the name as its address.
            os.unlink(name)
            await loop.create_unix_connection(lambda: inner, sock=to_grpc)
        except BaseException:
            to_grpc.close()
            raise
        outer.pass_on()

    async def _is_encrypted(self, accepted: socket.socket) -> bool:
        first = await _first_byte(accepted)
        if not first:
            raise ConnectionResetError("the caller has sent nothing")
        if first != _TLS_HANDSHAKE and not self._plaintext:
            raise ConnectionRefusedError("the caller does not speak TLS")
        return first == _TLS_HANDSHAKE


class _Side(asyncio.Protocol):
    """One side of a connection: what it receives is written to the other side."""

    other: _Side

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self._early: list[bytes] = []  # received before the other side was open
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=BUFFER_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        transport = self.other._transport
        if transport is None:
            self._early.append(data)
            self._pause()
        elif not transport.is_closing():
            transport.write(data)

    def pass_on(self) -> None:
        """The other side is open now: pass on what was received, and read on."""
        early, self._early = self._early, []
        self._resume()  # before the writes, which may pause it again
        for data in early:
            self.data_received(data)

    def pause_writing(self) -> None:
        self.other._pause()

    def resume_writing(self) -> None:
        self.other._resume()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()
        transport = self.other._transport
        if transport is not None and not transport.is_closing():
            transport.close()  # after its last bytes are written
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.other.abort)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()


async def _first_byte(accepted: socket.socket) -> bytes:
    """The first byte that the caller sends, which is left to be read; nothing if it has closed."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def received() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(accepted, received)
    try:
        await readable
    finally:
        loop.remove_reader(accepted)
    return accepted.recv(1, socket.MSG_PEEK)


def listen(address: str, sockets: list[socket.socket]) -> int:
    """Listen on all addresses of `host:port`; `sockets` gets each, also before an error.

    Returns the port. Raises `OSError`.
    """
    host, port = _host_and_port(address)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, address_found in dict.fromkeys(found):
        listening = socket.socket(family, socket.SOCK_STREAM)
        sockets.append(listening)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            any_address = address_found[0] == "::"
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not any_address)
        listening.bind((address_found[0], port, *address_found[2:]))
        listening.listen(BACKLOG)
        listening.setblocking(False)
        port = port or int(listening.getsockname()[1])
    return port


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if port == "0":
        return host.strip("[]"), 0
    return split_host_port(address)


def _grpc_form(address: tuple[object, ...]) -> str:
    host, port, *rest = address
    return f"ipv6:[{host}]:{port}" if rest else f"ipv4:{host}:{port}"

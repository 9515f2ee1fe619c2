"""Certificates by `raftkv.certs`, and servers that take TLS with them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio

from raftkv.certs import DEFAULT_HOSTS, CertificateAuthority, KeyPair
from raftkv.client.tls import Tls


class Certificates:
    """A CA in a directory, and the files that it has signed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.now = datetime.now(UTC)
        self.authority = CertificateAuthority.new("test", self.now)
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self.authority.pair.certificate)

    def node(self, *hosts: str, now: datetime | None = None, days: int = 1) -> tuple[Path, Path]:
        """Certificate and key of node 1; hosts by default loopback."""
        pair = self.authority.node(1, hosts or DEFAULT_HOSTS, days, now or self.now)
        return self.write("node-1", pair)

    def expired(self) -> tuple[Path, Path]:
        return self.node(now=self.now - timedelta(days=3))

    def user(self, name: str, now: datetime | None = None) -> Tls:
        """The CA, and a certificate of this user."""
        pair = self.authority.user(name, 1, now or self.now)
        return Tls(self.ca, *self.write(f"user-{name}", pair))

    def write(self, name: str, pair: KeyPair) -> tuple[Path, Path]:
        files = self._directory / f"{name}.pem", self._directory / f"{name}-key.pem"
        files[0].write_bytes(pair.certificate)
        files[1].write_bytes(pair.key)
        return files


@asynccontextmanager
async def serving(
    handler: grpc.GenericRpcHandler,
    files: tuple[Path, Path] | None,
    client_ca: Path | None = None,
    port: int = 0,
) -> AsyncIterator[int]:
    """The port of a gRPC server with this certificate; `client_ca`: it demands one of clients."""
    server = grpc.aio.server(handlers=[handler], options=(("grpc.so_reuseport", 0),))
    address = f"127.0.0.1:{port}"
    if files is None:
        port = server.add_insecure_port(address)
    else:
        certificate, key = (file.read_bytes() for file in files)
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)],
            None if client_ca is None else client_ca.read_bytes(),  # noqa: ASYNC240 - small
            client_ca is not None,
        )
        port = server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


class TlsProxy:
    """Takes TLS and demands a client certificate, and hands on in plaintext to a node."""

    def __init__(self, files: tuple[Path, Path], client_ca: Path, target_port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        self._context.load_verify_locations(client_ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.set_alpn_protocols(["h2"])
        self._target_port = target_port
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self._context)
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        pumps = [
            asyncio.create_task(_pump(reader, inner_writer)),
            asyncio.create_task(_pump(inner_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            return  # `stop`; a handler that ends as cancelled would be logged
        finally:
            self._connections.discard(task)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            inner_writer.close()
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()

"""One gRPC port of a node: in plaintext, over TLS, or both on the same port while migrating."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc

from raftkv.errors import AddressInUse
from raftkv.tls.credentials import server_credentials
from raftkv.tls.deny import NO_CERTIFICATE_DENIED, DenyList
from raftkv.tls.listener import RelayListener
from raftkv.tls.store import CertificateStore

Options: TypeAlias = Sequence[tuple[str, int]]
if TYPE_CHECKING:
    GenericRpcHandler: TypeAlias = grpc.GenericRpcHandler[Any, Any]


class TlsMode(StrEnum):
    """Whether a port speaks TLS. `OPTIONAL`: both, as long as a cluster migrates."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class ClientCertificates(StrEnum):
    """Whether a port asks its callers for a certificate. `OPTIONAL`: it verifies one if shown."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        return _VERIFY_MODES[self]


_VERIFY_MODES: Final = {
    ClientCertificates.NONE: ssl.CERT_NONE,
    ClientCertificates.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientCertificates.REQUIRED: ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class PortTls:
    """The TLS of one port; without `store` the port is plaintext."""

    mode: TlsMode = TlsMode.OFF
    store: CertificateStore | None = None
    client_certificates: ClientCertificates = ClientCertificates.NONE
    deny_list: DenyList = NO_CERTIFICATE_DENIED

    @property
    def relayed(self) -> bool:
        """Whether a `RelayListener` accepts the connections: gRPC can accept neither plaintext
        beside TLS nor callers with a certificate beside callers without one.
        """
        return self.mode is TlsMode.OPTIONAL or (
            self.mode is TlsMode.REQUIRED
            and self.client_certificates is ClientCertificates.OPTIONAL
        )

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials of a server of gRPC itself."""
        if self.store is None:
            raise RuntimeError("a port without certificates has no credentials")
        return server_credentials(
            self.store, self.client_certificates is ClientCertificates.REQUIRED
        )


PLAINTEXT: Final = PortTls()

DESCRIPTORS_PER_RELAYED_CONNECTION: Final = 3
"""The caller's socket, and both ends of the one to gRPC."""


class GrpcPort:
    """A gRPC server on one `host:port`. `name` is client or peer.

    `descriptors_max` (0: no bound) bounds the file descriptors of all its connections.
    """

    def __init__(
        self, name: str, handler: GenericRpcHandler, options: Options, tls: PortTls, *,
        descriptors_max: int = 0,
    ) -> None:  # fmt: skip
        self._name = name
        self._tls = tls
        self._connections_max = (
            max(1, descriptors_max // DESCRIPTORS_PER_RELAYED_CONNECTION)
            if tls.relayed and descriptors_max
            else descriptors_max
        )
        if descriptors_max:
            bound = ("grpc.max_allowed_incoming_connections", self._connections_max)
            options = (*options, bound)
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((handler,))
        self._relay: RelayListener | None = None

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one). Returns the port. Raises `AddressInUse`."""
        try:
            port = self._bind(address)
        except (RuntimeError, OSError) as error:
            if self._relay is not None:
                await self._relay.close()
            raise AddressInUse(
                f"the {self._name} port can't listen on {address}: stop the process that does, or"
                f" choose another {self._name}_listen address ({error})",
                address=address,
            ) from error
        await begin_to_serve(self._server)
        if self._relay is not None:
            self._relay.start()
        return port

    def _bind(self, address: str) -> int:
        if self._tls.relayed and self._tls.store is not None:
            self._relay = RelayListener(
                self._tls.store,
                plaintext=self._tls.mode is TlsMode.OPTIONAL,
                connections_max=self._connections_max,
            )
            self._server.add_insecure_port(self._relay.inner_address)
            return self._relay.bind(address)
        if self._tls.mode is TlsMode.OFF:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, self._tls.credentials())

    async def stop(self, grace_s: float | None = None) -> None:
        """Accept no more connections, wait at most `grace_s` for calls, then end them."""
        if self._relay is not None:
            self._relay.stop_accepting()
        await self._server.stop(grace_s)
        if self._relay is not None:
            await self._relay.close()


async def begin_to_serve(server: grpc.aio.Server) -> None:
    """Start the server, to the end even if cancelled: gRPC can't stop a half-started server."""
    starting = asyncio.ensure_future(server.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        raise


CONNECT_TIMEOUT_S: Final = 2.0
"""How long the caller of a port in mode `optional` waits for a TLS connection."""


async def accepts_tls(channel: grpc.aio.Channel) -> bool:
    """Whether the first attempt to connect succeeds. Closes the channel if it does not."""
    accepted = False
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            state = channel.get_state(try_to_connect=True)
            while state in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                await channel.wait_for_state_change(state)
                state = channel.get_state()
            accepted = state is grpc.ChannelConnectivity.READY
    except TimeoutError:
        pass
    finally:
        if not accepted:
            await channel.close(None)
    return accepted

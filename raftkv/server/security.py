"""The TLS of a node: of both its ports, and of its calls to the client ports of other nodes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final, Self

import grpc

from raftkv.config import Settings
from raftkv.logs import Logger
from raftkv.tls.credentials import channel_credentials
from raftkv.tls.deny import DenyList
from raftkv.tls.files import CertificatePaths
from raftkv.tls.names import node_name
from raftkv.tls.port import ClientCertificates, PortTls, TlsMode, accepts_tls
from raftkv.tls.store import CertificateStore

REFRESH_INTERVAL_S: Final = 1.0
"""How late a changed file takes effect."""

_CHANNEL_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)


class NodeSecurity:
    """The certificates of both ports, and the deny list of both."""

    def __init__(self, client: PortTls, peer: PortTls, deny_list: DenyList) -> None:
        self.client = client
        self.peer = peer
        self.deny_list = deny_list

    @classmethod
    def of_settings(cls, settings: Settings) -> Self:
        """Read all files. Raises `ConfigurationError` if one can't be used."""
        deny_list = DenyList(settings.certificate_deny_file)
        wanted = ClientCertificates(settings.client_certificates)
        client, peer = client_store(settings), peer_store(settings)
        return cls(
            PortTls(TlsMode(settings.client_tls), client, wanted, deny_list),
            PortTls(TlsMode(settings.peer_tls), peer, ClientCertificates.REQUIRED, deny_list),
            deny_list,
        )

    async def watch(self, log: Logger) -> None:
        """Read changed files again, and warn of certificates that expire, until cancelled."""
        while self.client.store or self.peer.store:
            # On a thread: the event loop must not wait for a disk.
            await asyncio.to_thread(self._refresh, log)
            self.deny_list.end_denied()
            await asyncio.sleep(REFRESH_INTERVAL_S)

    def _refresh(self, log: Logger) -> None:
        for port in (self.client, self.peer):
            if port.store is not None:
                port.store.refresh(log)
                port.store.warn_of_expiry(log, datetime.now(UTC))
        self.deny_list.refresh(log)

    async def channel_to_member(self, address: str) -> grpc.aio.Channel:
        """A channel to the client port of a member of the cluster to join.

        Over TLS the member's certificate must be signed by a CA in client_ca_file or peer_ca_file
        (without both: by one that the system trusts) and name the host in `address`. This node
        shows its peer certificate. In mode `optional` a member that does not speak TLS is called in
        plaintext.
        """
        client, peer = self.client, self.peer
        if client.store is None or client.mode is TlsMode.OFF:
            return grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        own = peer.store.current if peer.store is not None else None
        credentials = channel_credentials(client.store.current.authorities, own)
        channel = grpc.aio.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
        if client.mode is TlsMode.REQUIRED or await accepts_tls(channel):
            return channel
        return grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)


def client_store(settings: Settings) -> CertificateStore | None:
    """The certificates of the client port. Raises `ConfigurationError` if one can't be used."""
    # A node that joins shows its own certificate on the client port of a member.
    authorities = (
        ("client_ca_file", settings.client_ca_file),
        ("peer_ca_file", settings.peer_ca_file),
    )
    wanted = ClientCertificates(settings.client_certificates)
    return _store("client", settings, authorities, wanted)


def peer_store(settings: Settings) -> CertificateStore | None:
    """The certificates of the peer port. Raises `ConfigurationError` if one can't be used."""
    return _store(
        "peer",
        settings,
        (("peer_ca_file", settings.peer_ca_file),),
        ClientCertificates.REQUIRED,
        node_name(settings.node_id, settings.cluster_name),
    )


def _store(
    port: str,
    settings: Settings,
    authorities: tuple[tuple[str, str], ...],
    client_certificates: ClientCertificates,
    node: str = "",
) -> CertificateStore | None:
    certificate = getattr(settings, f"{port}_cert_file")
    if not certificate:
        return None
    paths = CertificatePaths(
        port,
        certificate,
        getattr(settings, f"{port}_key_file"),
        tuple((setting, path) for setting, path in authorities if path),
    )
    return CertificateStore(paths, client_certificates.verify_mode, node)

"""The certificates of a port as credentials of gRPC."""

from __future__ import annotations

import grpc

from raftkv.tls.files import Certificates
from raftkv.tls.store import CertificateStore


def server_credentials(
    store: CertificateStore, client_certificates_required: bool
) -> grpc.ServerCredentials:
    """Credentials that use the newest certificates of the store for each new connection.

    gRPC accepts TLS 1.2 and 1.3.
    """
    served = store.current

    def configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
        authorities = certificates.authorities if client_certificates_required else None
        return grpc.ssl_server_certificate_configuration(
            [(certificates.key, certificates.chain)], authorities
        )

    # gRPC calls this at each handshake, one call at a time, on a thread of its own.
    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        if store.current is served:
            return None
        served = store.current
        return configuration(served)

    return grpc.dynamic_ssl_server_credentials(
        configuration(served),
        changed,  # type: ignore[arg-type]  # the stubs don't have "None: unchanged"
        client_certificates_required,
    )


def channel_credentials(
    authorities: bytes, certificates: Certificates | None
) -> grpc.ChannelCredentials:
    """Credentials of one connection: the CAs that it trusts (none: the system's), and the
    certificate that it shows, if any.
    """
    if certificates is None:
        return grpc.ssl_channel_credentials(authorities or None)
    return grpc.ssl_channel_credentials(authorities or None, certificates.key, certificates.chain)

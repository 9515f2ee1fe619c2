"""The certificate of a caller, and whom it names: a node, or a user.

The functions take the context of a call on either port, whichever way the connection was accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from raftkv.tls.listener import relayed_connection
from raftkv.tls.names import USER_URI, names_a_node, node_of_name

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_CERTIFICATE: Final = "x509_pem_cert"
_TRANSPORT: Final = "transport_security_type"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a verified certificate says of its owner."""

    serial: int
    common_name: str
    dns_names: tuple[str, ...]
    uris: tuple[str, ...]

    def node(self, cluster_name: str) -> int | None:
        """The node of this cluster that the certificate names; None if it names none, or two."""
        named = {node_of_name(name, cluster_name) for name in self.dns_names} - {None}
        return named.pop() if len(named) == 1 else None

    @property
    def user(self) -> str | None:
        """The user that the certificate names: by a URI, or else by its common name.

        A certificate of a node names no user, and neither does one with the URIs of two.
        """
        if any(map(names_a_node, self.dns_names)):
            return None
        users = {uri.removeprefix(USER_URI) for uri in self.uris if uri.startswith(USER_URI)}
        if users:
            return users.pop() or None if len(users) == 1 else None
        return self.common_name or None


def certificate_of(context: Context) -> Certificate | None:
    """The certificate that the caller has proven to own; None if it has shown none."""
    relayed = relayed_connection(context.peer())
    if relayed is not None:
        der = relayed.certificate
        return _parse_der(der) if der else None
    pem = _property(context, _CERTIFICATE)
    return _parse_pem(pem) if pem else None


def node_of_certificate(context: Context, cluster_name: str) -> int | None:
    """The node of this cluster that the caller's certificate proves; None if it proves none."""
    certificate = certificate_of(context)
    return certificate.node(cluster_name) if certificate is not None else None


def user_of_certificate(context: Context) -> str | None:
    """The user that the caller's certificate proves; None if it proves none."""
    certificate = certificate_of(context)
    return certificate.user if certificate is not None else None


def is_encrypted(context: Context) -> bool:
    """Whether the caller's connection is TLS."""
    relayed = relayed_connection(context.peer())
    if relayed is not None:
        return relayed.encrypted
    return _property(context, _TRANSPORT) == b"ssl"


def real_peer(context: Context) -> str:
    """The caller's address, for logs, in gRPC's form (`ipv4:host:port`)."""
    relayed = relayed_connection(context.peer())
    return relayed.address if relayed is not None else context.peer()


def _property(context: Context, name: str) -> bytes:
    """The first value of a property that gRPC has verified; empty if there is none."""
    return next(iter(context.auth_context().get(name, ())), b"")


# A certificate is parsed once, not once per call.
@lru_cache(maxsize=1024)
def _parse_pem(pem: bytes) -> Certificate:
    return _contents(x509.load_pem_x509_certificate(pem))


@lru_cache(maxsize=1024)
def _parse_der(der: bytes) -> Certificate:
    return _contents(x509.load_der_x509_certificate(der))


def _contents(certificate: x509.Certificate) -> Certificate:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    try:
        alternatives = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        alternatives = x509.SubjectAlternativeName([])
    return Certificate(
        certificate.serial_number,
        # More than one is ambiguous.
        str(names[0].value) if len(names) == 1 else "",
        tuple(alternatives.get_values_for_type(x509.DNSName)),
        tuple(alternatives.get_values_for_type(x509.UniformResourceIdentifier)),
    )

"""A port's certificate, key and authorities: read together, and checked against each other.

The check of a node's certificate is a TLS handshake with itself: it fails for the reasons for which
another node would refuse the certificate.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from raftkv.errors import ConfigurationError
from raftkv.files import require_private


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """The files of one port. `port` is client or peer, the first word of their settings.

    `authorities` are files with the certificates of the CAs that the port trusts, each with the
    setting that names it.
    """

    port: str
    certificate: str
    key: str
    authorities: tuple[tuple[str, str], ...] = ()

    @property
    def certificate_setting(self) -> str:
        return f"{self.port}_cert_file"

    @property
    def key_setting(self) -> str:
        return f"{self.port}_key_file"

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Setting and path of each file."""
        return (
            (self.certificate_setting, self.certificate),
            (self.key_setting, self.key),
            *self.authorities,
        )

    def state(self) -> tuple[object, ...]:
        """What the file system reports of the files; it differs after they have changed."""
        return tuple(state_of(path) for _, path in self.named)


def state_of(path: str) -> object:
    """Identity, size and time of a file (of its target, if it is a link); None if there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@dataclass(frozen=True, slots=True)
class Expiry:
    """When the certificates of one file cease to be valid: the earliest of them."""

    setting: str
    path: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Certificates:
    """The content of a port's files, in PEM. `chain` begins with the port's own certificate.

    `server_context` is the same for servers that Python's ssl module serves; it trusts
    `authorities`, and its `verify_mode` is that of the port.
    """

    chain: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    server_context: ssl.SSLContext
    expiries: tuple[Expiry, ...]


def read_certificates(
    paths: CertificatePaths, verify_mode: ssl.VerifyMode, node_name: str = ""
) -> Certificates:
    """Read the files of a port, and check that they fit together.

    With `node_name` the certificate must name that node, and must be signed by one of the
    authorities. Raises `ConfigurationError` that names the setting, the reason and the fix.
    """
    chain_pem, chain = _read_chain(paths.certificate_setting, paths.certificate)
    key_pem = _read_key(paths, chain[0])
    authorities = [(name, path, *_read_chain(name, path)) for name, path in paths.authorities]
    _check_validity(paths, chain)
    authorities_pem = b"\n".join(pem for _, _, pem, _ in authorities)
    try:
        context = _server_context(paths, authorities_pem, verify_mode)
    except (ssl.SSLError, OSError) as error:
        raise _wrong(
            paths.certificate_setting,
            paths.certificate,
            f"can't be used with {paths.key_setting} {paths.key}: {error}",
            "write both anew with `raftkv certs node`",
        ) from error
    if node_name:
        _check_accepted(paths, context, authorities_pem, node_name)
    return Certificates(
        chain_pem,
        key_pem,
        authorities_pem,
        context,
        (
            _expiry(paths.certificate_setting, paths.certificate, chain),
            *(_expiry(name, path, certificates) for name, path, _, certificates in authorities),
        ),
    )


def _read(setting: str, path: str, *, private: bool = False) -> bytes:
    try:
        if private:
            require_private(Path(path), setting)
        return Path(path).read_bytes()
    except OSError as error:
        raise _wrong(
            setting,
            path,
            f"can't be read: {error.strerror}",
            "correct the path; `raftkv certs` writes such files",
        ) from error


def _read_chain(setting: str, path: str) -> tuple[bytes, list[x509.Certificate]]:
    pem = _read(setting, path)
    try:
        return pem, x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise _wrong(
            setting,
            path,
            f"holds no certificates in PEM: {error}",
            "name a file that begins with -----BEGIN CERTIFICATE-----",
        ) from error


def _read_key(paths: CertificatePaths, certificate: x509.Certificate) -> bytes:
    setting, path = paths.key_setting, paths.key
    pem = _read(setting, path, private=True)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The error quotes nothing of the key.
        raise _wrong(
            setting,
            path,
            f"holds no private key in PEM without a password: {error}",
            "name the key of the certificate, unencrypted; its mode protects it",
        ) from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise _wrong(
            setting,
            path,
            f"is not the key of {paths.certificate_setting} {paths.certificate}",
            "name the key that was written together with the certificate",
        )
    return pem


def _check_validity(paths: CertificatePaths, chain: Iterable[x509.Certificate]) -> None:
    now = datetime.now(UTC)
    for each in chain:
        if now > each.not_valid_after_utc:
            limit = f"has expired at {each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        elif now < each.not_valid_before_utc:
            limit = f"is valid only from {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        else:
            continue
        raise _wrong(
            paths.certificate_setting,
            paths.certificate,
            limit,
            "write a new one with `raftkv certs node`, or set this machine's clock",
        )


def _server_context(
    paths: CertificatePaths, authorities: bytes, verify_mode: ssl.VerifyMode
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(paths.certificate, paths.key)
    if authorities:
        context.load_verify_locations(cadata=authorities.decode())
    context.verify_mode = verify_mode
    # A resumed session would not verify the caller's certificate again.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def _check_accepted(
    paths: CertificatePaths, server: ssl.SSLContext, authorities: bytes, node_name: str
) -> None:
    """Check that a node which trusts the same authorities accepts this certificate, as the
    certificate of the callee `node_name` and as that of a caller.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=authorities.decode())
    client.load_cert_chain(paths.certificate, paths.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    pending = [
        client.wrap_bio(to_client, to_server, server_hostname=node_name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    try:
        while pending:
            side = pending.pop(0)
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pending.append(side)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise _wrong(
            paths.certificate_setting,
            paths.certificate,
            f"would be refused by other nodes: {reason}",
            f"write one with `raftkv certs node` that is signed by a CA in"
            f" {paths.authorities[0][0]}, for the DNS name {node_name}, for servers and clients",
        ) from error


def _expiry(setting: str, path: str, certificates: Iterable[x509.Certificate]) -> Expiry:
    return Expiry(setting, path, min(each.not_valid_after_utc for each in certificates))


def _wrong(setting: str, path: str, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"{setting} is {path}, which {problem}. Fix: {fix}.", key=setting)

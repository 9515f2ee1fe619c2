"""Certificates for tests: a CA, and the files of nodes and users that it signs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import trustme
from cryptography import x509

from raftkv.tls.files import CertificatePaths

NODE = "node-{}.raftkv.raftkv"


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, in PEM, and in files."""

    certificate: bytes
    key: bytes
    cert_file: Path
    key_file: Path

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate).serial_number

    def move_to(self, other: Issued) -> None:
        """Replace the files of `other` by these, each at once."""
        for mine, its in ((self.key_file, other.key_file), (self.cert_file, other.cert_file)):
            fresh = its.with_suffix(".new")
            fresh.write_bytes(mine.read_bytes())
            fresh.chmod(0o600)
            os.replace(fresh, its)


class Authority:
    """A CA whose certificate is in `ca_file`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._name = name
        self._ca = trustme.CA()
        self._count = 0
        self.pem = self._ca.cert_pem.bytes()
        self.ca_file = directory / f"{name}.pem"
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file.write_bytes(self.pem)

    def node(
        self, node_id: int, *, days: float = 365, days_from: float = -1, cluster: str = "raftkv"
    ) -> Issued:
        """A node's certificate for both ports."""
        names = (f"node-{node_id}.{cluster}.raftkv", "127.0.0.1", "localhost")
        return self._issue(f"node-{node_id}", *names, days=days, days_from=days_from)

    def user(self, name: str) -> Issued:
        return self._issue(name, "client.example.org", common_name=name)

    def _issue(
        self, file: str, *names: str, common_name: str | None = None, days: float = 365,
        days_from: float = -1,
    ) -> Issued:  # fmt: skip
        now = datetime.now(UTC)
        issued = self._ca.issue_cert(
            *names,
            common_name=common_name,
            not_before=now + timedelta(days=days_from),
            not_after=now + timedelta(days=days),
        )
        self._count += 1
        stem = f"{self._name}-{file}-{self._count}"
        cert_file, key_file = (self._directory / f"{stem}.{end}" for end in ("pem", "key"))
        certificate = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        key = issued.private_key_pem.bytes()
        cert_file.write_bytes(certificate)
        key_file.touch(0o600)
        key_file.write_bytes(key)
        return Issued(certificate, key, cert_file, key_file)

    def paths(self, issued: Issued, port: str = "peer") -> CertificatePaths:
        """The files of a port that trusts this authority."""
        ca = (f"{port}_ca_file", str(self.ca_file))
        return CertificatePaths(port, str(issued.cert_file), str(issued.key_file), (ca,))

    def channel(self, issued: Issued | None = None) -> grpc.ChannelCredentials:
        """Credentials of a caller that trusts this authority."""
        if issued is None:
            return grpc.ssl_channel_credentials(self.pem)
        return grpc.ssl_channel_credentials(self.pem, issued.key, issued.certificate)

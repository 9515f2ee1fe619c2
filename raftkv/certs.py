"""Certificates of a cluster: its CA, and the nodes' and users' certificates that the CA signs.

What each certificate says:

| of | subject | subject alternative names | extended key usage |
|---|---|---|---|
| CA | O = cluster name, CN = raftkv CA and a number | | |
| node | O = cluster name, OU = node-ID | DNS `node-ID.CLUSTER.raftkv`; hosts | server, client |
| user | O = cluster name, CN = user name | URI `raftkv://user/NAME` | client |

Another node checks the first DNS name, a client checks the hosts. A node's certificate has no
common name, so that it is never taken for that of a user.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raftkv.errors import ConfigurationError
from raftkv.tls.names import node_name, user_uri

CA_DAYS: Final = 3_650
DEFAULT_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
CLOCK_SKEW: Final = timedelta(minutes=5)
"""A certificate is valid from this long before it is made: other machines' clocks may be behind."""

_CLUSTER_NAME_CHARACTERS_MAX: Final = 63
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_USER_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")

_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_NAME_KINDS: Final[dict[type[x509.GeneralName], str]] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.UniformResourceIdentifier: "URI",
}
_USAGES: Final = {_SERVER: "server", _CLIENT: "client"}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both in PEM. The key is not in the `repr`."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"KeyPair(certificate={self.certificate!r})"


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """The CA of a cluster: signs the certificates of its nodes and users."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cluster_name: str

    def __repr__(self) -> str:
        return f"CertificateAuthority(cluster_name={self.cluster_name!r})"

    @classmethod
    def new(cls, cluster_name: str, now: datetime) -> Self:
        """Make the CA of a new cluster, valid for `CA_DAYS`.

        Raises `ConfigurationError` for a cluster name that can't stand in a DNS name.
        """
        if len(cluster_name) > _CLUSTER_NAME_CHARACTERS_MAX or not _is_dns_name(cluster_name):
            raise ConfigurationError(
                f"the cluster name {cluster_name!r} can't stand in the DNS names of certificates."
                " Fix: take letters, digits, hyphens and dots, at most"
                f" {_CLUSTER_NAME_CHARACTERS_MAX}, and set cluster_name of the nodes to the same",
                cluster_name=cluster_name,
            )
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        # A later CA of the same cluster has another name: the issuer of a certificate names one.
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_name),
                x509.NameAttribute(NameOID.COMMON_NAME, f"raftkv CA {serial:040x}"[:18]),
            ]
        )
        public_key = key.public_key()
        certificate = (
            _builder(subject, subject, public_key, serial, now, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, cluster_name)

    @classmethod
    def load(cls, certificates: bytes, key: bytes, now: datetime) -> Self:
        """The CA with this key, from PEM. Beside its certificate there may be those of older CAs.

        Raises `ConfigurationError` if it is none that `new` has made, or has expired.
        """
        try:
            private_key = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(
                f"the CA's key can't be read: {error}. Fix: give the key that"
                " `raftkv certs init` has made"
            ) from None
        if not isinstance(private_key, ec.EllipticCurvePrivateKey):
            raise ConfigurationError(
                "the CA's key is not of an elliptic curve. Fix: give the key that"
                " `raftkv certs init` has made"
            )
        public_key = private_key.public_key()
        found = [each for each in load(certificates) if each.public_key() == public_key]
        if not found:
            raise ConfigurationError(
                "the CA's key does not belong to its certificate. Fix: give the two files that one"
                " `raftkv certs init` has made"
            )
        certificate = found[0]
        names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        if not names:
            raise ConfigurationError(
                "the CA's certificate names no cluster. Fix: give one that `raftkv certs init` has"
                " made"
            )
        if certificate.not_valid_after_utc <= now:
            raise ConfigurationError(
                f"the CA expired on {_shown(certificate.not_valid_after_utc)}. Fix: make a new one"
                " with `raftkv certs init` in another directory"
            )
        return cls(certificate, private_key, str(names[0].value))

    @property
    def pair(self) -> KeyPair:
        """Its certificate and key, in PEM."""
        return _pair(self.certificate, self.key)

    def node(self, node_id: int, hosts: Sequence[str], days: int, now: datetime) -> KeyPair:
        """A certificate for a node that clients reach at `hosts`: DNS names and IP addresses.

        Raises `ConfigurationError` for a host that is neither, and if the CA ends before.
        """
        names = [x509.DNSName(node_name(node_id, self.cluster_name)), *map(_host, hosts)]
        # Each once, in order: a host may be given twice.
        return self._sign(
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"node-{node_id}"),
            list(dict.fromkeys(names)),
            [_SERVER, _CLIENT],
            days,
            now,
        )

    def user(self, name: str, days: int, now: datetime) -> KeyPair:
        """A certificate for a user. Raises `ConfigurationError` for a name that can't stand in it,
        and if the CA ends before.
        """
        if not _USER_NAME.fullmatch(name):
            raise ConfigurationError(
                f"the user name {name!r} can't stand in a certificate. Fix: take 1 to 64 letters,"
                " digits and _ . @ -, with a letter, digit or _ in front",
                user=name,
            )
        return self._sign(
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            [x509.UniformResourceIdentifier(user_uri(name))],
            [_CLIENT],
            days,
            now,
        )

    def _sign(
        self,
        who: x509.NameAttribute[str],
        names: Sequence[x509.GeneralName],
        usages: Sequence[x509.ObjectIdentifier],
        days: int,
        now: datetime,
    ) -> KeyPair:
        end = self.certificate.not_valid_after_utc
        if now + timedelta(days=days) > end:
            raise ConfigurationError(
                f"the CA itself is valid until {_shown(end)} only. Fix: take at most"
                f" {(end - now).days} days, or make a new CA with `raftkv certs init` in another"
                " directory",
            )
        key = ec.generate_private_key(ec.SECP256R1())
        public_key = key.public_key()
        issuer = self.certificate.subject
        cluster = x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.cluster_name)
        serial = x509.random_serial_number()
        authority_key = self.certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
        certificate = (
            _builder(x509.Name([cluster, who]), issuer, public_key, serial, now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_key.value),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        return _pair(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    serial: int,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    """What all certificates have: who, until when, and the key."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _is_dns_name(name: str) -> bool:
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def _host(host: str) -> x509.GeneralName:
    """A DNS name, perhaps with * as its first label, or an IP address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        if _is_dns_name(host.removeprefix("*.")):
            return x509.DNSName(host)
    raise ConfigurationError(
        f"the host {host!r} is neither a DNS name nor an IP address. Fix: give the host of the"
        " node's client address alone, without a port, as in node1.example.org",
        host=host,
    )


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says. `serial` is in hexadecimal, as the deny list has it."""

    subject: str
    names: tuple[str, ...]
    usage: tuple[str, ...]
    serial: str
    valid_from: datetime
    valid_until: datetime
    issuer: str
    fingerprint: str  # SHA-256, as openssl prints it

    def left(self, now: datetime) -> timedelta:
        """How long it is still valid; negative once it has expired."""
        return self.valid_until - now


def load(pem: bytes) -> list[x509.Certificate]:
    """The certificates in a PEM file, at least one. Raises `ConfigurationError` for any other."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        what = "holds a private key" if b"PRIVATE KEY-----" in pem else "holds no certificate"
        raise ConfigurationError(
            f"the file {what}. Fix: give a file with certificates in PEM, such as node-1.pem"
        ) from None


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """What the certificate says."""
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        names=_names_of(certificate),
        usage=_usage_of(certificate),
        serial=f"{certificate.serial_number:x}",
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        issuer=certificate.issuer.rfc4514_string(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(f"{_NAME_KINDS.get(type(name), 'other')}:{name.value}" for name in names)


def _usage_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """`CA`, or the extended key usages; a certificate without them may be used for everything."""
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return ("CA",)
    except x509.ExtensionNotFound:
        pass
    try:
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ("any",)
    return tuple(_USAGES.get(usage, usage.dotted_string) for usage in usages)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"

"""What the certificates of `raftkv.certs` say, and what they are refused for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from raftkv.certs import (
    CLOCK_SKEW,
    CertificateAuthority,
    CertificateFacts,
    KeyPair,
    facts_of,
    load,
    node_name,
    user_uri,
)
from raftkv.errors import ConfigurationError

NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.new("prod.eu", NOW)


def said_by(pair: KeyPair) -> CertificateFacts:
    (certificate,) = load(pair.certificate)
    return facts_of(certificate)


def test_a_node_is_named_for_its_peers_and_for_its_clients(authority: CertificateAuthority) -> None:
    pair = authority.node(7, ["db7.example.org", "*.raftkv.svc", "10.0.0.7", "[::1]"], 90, NOW)
    said = said_by(pair)
    assert node_name(7, "prod.eu") == "node-7.prod.eu.raftkv"
    assert said.names == (
        "DNS:node-7.prod.eu.raftkv",
        *("DNS:db7.example.org", "DNS:*.raftkv.svc", "IP:10.0.0.7", "IP:::1"),
    )
    assert said.usage == ("server", "client")
    assert said.valid_from == NOW - CLOCK_SKEW
    assert said.left(NOW) == timedelta(days=90)


def test_no_node_can_pass_for_a_user(authority: CertificateAuthority) -> None:
    """Users are known by the common name or by a URI: a node's certificate has neither."""
    (certificate,) = load(authority.node(7, ["localhost"], 90, NOW).certificate)
    assert not certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert not names.get_values_for_type(x509.UniformResourceIdentifier)


def test_a_user_is_named_twice_and_is_no_server(authority: CertificateAuthority) -> None:
    pair = authority.user("alice@example.org", 1, NOW)
    (certificate,) = load(pair.certificate)
    (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common_name.value == "alice@example.org"
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert said_by(pair).names == ("URI:raftkv://user/alice@example.org",)
    assert user_uri("bob") == "raftkv://user/bob"


def test_the_chain_is_valid_by_the_rules_of_the_web(authority: CertificateAuthority) -> None:
    (certificate,) = load(authority.node(1, ["localhost"], 90, NOW).certificate)
    (other,) = load(
        CertificateAuthority.new("prod.eu", NOW).node(1, ["localhost"], 90, NOW).certificate
    )
    verifier = (
        PolicyBuilder()
        .store(Store([authority.certificate]))
        .time(NOW)
        .build_server_verifier(x509.DNSName("localhost"))
    )
    verifier.verify(certificate, [])
    with pytest.raises(VerificationError):
        verifier.verify(other, [])


def test_keys_are_of_p256_and_in_no_repr(authority: CertificateAuthority) -> None:
    pair = authority.user("alice", 1, NOW)
    key = serialization.load_pem_private_key(pair.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert load(pair.certificate)[0].public_key() == key.public_key()
    assert "PRIVATE" not in repr(pair)
    assert repr(authority) == "CertificateAuthority(cluster_name='prod.eu')"


def test_serial_and_fingerprint_are_as_openssl_prints_them(
    authority: CertificateAuthority,
) -> None:
    (certificate,) = load(authority.pair.certificate)
    said = facts_of(certificate)
    assert int(said.serial, 16) == certificate.serial_number
    assert said.serial == said.serial.lower()
    assert len(said.fingerprint.split(":")) == 32
    assert said.usage == ("CA",)
    assert said.names == ()


def test_a_ca_is_loaded_again_also_from_a_file_with_an_older_one(
    authority: CertificateAuthority,
) -> None:
    older = CertificateAuthority.new("prod.eu", NOW - timedelta(days=1))
    bundle = older.pair.certificate + authority.pair.certificate
    loaded = CertificateAuthority.load(bundle, authority.pair.key, NOW)
    assert loaded.certificate == authority.certificate
    assert loaded.cluster_name == "prod.eu"
    with pytest.raises(ConfigurationError, match="does not belong to its certificate"):
        CertificateAuthority.load(older.pair.certificate, authority.pair.key, NOW)
    with pytest.raises(ConfigurationError, match=r"the CA expired on 2036-11-27 00:00 UTC. Fix"):
        CertificateAuthority.load(bundle, authority.pair.key, NOW + timedelta(days=3_650))
    with pytest.raises(ConfigurationError, match="the CA's key can't be read"):
        CertificateAuthority.load(bundle, b"no key", NOW)


def test_no_certificate_outlives_its_ca(authority: CertificateAuthority) -> None:
    authority.user("alice", 3_650, NOW)
    with pytest.raises(ConfigurationError, match="take at most 3650 days"):
        authority.user("alice", 3_651, NOW)


@pytest.mark.parametrize("host", ["", "db 1", "db1:7411", "a..b", ".a", "a.", "-a", "*", "a*.b"])
def test_a_host_that_is_none_is_refused(authority: CertificateAuthority, host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"neither a DNS name nor an IP address. Fix: "):
        authority.node(1, [host], 90, NOW)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".a", "-a", "a b", "a\n", "ä", "a" * 65])
def test_a_user_name_that_is_no_file_name_is_refused(
    authority: CertificateAuthority, name: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"can't stand in a certificate. Fix: "):
        authority.user(name, 90, NOW)


@pytest.mark.parametrize("name", ["", "my cluster", "a/b", "a..b", "a" * 64, "a_b", "ä"])
def test_a_cluster_name_that_is_no_dns_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="can't stand in the DNS names"):
        CertificateAuthority.new(name, NOW)


def test_a_file_that_holds_no_certificate_is_refused(authority: CertificateAuthority) -> None:
    with pytest.raises(ConfigurationError, match="holds a private key"):
        load(authority.pair.key)
    with pytest.raises(ConfigurationError, match="holds no certificate"):
        load(b"")

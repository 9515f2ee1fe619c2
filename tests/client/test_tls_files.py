"""The files of `Tls` are checked, and each error names the file and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import raftkv
from raftkv.client.connection.endpoints import split_scheme
from raftkv.client.tls import Tls, read_files
from raftkv.errors import ConfigurationError, InvalidRequest
from tests.client.tls_servers import Certificates


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "certs")


def test_good_files_are_read_and_the_key_is_in_no_repr(certificates: Certificates) -> None:
    contents = read_files(certificates.user("alice"))
    assert contents.ca == certificates.ca.read_bytes()
    assert contents.key is not None
    assert "PRIVATE" not in repr(contents)


def test_without_a_ca_file_the_systems_cas_are_trusted(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raftkv.client import tls

    tls._system_cas.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    assert read_files(Tls()).ca == certificates.ca.read_bytes()
    tls._system_cas.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    with pytest.raises(ConfigurationError, match="no list of CAs that it trusts; give ca_file"):
        read_files(Tls())


@pytest.mark.parametrize("setting", ["ca_file", "cert_file", "key_file"])
def test_a_wrong_file_is_named(certificates: Certificates, tmp_path: Path, setting: str) -> None:
    good = certificates.user("alice")
    wrong = tmp_path / "wrong.pem"
    files = {"ca_file": good.ca_file, "cert_file": good.cert_file, "key_file": good.key_file}
    tls = Tls(**files | {setting: wrong})
    with pytest.raises(ConfigurationError, match=rf"^{setting} '.*wrong.pem' can't be read: No su"):
        read_files(tls)
    for content in (b"", b"text", b"\xff"):
        wrong.write_bytes(content)
        with pytest.raises(ConfigurationError, match=rf"^{setting} '.*wrong.pem' holds no "):
            read_files(tls)


def test_a_key_of_another_certificate_is_refused(certificates: Certificates) -> None:
    alice, bob = certificates.user("alice"), certificates.user("bob")
    tls = Tls(certificates.ca, alice.cert_file, bob.key_file)
    with pytest.raises(ConfigurationError, match=r"bob-key.pem' does not belong to .*alice\.pem"):
        read_files(tls)


def test_an_encrypted_key_is_refused_without_a_question(
    certificates: Certificates, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    alice = certificates.user("alice")
    key = serialization.load_pem_private_key(Path(alice.key_file).read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigurationError, match=r"encrypted.pem' is encrypted"):
        read_files(Tls(certificates.ca, alice.cert_file, encrypted))


def test_certificate_and_key_are_given_together() -> None:
    with pytest.raises(ConfigurationError, match="cert_file is given without key_file"):
        Tls(cert_file="a.pem")
    with pytest.raises(ConfigurationError, match="key_file is given without cert_file"):
        Tls(key_file="a.pem")
    with pytest.raises(InvalidRequest, match="ca_file"):
        Tls(ca_file=7)  # type: ignore[arg-type]


def test_the_environment_names_the_files() -> None:
    environ = {"RAFTKV_CACERT": "ca.pem", "RAFTKV_CERT": "a.pem", "RAFTKV_KEY": "a-key.pem"}
    assert Tls.from_environment(environ) == Tls("ca.pem", "a.pem", "a-key.pem")
    assert Tls.from_environment({"RAFTKV_CACERT": ""}) == Tls()


@pytest.mark.parametrize(
    ("endpoints", "addresses", "tls"),
    [
        ("a:1,b:2", ("a:1", "b:2"), False),
        (" raftkvs://a:1, b:2", ("a:1", "b:2"), True),
        ("raftkvs://a:1,raftkvs://b:2", ("a:1", "b:2"), True),
        (["raftkvs://a:1", "raftkvs://b:2"], ("a:1", "b:2"), True),
        ("raftkvs://[::1]:1", ("[::1]:1",), True),
    ],
)
def test_the_scheme_asks_for_tls(
    endpoints: str | list[str], addresses: tuple[str, ...], tls: bool
) -> None:
    assert split_scheme(endpoints) == (addresses, tls)


@pytest.mark.parametrize("endpoints", ["a:1,raftkvs://b:2", ["raftkvs://a:1", "b:2"]])
def test_plain_and_tls_addresses_do_not_mix(endpoints: str | list[str]) -> None:
    with pytest.raises(ConfigurationError, match="by TLS, or to none"):
        raftkv.connect(endpoints)


def test_a_scheme_that_is_none_is_refused() -> None:
    for endpoints in ("https://a:1", "raftkvs://", "raftkvs://https://a:1"):
        with pytest.raises(ConfigurationError, match=r"has a scheme|no endpoint given"):
            raftkv.connect(endpoints)
    with pytest.raises(ConfigurationError, match="tls is False"):
        raftkv.connect("raftkvs://a:1", tls=False)
    with pytest.raises(InvalidRequest, match="tls"):
        raftkv.connect("a:1", tls="ca.pem")  # type: ignore[arg-type]


async def test_a_wrong_file_is_an_error_of_connect(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ca_file '.*no\.pem' can't be read"):
        await raftkv.connect("127.0.0.1:1", tls=Tls(tmp_path / "no.pem"))

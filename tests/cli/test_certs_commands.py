"""`raftkv certs`: files of the right names and rights, and nothing overwritten that must stay."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest

from raftkv.cli.exit_codes import ExitCode
from tests.cli.conftest import Raftkv


@pytest.fixture
def directory(raftkv: Raftkv, tmp_path: Path) -> Path:
    made = tmp_path / "new" / "certs"
    assert raftkv("certs", "init", str(made), "--cluster-name", "prod").code == ExitCode.OK
    return made


def test_all_files_have_their_names_and_only_keys_are_secret(
    raftkv: Raftkv, directory: Path
) -> None:
    raftkv("certs", "node", "1", "--dir", str(directory), "--host", "a.example", "--host", "::1")
    raftkv("certs", "user", "alice", "--dir", str(directory))
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()}
    assert modes == {
        f"{name}{ending}": mode
        for name in ("ca", "node-1", "user-alice")
        for ending, mode in ((".pem", 0o644), ("-key.pem", 0o600))
    }
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_files_are_named_on_standard_output(raftkv: Raftkv, directory: Path) -> None:
    ran = raftkv("certs", "user", "alice", "--dir", str(directory), "--output", "json")
    assert ran.json == {
        "certificate": str(directory / "user-alice.pem"),
        "key": str(directory / "user-alice-key.pem"),
    }


def test_a_ca_is_never_overwritten(raftkv: Raftkv, directory: Path) -> None:
    before = {each: each.read_bytes() for each in directory.iterdir()}
    for missing in (None, "ca.pem"):
        if missing:
            (directory / missing).unlink()
        ran = raftkv("certs", "init", str(directory))
        assert ran.code == ExitCode.USAGE
        assert "exists and is left as it is" in ran.err
        assert "Fix: " in ran.err
    assert (directory / "ca-key.pem").read_bytes() == before[directory / "ca-key.pem"]


def test_renewing_replaces_a_certificate_and_its_key(raftkv: Raftkv, directory: Path) -> None:
    pairs = set()
    for _ in range(2):
        raftkv("certs", "node", "1", "--dir", str(directory))
        files = directory / "node-1.pem", directory / "node-1-key.pem"
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)  # they belong together
        pairs.add(tuple(file.read_bytes() for file in files))
    assert len({certificate for certificate, _ in pairs}) == 2
    assert len({key for _, key in pairs}) == 2


def test_show_says_what_operators_ask_for(raftkv: Raftkv, directory: Path) -> None:
    raftkv("certs", "node", "1", "--dir", str(directory), "--days", "30")
    files = str(directory / "node-1.pem"), str(directory / "ca.pem")
    shown = raftkv("certs", "show", *files).text
    node, ca = shown.split("\n\n")
    assert "DNS:node-1.prod.raftkv, DNS:localhost, IP:127.0.0.1, IP:::1" in node
    assert "(29 days left)" in node
    assert "usage        CA" in ca
    first, _ = raftkv("certs", "show", *files, "-o", "json").json
    assert first["serial"] in node
    assert first["fingerprint"] in node
    assert first["issuer"].startswith("CN=raftkv CA ")
    assert first["days_left"] == 29
    assert first["file"] == files[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["node", "1", "--dir", "{}/elsewhere"], "elsewhere has no CA"),
        (["user", "a/b", "--dir", "{}"], "can't stand in a certificate"),
        (["node", "1", "--dir", "{}", "--host", "db:7411"], "without a port"),
        (["node", "1", "--dir", "{}", "--days", "4000"], "is valid until"),
        (["show", "{}/nothing.pem"], "nothing.pem can't be read"),
        (["show", "{}/ca-key.pem"], "ca-key.pem: the file holds a private key"),
        (["init", "{}/ca.pem/below"], "can't be written"),
    ],
)
def test_errors_name_the_fix(
    raftkv: Raftkv, directory: Path, arguments: list[str], says: str
) -> None:
    ran = raftkv("certs", *(each.format(directory) for each in arguments))
    assert ran.code == ExitCode.USAGE
    assert says in ran.err
    assert "Fix: " in ran.err

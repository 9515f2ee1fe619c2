"""Certificate files that can't be used are refused with the setting, the reason and the fix."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from raftkv.errors import ConfigurationError, Unauthenticated
from raftkv.logs import get_logger
from raftkv.tls.certificates import Certificate
from raftkv.tls.deny import DenyList, read_serials
from raftkv.tls.files import read_certificates
from raftkv.tls.store import WARN_BEFORE, CertificateStore
from tests.tls.authority import NODE, Authority, Issued

Spoil = Callable[[Authority, Issued, Path], Issued | None]


def own(authority: Authority, issued: Issued, node_id: int = 1) -> None:
    read_certificates(authority.paths(issued), ssl.CERT_REQUIRED, NODE.format(node_id))


def test_files_that_fit_together_are_read(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.node(1)
    read = read_certificates(authority.paths(issued), ssl.CERT_REQUIRED, NODE.format(1))
    assert (read.chain, read.key) == (issued.certificate, issued.key)
    assert issued.key.decode() not in repr(read)


def readable_key(_: Authority, issued: Issued, __: Path) -> None:
    issued.key_file.chmod(0o640)


def other_key(authority: Authority, issued: Issued, _: Path) -> None:
    issued.key_file.write_bytes(authority.node(1).key)


def no_certificate(_: Authority, issued: Issued, __: Path) -> None:
    issued.cert_file.unlink()


def no_pem(_: Authority, issued: Issued, __: Path) -> None:
    issued.cert_file.write_bytes(b"not a certificate")


def no_key(_: Authority, issued: Issued, __: Path) -> None:
    issued.key_file.write_bytes(b"not a key")


def empty_ca(authority: Authority, _: Issued, __: Path) -> None:
    authority.ca_file.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "setting", "reason"),
    [
        (readable_key, "peer_key_file", "mode 0640"),
        (other_key, "peer_key_file", "is not the key of peer_cert_file"),
        (no_certificate, "peer_cert_file", "can't be read: No such file"),
        (no_pem, "peer_cert_file", "no certificates in PEM"),
        (no_key, "peer_key_file", "no private key in PEM"),
        (empty_ca, "peer_ca_file", "no certificates in PEM"),
        (lambda a, *_: a.node(1, days=-0.1), "peer_cert_file", "has expired at .* UTC"),
        (lambda a, *_: a.node(1, days_from=1), "peer_cert_file", "is valid only from .* UTC on"),
        (lambda a, *_: a.node(2), "peer_cert_file", "refused by other nodes: Hostname mismatch"),
        (lambda a, *_: a.node(1, cluster="other"), "peer_cert_file", "Hostname mismatch"),
        (lambda a, *_: a.user("node-1"), "peer_cert_file", "Hostname mismatch"),
        (
            lambda *a: Authority(a[2], "other").node(1),
            "peer_cert_file",
            "refused by other nodes: unable to get local issuer",
        ),
    ],
)
def test_files_that_can_not_be_used_are_refused_with_the_reason(
    tmp_path: Path, spoil: Spoil, setting: str, reason: str
) -> None:
    authority = Authority(tmp_path)
    issued = authority.node(1)
    issued = spoil(authority, issued, tmp_path) or issued
    with pytest.raises(ConfigurationError, match=f"^{setting} is .*{reason}.* Fix: ") as caught:
        own(authority, issued)
    assert caught.value.facts["key"] == setting


def test_a_ca_file_may_have_several_cas_while_one_changes(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    issued = new.node(1)
    with pytest.raises(ConfigurationError, match="local issuer"):
        own(old, issued)
    old.ca_file.write_bytes(old.pem + new.pem)
    own(old, issued)
    own(old, old.node(1))


# ---- files that change --------------------------------------------------------------------


def test_changed_files_are_read_and_bad_ones_leave_the_old_in_use(tmp_path: Path) -> None:
    authority, log = Authority(tmp_path), get_logger()
    first, second = authority.node(1), authority.node(1)
    store = CertificateStore(authority.paths(first), ssl.CERT_REQUIRED, NODE.format(1))
    begun = store.current
    with capture_logs() as lines:
        store.refresh(log)
    assert (store.current, lines) == (begun, [])

    good = first.cert_file.read_bytes()
    first.cert_file.write_bytes(second.certificate)  # without its key
    with capture_logs() as lines:
        store.refresh(log)
        store.refresh(log)
    assert store.current is begun
    assert [line["event"] for line in lines] == ["certificates_not_taken"]
    assert "is not the key of" in lines[0]["message"]

    second.move_to(first)
    with capture_logs() as lines:
        store.refresh(log)
    assert store.current.chain == second.certificate != good
    assert [line["event"] for line in lines] == ["certificates_read"]


def test_certificates_are_reported_daily_from_thirty_days_before_they_expire(
    tmp_path: Path,
) -> None:
    authority, log, now = Authority(tmp_path), get_logger(), datetime.now(UTC)
    issued = authority.node(1, days=100)
    store = CertificateStore(authority.paths(issued), ssl.CERT_REQUIRED)
    ends = now + timedelta(days=100)

    def events(at: datetime) -> list[tuple[str, object]]:
        with capture_logs() as lines:
            store.warn_of_expiry(log, at)
        return [(line["event"], line["setting"]) for line in lines]

    expires = [("certificate_expires", "peer_cert_file")]
    assert events(ends - WARN_BEFORE - timedelta(days=1)) == []
    first = ends - WARN_BEFORE + timedelta(hours=1)
    assert events(first) == expires
    assert events(first + timedelta(hours=23)) == []
    assert events(first + timedelta(hours=24)) == expires
    assert events(ends + timedelta(hours=1)) == [("certificate_expired", "peer_cert_file")]


# ---- the deny list ------------------------------------------------------------------------


def test_a_deny_list_has_serial_numbers_as_tools_write_them(tmp_path: Path) -> None:
    file = tmp_path / "denied"
    file.write_text("# stolen laptop\n0A:1b\n\nff  # ci\n00c0ffee\n")
    assert read_serials(str(file)) == {0x0A1B, 0xFF, 0xC0FFEE}


@pytest.mark.parametrize(("text", "reason"), [("0a\nnode-1", "line 2 .*'node-1'"), (None, "read")])
def test_a_deny_list_that_can_not_be_used_is_refused(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    file = tmp_path / "denied"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=f"certificate_deny_file .*{reason}.* Fix: "):
        DenyList(str(file))


def test_a_changed_deny_list_holds_and_a_bad_one_leaves_the_old_in_force(tmp_path: Path) -> None:
    file, log = tmp_path / "denied", get_logger()
    file.write_text("01\n")
    denied = DenyList(str(file))
    for text, serials, event in [
        ("01\n02\n", {1, 2}, "certificate_deny_list_read"),
        ("not a number\n", {1, 2}, "certificate_deny_list_not_taken"),
        ("02\n", {2}, "certificate_deny_list_read"),
    ]:
        file.write_text(text)
        with capture_logs() as lines:
            denied.refresh(log)
            denied.refresh(log)
        assert {serial for serial in (1, 2, 3) if serial in denied} == serials
        assert [line["event"] for line in lines] == [event]
    with pytest.raises(Unauthenticated, match=r"bob \(serial 2\)"):
        denied.require(Certificate(2, "bob", (), ()))

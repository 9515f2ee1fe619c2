"""`raftkv secret new`: a file that only its owner can read, and that is never overwritten."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from raftkv.peer.secret import read_secret
from tests.cli.conftest import Raftkv


def test_a_new_secret_is_readable_by_its_owner_alone(raftkv: Raftkv, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    ran = raftkv("secret", "new", str(file))
    assert ran.code == 0
    assert f"{file}: copy it to every node, and set cluster_secret_file to it" in ran.text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().strip()) == 64
    assert file.read_text().strip() not in ran.text + ran.err
    assert read_secret(str(file)).known


def test_two_new_secrets_differ(raftkv: Raftkv, tmp_path: Path) -> None:
    for name in ("one", "two"):
        raftkv("secret", "new", str(tmp_path / name))
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_an_existing_file_is_left_as_it_is(raftkv: Raftkv, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    raftkv("secret", "new", str(file))
    before = file.read_bytes()
    ran = raftkv("secret", "new", str(file))
    assert ran.code == 2
    assert "exists and is left as it is. Fix: " in ran.err
    assert raftkv("secret", "new", str(file), "--if-missing").code == 0
    assert file.read_bytes() == before


def test_an_existing_file_that_is_no_secret_is_refused(raftkv: Raftkv, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("short")
    file.chmod(0o600)
    ran = raftkv("secret", "new", str(file), "--if-missing")
    assert ran.code == 2
    assert "must hold from" in ran.err


def test_a_dangling_link_is_not_followed(raftkv: Raftkv, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert raftkv("secret", "new", str(tmp_path / "link")).code == 2
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("place", ["nowhere/secret", "."])
def test_a_file_that_can_not_be_written_is_named_with_the_fix(
    raftkv: Raftkv, tmp_path: Path, place: str
) -> None:
    ran = raftkv("secret", "new", str(tmp_path / place))
    assert ran.code == 2
    assert "Fix: " in ran.err

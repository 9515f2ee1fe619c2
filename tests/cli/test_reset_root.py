"""`raftkv auth reset-root`: what it leaves in a data directory, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import argon2
import pytest

from raftkv.server import passwords, root_reset
from raftkv.storage.directory import open_directory
from raftkv.storage.identity import DirectoryIdentity
from tests.cli.conftest import Raftkv


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cheap = argon2.Parameters(argon2.Type.ID, 19, 16, 32, 1, 8, 1)
    monkeypatch.setattr(passwords, "PARAMETERS", cheap)
    path = tmp_path / "node"
    directory = open_directory(path, "raftkv", 1, 7, free_bytes_min=0)
    directory.save(DirectoryIdentity(1, 1, disk_id=7, cluster_name="raftkv"))
    directory.close()
    return path


def test_a_reset_has_the_hash_of_the_password(
    raftkv: Raftkv, data_dir: Path, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("found again\n")
    password.chmod(0o600)
    ran = raftkv(
        "auth", "reset-root", "--data-dir", str(data_dir), "--password-file", str(password)
    )
    assert ran.code == 0
    assert "restart the node" in ran.text
    content = (data_dir / root_reset.FILE).read_text()
    assert "found again" not in content + ran.text
    assert argon2.PasswordHasher().verify(json.loads(content)["password_hash"], "found again")


def test_a_directory_of_no_node_and_a_missing_password_are_refused(
    raftkv: Raftkv, data_dir: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    given = tmp_path / "given"
    given.write_text("found again")
    for file in (empty, given):
        file.chmod(0o600)
    for directory, file, reason in (
        (data_dir, tmp_path / "missing", "can't be read"),
        (data_dir, empty, "empty"),
        (tmp_path, given, "is not the data directory of a node"),
    ):
        ran = raftkv(
            "auth", "reset-root", "--data-dir", str(directory), "--password-file", str(file)
        )
        assert ran.code == 2
        assert reason in ran.err
    assert not (data_dir / root_reset.FILE).exists()

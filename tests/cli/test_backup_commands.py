"""`raftkv backup`: what it says of a file, and what it refuses. A real one: tests/cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backup.saved import save
from tests.cli.conftest import Raftkv, Ran

MEMBERS = "1=127.0.0.1:7511/127.0.0.1:7411,2=127.0.0.1:7512/127.0.0.1:7412"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup"
    save(path)
    return path


def test_a_backup_is_shown_and_verified(raftkv: Raftkv, backup: Path) -> None:
    shown = raftkv("-o", "json", "backup", "show", str(backup)).json
    assert (shown["cluster_name"], shown["revision"], shown["applied_index"]) == ("old", 9, 40)
    assert (shown["encrypted"], shown["format"], shown["saved_ms"]) == (False, 1, 1_000)
    assert "1970-01-01 00:00:01+00:00" in raftkv("backup", "show", str(backup)).text
    verified = raftkv("-o", "json", "backup", "verify", str(backup)).json
    assert (verified["keys"], verified["keys_of_leases"]) == (2, 1)


def test_a_damaged_backup_has_an_exit_code_of_its_own(raftkv: Raftkv, backup: Path) -> None:
    whole = bytearray(backup.read_bytes())
    whole[-30] ^= 1
    backup.write_bytes(whole)
    ran = raftkv("-o", "json", "backup", "verify", str(backup))
    assert ran.code == 7
    assert "DAMAGED_BACKUP" in ran.err
    assert raftkv("backup", "show", str(backup)).code == 0
    assert raftkv("backup", "show", str(backup) + "-not").code == 2


def test_the_first_restore_says_how_the_others_are_made(
    raftkv: Raftkv, backup: Path, tmp_path: Path
) -> None:
    def restore(node_id: int, *options: str) -> Ran:
        data_dir = str(tmp_path / f"node-{node_id}")
        return raftkv(
            *("-o", "json", "backup", "restore", str(backup), "--data-dir", data_dir),
            *("--node-id", str(node_id), "--initial-members", MEMBERS, *options),
        )

    first = restore(1)
    restore_id = first.json["restore_id"]
    assert f"node 2 with the same command and --restore-id {restore_id}" in first.err
    second = restore(2, "--restore-id", restore_id)
    assert second.json["incarnation"] == first.json["incarnation"]
    assert not second.err
    for number in (1, 3):
        assert restore(number).code == 2


def test_a_list_of_members_that_is_none_is_refused(
    raftkv: Raftkv, backup: Path, tmp_path: Path
) -> None:
    for members in ("", "1", "0=a:1/b:2", "1=a/b:2", "1=a:1/b:2,1=a:1/b:2"):
        ran = raftkv(
            *("backup", "restore", str(backup), "--data-dir", str(tmp_path / "node")),
            *("--node-id", "1", "--initial-members", members),
        )
        assert ran.code == 2, (members, ran)
        assert not (tmp_path / "node").exists()


def test_an_existing_file_is_refused_before_the_cluster_is_asked(
    raftkv: Raftkv, backup: Path
) -> None:
    ran = raftkv("-e", "127.0.0.1:1", "backup", "save", str(backup))
    assert ran.code == 2
    assert "left as it is" in ran.err

"""`raftkv recover`: what it prints, and what it does not do without a confirmation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftkv.cli import recover
from raftkv.cli.exit_codes import ExitCode
from raftkv.storage.directory import open_directory, read_identity
from raftkv.storage.identity import DirectoryIdentity, Stage
from tests.cli.conftest import Raftkv
from tests.node.test_surviving_disks import directory_of
from tests.node.wire import members_of


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Of node 3 of three: six entries, of which three are known to be committed."""
    return directory_of(tmp_path / "node", members_of(1, 2, 3), entries=4)


def test_without_a_confirmation_it_says_what_is_lost_and_changes_nothing(
    raftkv: Raftkv, data_dir: Path
) -> None:
    before = read_identity(data_dir)
    ran = raftkv("recover", "--data-dir", str(data_dir), "--new-cluster")
    assert ran.code == ExitCode.USAGE
    assert "with its log up to entry 6 of term 2" in ran.err
    assert "LOST: every write that nodes 1, 2 acknowledged after that entry" in ran.err
    assert "Of its last 3 entries node 3 does not know that they were committed" in ran.err
    assert "REFUSED from now on: nodes 1, 2, and their ids for ever" in ran.err
    assert "nothing was changed" in ran.err
    assert read_identity(data_dir) == before


@pytest.mark.parametrize(("typed", "converted"), [("new cluster\n", True), ("yes\n", False)])
def test_at_a_terminal_the_words_must_be_typed(
    raftkv: Raftkv, data_dir: Path, monkeypatch: pytest.MonkeyPatch, typed: str, converted: bool
) -> None:
    monkeypatch.setattr(recover, "has_terminal", lambda: True)
    ran = raftkv("recover", "--data-dir", str(data_dir), "--new-cluster", stdin=typed.encode())
    assert (ran.code == 0) is converted
    identity = read_identity(data_dir)
    assert identity is not None
    assert (identity.stage is Stage.REFOUNDING) is converted


def test_each_new_cluster_has_another_incarnation(raftkv: Raftkv, tmp_path: Path) -> None:
    drawn = set()
    for name in ("a", "b"):
        path = directory_of(tmp_path / name, members_of(1, 2, 3))
        ran = raftkv("recover", "--data-dir", str(path), "--new-cluster", "--yes", "-o", "json")
        drawn.add(ran.json["incarnation"])
        identity = read_identity(path)
        assert identity is not None
        assert f"{identity.incarnation:016x}" == ran.json["incarnation"]
        # A second time is not necessary, and would be another cluster.
        again = raftkv("recover", "--data-dir", str(path), "--new-cluster", "--yes")
        assert again.code == ExitCode.REFUSED
        assert "start node 3" in again.err
    assert len(drawn) == 2


def test_wrong_directories_are_refused_with_the_reason(
    raftkv: Raftkv, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = raftkv("recover", "--data-dir", str(data_dir))
    assert (ran.code, "raftkv recover inspect" in ran.err) == (ExitCode.USAGE, True)
    arguments = ("--new-cluster", "--yes")
    ran = raftkv("recover", "--data-dir", str(tmp_path), *arguments)
    assert (ran.code, "is not the data directory of a node" in ran.err) == (ExitCode.USAGE, True)
    assert not (tmp_path / "lock").exists()
    new = open_directory(tmp_path / "new", "", 1, 1, free_bytes_min=0)
    new.save(DirectoryIdentity(1, 1, 1))
    running = raftkv("recover", "inspect", str(new.path))
    new.close()
    assert (running.code, "is in use by process" in running.err) == (ExitCode.STORAGE, True)
    ran = raftkv("recover", "inspect", str(new.path))
    assert (ran.code, "it has no log" in ran.text) == (ExitCode.REFUSED, True)
    monkeypatch.setattr(os, "geteuid", lambda: data_dir.stat().st_uid + 1)
    ran = raftkv("recover", "--data-dir", str(data_dir), *arguments)
    assert (ran.code, "sudo -u" in ran.err) == (ExitCode.USAGE, True)


def test_inspect_says_which_disk_is_best_and_why(raftkv: Raftkv, tmp_path: Path) -> None:
    paths = [
        directory_of(tmp_path / name, members_of(1, 2, 3), entries=count)
        for name, count in (("a", 2), ("b", 5))
    ]
    ran = raftkv("recover", "inspect", *map(str, paths))
    assert ran.code == 0
    assert f"best: node 3 in {paths[1]}" in ran.text
    assert "both logs end in term 2, and it has 3 more entries" in ran.text
    found = raftkv("recover", "inspect", *map(str, paths), "-o", "json").json
    assert found["best"] == str(paths[1])
    assert [disk["last_log_index"] for disk in found["disks"]] == [4, 7]
    assert len({disk["running_hash"] for disk in found["disks"]}) == 2
    twice = raftkv("recover", "inspect", str(paths[0]), str(paths[0]))
    assert (twice.code, f"process {os.getpid()}" in twice.err) == (ExitCode.STORAGE, True)

"""The data directory belongs to one node of one cluster, and to one process at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from raftkv import files
from raftkv.errors import DamagedData, DirectoryInUse, DirectoryMismatch, DiskFull, StorageError
from raftkv.storage.directory import DataDirectory, open_directory, read_identity
from raftkv.storage.identity import DirectoryIdentity, Stage

CLUSTER = 0xFEED_FACE_CAFE_BEEF
NAME = "orders"
DISK = 0xD15C
OWNER = DirectoryIdentity(CLUSTER, 3, DISK, NAME, 0xF00D, Stage.MEMBER)


def open_own(path: Path, **changed: object) -> DataDirectory:
    """As node 3 of that cluster does it."""
    return open_directory(path, NAME, 3, DISK + 1, **changed)


def make_own(path: Path, identity: DirectoryIdentity = OWNER) -> None:
    directory = open_own(path)
    directory.save(identity)
    if identity.stage is Stage.MEMBER:
        directory.log_path.mkdir()
        (directory.log_path / "CURRENT").touch()
    directory.close()


def test_a_new_directory_is_created_and_has_no_identity_until_one_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert read_identity(path) is None
    directory = open_own(path)
    assert directory.load() is None
    assert not directory.has_log
    assert directory.log_path == path / "log"
    assert directory.state_path == path / "state"
    founder = DirectoryIdentity(CLUSTER, 3, DISK, NAME)
    directory.save(founder)
    assert directory.load() == read_identity(path) == founder
    directory.close()
    again = open_own(path)
    assert again.load() == founder
    again.close()
    again.close()


@pytest.mark.parametrize(
    ("name", "node_id", "complaint"),
    [
        ("payments", 3, "belongs to the cluster 'orders', not to 'payments'"),
        (NAME, 4, "belongs to node 3, not to node 4"),
    ],
)
def test_a_directory_of_another_cluster_or_node_is_refused(
    tmp_path: Path, name: str, node_id: int, complaint: str
) -> None:
    make_own(tmp_path / "data")
    with pytest.raises(DirectoryMismatch, match=complaint):
        open_directory(tmp_path / "data", name, node_id, DISK)
    open_own(tmp_path / "data").close()


def test_a_directory_of_another_format_is_refused(tmp_path: Path) -> None:
    make_own(tmp_path)
    identity = tmp_path / "identity.json"
    identity.write_text(json.dumps(json.loads(identity.read_text()) | {"format_version": 9}))
    with pytest.raises(DirectoryMismatch, match="data format 9"):
        open_own(tmp_path)


def write_0_1_0(path: Path) -> None:
    path.mkdir(exist_ok=True)
    content = {"format_version": 1, "cluster_id": CLUSTER, "node_id": 3}
    (path / "identity.json").write_text(json.dumps(content))


def test_a_directory_of_0_1_0_gets_a_disk_id_that_it_keeps(tmp_path: Path) -> None:
    write_0_1_0(tmp_path)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "CURRENT").touch()
    open_directory(tmp_path, NAME, 3, 5).close()
    directory = open_directory(tmp_path, NAME, 3, 6)
    identity = directory.load()
    directory.close()
    assert identity is not None
    assert (identity.cluster_id, identity.disk_id, identity.cluster_name) == (CLUSTER, 5, NAME)
    assert identity.stage is Stage.MEMBER
    assert identity.incarnation
    with pytest.raises(DirectoryMismatch, match="cluster 'orders'"):
        open_directory(tmp_path, "payments", 3, 6)


def test_a_directory_of_0_1_0_that_never_had_a_log_belongs_to_a_new_node(tmp_path: Path) -> None:
    write_0_1_0(tmp_path)
    directory = open_directory(tmp_path, NAME, 3, 5)
    identity = directory.load()
    directory.close()
    assert identity is not None
    assert (identity.stage, identity.incarnation) == (Stage.FOUNDING, 0)


def test_a_directory_of_0_1_0_that_lost_its_log_is_refused(tmp_path: Path) -> None:
    write_0_1_0(tmp_path)
    (tmp_path / "state").mkdir()
    with pytest.raises(DamagedData, match=r"the log in .* is gone"):
        open_directory(tmp_path, NAME, 3, 5)


def test_a_directory_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"...")
    with pytest.raises(DirectoryMismatch, match=r"holiday\.jpg"):
        open_own(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"node_id": 3}', '{"cluster_id": null}']
)
def test_a_damaged_identity_is_refused(tmp_path: Path, content: str) -> None:
    make_own(tmp_path)
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(DamagedData, match=r"identity\.json"):
        open_own(tmp_path)


def test_a_crash_before_the_identity_is_written_leaves_a_new_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crash)
        directory = open_own(tmp_path)
        with pytest.raises(StorageError, match="Input/output error"):
            directory.save(OWNER)
        directory.close()
    assert read_identity(tmp_path) is None
    open_own(tmp_path).close()


def test_a_directory_is_held_against_a_second_opening(tmp_path: Path) -> None:
    directory = open_own(tmp_path)
    with pytest.raises(DirectoryInUse, match=f"in use by process {os.getpid()}"):
        open_own(tmp_path)
    directory.close()


def test_a_directory_is_held_against_another_process_until_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from raftkv.storage.directory import open_directory;"
        f"held = open_directory(pathlib.Path({str(tmp_path)!r}), {NAME!r}, 3, {DISK});"
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdin is not None
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUse, match=f"process {other.pid}"):
            open_own(tmp_path)
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
    open_own(tmp_path).close()


@pytest.mark.parametrize("stage", [Stage.FOUNDING, Stage.JOINING])
def test_a_state_without_its_log_is_refused(tmp_path: Path, stage: Stage) -> None:
    make_own(tmp_path, replace(OWNER, stage=stage))
    (tmp_path / "log").mkdir()
    open_own(tmp_path).close()  # a crash while the log was being made
    (tmp_path / "state").mkdir()
    with pytest.raises(DamagedData, match=r"the log in .* is gone.*member replace"):
        open_own(tmp_path)


def test_a_member_without_a_log_is_refused_although_nothing_else_is_left_either(
    tmp_path: Path,
) -> None:
    make_own(tmp_path)
    (tmp_path / "log" / "CURRENT").unlink()
    (tmp_path / "log").rmdir()
    with pytest.raises(DamagedData, match=r"the log in .* is gone"):
        open_own(tmp_path)


def test_a_directory_that_is_refused_is_not_held(tmp_path: Path) -> None:
    make_own(tmp_path)
    with pytest.raises(DirectoryMismatch):
        open_directory(tmp_path, NAME, 4, DISK)
    open_own(tmp_path).close()


def test_a_disk_without_room_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="MiB are free"):
        open_own(tmp_path, free_bytes_min=1 << 60)
    open_own(tmp_path).close()


def test_a_path_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="opening the data directory"):
        open_own(tmp_path / "file")


def test_a_durable_write_leaves_the_old_content_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_durably(tmp_path / "f", b"old")

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="No space"):
            files.write_durably(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    files.write_durably(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"


def test_an_existing_directory_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "data"
    make_own(path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(0o644)
    (path / "link").symlink_to(elsewhere)
    (path / "log" / "000004.sst").touch()
    for each, mode in ((path, 0o755), (path / "log", 0o775), (path / "log" / "CURRENT", 0o644)):
        each.chmod(mode)
    open_own(path).close()
    for each in (path, *path.rglob("*")):
        if not each.is_symlink():
            assert each.stat().st_mode & 0o077 == 0, each
    assert elsewhere.stat().st_mode & 0o777 == 0o644
    assert files.make_private(path) == 0

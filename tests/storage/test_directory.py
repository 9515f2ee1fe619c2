"""The data directory belongs to one node of one cluster, and to one process at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv import files
from raftkv.errors import DamagedData, DirectoryInUse, DirectoryMismatch, DiskFull, StorageError
from raftkv.storage.directory import Identity, open_directory, read_identity

CLUSTER = 0xFEED_FACE_CAFE_BEEF


def test_a_new_directory_is_made_and_remembers_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert read_identity(path) is None
    directory = open_directory(path, CLUSTER, 3)
    assert directory.identity == read_identity(path) == Identity(CLUSTER, 3)
    assert directory.log_path == path / "log"
    assert directory.state_path == path / "state"
    directory.close()
    again = open_directory(path, CLUSTER, 3)
    again.close()
    again.close()


@pytest.mark.parametrize(
    ("cluster_id", "node_id", "complaint"),
    [
        (CLUSTER + 1, 3, "belongs to cluster feedfacecafebeef, not to feedfacecafebef0"),
        (CLUSTER, 4, "belongs to node 3, not to node 4"),
    ],
)
def test_a_directory_of_another_cluster_or_node_is_refused(
    tmp_path: Path, cluster_id: int, node_id: int, complaint: str
) -> None:
    open_directory(tmp_path / "data", CLUSTER, 3).close()
    with pytest.raises(DirectoryMismatch, match=complaint):
        open_directory(tmp_path / "data", cluster_id, node_id)
    open_directory(tmp_path / "data", CLUSTER, 3).close()


def test_a_directory_of_another_format_is_refused(tmp_path: Path) -> None:
    open_directory(tmp_path, CLUSTER, 3).close()
    identity = tmp_path / "identity.json"
    identity.write_text(json.dumps(json.loads(identity.read_text()) | {"format_version": 9}))
    with pytest.raises(DirectoryMismatch, match="data format 9"):
        open_directory(tmp_path, CLUSTER, 3)


def test_a_directory_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"...")
    with pytest.raises(DirectoryMismatch, match=r"holiday\.jpg"):
        open_directory(tmp_path, CLUSTER, 3)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"node_id": 3}', '{"cluster_id": null}'])
def test_a_damaged_identity_is_refused(tmp_path: Path, content: str) -> None:
    open_directory(tmp_path, CLUSTER, 3).close()
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(DamagedData, match=r"identity\.json"):
        open_directory(tmp_path, CLUSTER, 3)


def test_a_crash_before_the_identity_stood_leaves_a_new_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crash)
        with pytest.raises(StorageError, match="Input/output error"):
            open_directory(tmp_path, CLUSTER, 3)
    assert read_identity(tmp_path) is None
    open_directory(tmp_path, CLUSTER, 3).close()


def test_a_directory_is_held_against_a_second_opening(tmp_path: Path) -> None:
    directory = open_directory(tmp_path, CLUSTER, 3)
    with pytest.raises(DirectoryInUse, match=f"in use by process {os.getpid()}"):
        open_directory(tmp_path, CLUSTER, 3)
    directory.close()


def test_a_directory_is_held_against_another_process_until_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from raftkv.storage.directory import open_directory;"
        f"held = open_directory(pathlib.Path({str(tmp_path)!r}), {CLUSTER}, 3);"
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
            open_directory(tmp_path, CLUSTER, 3)
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
    open_directory(tmp_path, CLUSTER, 3).close()


def test_a_state_without_its_log_is_a_node_without_its_votes(tmp_path: Path) -> None:
    open_directory(tmp_path, CLUSTER, 3).close()
    (tmp_path / "log").mkdir()
    open_directory(tmp_path, CLUSTER, 3).close()  # a crash while the log was being made
    (tmp_path / "state").mkdir()
    with pytest.raises(DamagedData, match=r"its log is gone.*member replace"):
        open_directory(tmp_path, CLUSTER, 3)


def test_a_disk_without_room_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="MiB are free"):
        open_directory(tmp_path, CLUSTER, 3, free_bytes_min=1 << 60)
    open_directory(tmp_path, CLUSTER, 3).close()


def test_a_path_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="opening the data directory"):
        open_directory(tmp_path / "file", CLUSTER, 3)


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

"""The disk reserve is allocated if there is space, and released for a start on a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.errors import DiskFull
from raftkv.storage.directory import open_directory
from raftkv.storage.identity import DirectoryIdentity
from raftkv.storage.reserve import DiskReserve

MIB = 1 << 20


class Disk:
    """The free space of the system without the reserve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
        self.free_bytes = free_bytes

        def free(reserve: DiskReserve) -> int:
            return self.free_bytes - (reserve.size_bytes if reserve.held else 0)

        monkeypatch.setattr(DiskReserve, "free_bytes", free)


def test_the_reserve_occupies_its_blocks_until_it_is_released(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path, 4 * MIB)
    assert not reserve.held
    assert reserve.take()
    file = tmp_path / "reserve"
    assert file.stat().st_blocks * 512 >= 4 * MIB
    assert file.stat().st_mode & 0o777 == 0o600
    assert DiskReserve(tmp_path, 4 * MIB).held
    assert reserve.release()
    assert not reserve.release()
    assert list(tmp_path.iterdir()) == []


def test_no_reserve_is_taken_where_it_would_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, 2 * MIB - 1)
    reserve = DiskReserve(tmp_path, MIB)
    assert not reserve.take()
    disk.free_bytes += 1
    assert reserve.take()


def test_a_reserve_that_can_not_be_allocated_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    assert not DiskReserve(tmp_path, MIB).take()
    assert list(tmp_path.iterdir()) == []


def test_without_a_reserve_nothing_is_written(tmp_path: Path) -> None:
    assert DiskReserve(tmp_path, 0).take()
    assert list(tmp_path.iterdir()) == []


def test_the_reserve_is_an_eighth_of_a_small_disk(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path, 1 << 60)
    assert 0 < reserve.size_bytes < 1 << 57


def test_a_node_on_a_full_disk_starts_with_its_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    disk = Disk(monkeypatch, 100 * MIB)
    directory = open_directory(path, "orders", 1, 1, reserve_bytes=4 * MIB)
    directory.save(DirectoryIdentity(1, 1, 1, "orders"))
    assert directory.reserve.take()
    directory.close()

    disk.free_bytes = 7 * MIB
    directory = open_directory(path, "orders", 1, 1, reserve_bytes=4 * MIB, free_bytes_min=0)
    assert not directory.reserve.held
    directory.close()


def test_the_error_for_a_disk_too_full_for_the_reserve_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="free some space, then restart"):
        open_directory(tmp_path / "data", "orders", 1, 1, free_bytes_min=1 << 60)

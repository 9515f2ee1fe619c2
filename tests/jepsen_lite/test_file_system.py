"""Power cuts below ext4: the logged disk, a sample of cuts, a planted bug, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.power_cuts.campaign import CutFigures, scratch_directory
from jepsen_lite.power_cuts.disk import BLOCK_BYTES, CutModel
from jepsen_lite.power_cuts.file_system import (
    LoggedDisk,
    carry_out,
    draw_cuts,
    make_recording,
    missing,
)
from jepsen_lite.power_cuts.logged_disk import DiskOperation, read_log
from raftkv.errors import InvariantViolation

needs_file_system = pytest.mark.skipif(bool(missing()), reason=missing())


def written(block: int, content: bytes) -> DiskOperation:
    return DiskOperation("w", block * BLOCK_BYTES, content * BLOCK_BYTES)


def test_a_flush_makes_every_earlier_write_durable() -> None:
    disk = LoggedDisk(8 * BLOCK_BYTES)
    disk.follow(written(0, b"a"))
    disk.follow(DiskOperation("f"))
    disk.follow(written(1, b"bbb"))
    assert disk.image(CutModel.SYNCED, Random(0)).rstrip(b"\0") == b"a" * BLOCK_BYTES
    issued = disk.image(CutModel.ISSUED, Random(0)).rstrip(b"\0")
    assert issued == b"a" * BLOCK_BYTES + b"b" * (3 * BLOCK_BYTES)
    torn = [
        bytes(disk.image(CutModel.TORN, Random(seed))[: 4 * BLOCK_BYTES : BLOCK_BYTES])
        for seed in range(60)
    ]
    assert {image[:1] for image in torn} == {b"a"}
    assert {b"a\0b\0", b"abb\0", b"a\0\0b"} <= set(torn)


def test_without_root_the_command_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused = CliRunner().invoke(app, ["power-cuts", "--file-system"])
    assert refused.exit_code == 2
    assert refused.output == "unknown: mounting a file system needs root\n"


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_directory() as directory:
        yield directory


def cut(scratch: Path, cuts: int, mutants: tuple[str, ...] = ()) -> CutFigures:
    operations = read_log(make_recording(scratch, 1, 30, mutants))
    return carry_out(operations, 1, draw_cuts(operations, 1, cuts))


@needs_file_system
@pytest.mark.slow
def test_ext4_recovers_what_was_promised(scratch: Path) -> None:
    figures = cut(scratch, 40)
    assert figures.problems == []
    assert figures.cuts.keys() == set(CutModel)
    assert figures.acknowledged["append"] > 5
    assert figures.operations["f"] > figures.acknowledged["append"]


@needs_file_system
@pytest.mark.slow
def test_an_append_that_is_not_synced_is_lost_on_ext4(scratch: Path) -> None:
    figures = cut(scratch, 12, ("sync-left-out",))
    assert any("was acknowledged" in text for _, text in figures.problems)


def attached(scratch: Path) -> list[str]:
    """Mounts and loop devices that refer to this directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        lines.append(backing.read_text())
    return [line for line in lines if str(scratch) in line]


@needs_file_system
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_mounted(scratch: Path, number: int) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from jepsen_lite.power_cuts import file_system as mounted\n"
        "with mounted.ended_in_order():"
        " mounted.make_recording(Path(sys.argv[1]), 1, 10_000)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(scratch)], stderr=subprocess.DEVNULL
    ) as recording:
        while not (scratch / "file-system" / "node").exists():
            assert recording.poll() is None
            time.sleep(0.02)
        assert len(attached(scratch)) == 3  # FUSE, the loop device, and ext4 on it
        recording.send_signal(number)
        assert recording.wait(60) != 0
    assert attached(scratch) == []


@needs_file_system
@pytest.mark.slow
def test_a_failure_leaves_nothing_mounted(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = read_log(make_recording(scratch, 1, 3))
    begun: list[Path] = []

    async def fails(path: Path, *_: object, **__: object) -> str:
        begun.append(path)
        assert attached(path.parent)
        raise InvariantViolation("planted")

    monkeypatch.setattr("jepsen_lite.power_cuts.campaign.check_reopened", fails)
    with pytest.raises(InvariantViolation):
        carry_out(operations, 1, draw_cuts(operations, 1, 1))
    assert attached(begun[0].parent) == []

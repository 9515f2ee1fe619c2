"""The real stores after power cuts: the recorder, the model of the disk, and planted bugs."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from jepsen_lite.cli import app
from jepsen_lite.commands.past_runs import STORE
from jepsen_lite.power_cuts.campaign import (
    CutFigures,
    carry_out,
    draw_cuts,
    make_recording,
    require_complete,
    scratch_directory,
)
from jepsen_lite.power_cuts.disk import BLOCK_BYTES, CutModel, ModelDisk
from jepsen_lite.power_cuts.failures import described_failures, keep_recording
from jepsen_lite.power_cuts.killed_node import KilledNodes
from jepsen_lite.power_cuts.mutants import STORAGE_MUTANTS
from jepsen_lite.power_cuts.notes import pack_entries
from jepsen_lite.power_cuts.promises import committed_entries
from jepsen_lite.power_cuts.recorder import (
    FileOperation,
    RecorderFailed,
    missing,
    read,
    record,
)
from jepsen_lite.power_cuts.stored_node import LogWrapper, open_node
from raftkv.raft.entry import Entry, EntryKind

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

STEPS = 20


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_directory() as directory:
        yield directory


def operation(kind: str, inode: int = 0, path: str = "", **more: object) -> FileOperation:
    found = {"offset": 0, "target": "", "data": b"", **more}
    return FileOperation(kind, inode, path=path, **found)  # type: ignore[arg-type]


def left_by(
    operations: list[FileOperation], directory: Path, model: CutModel, seed: int = 0
) -> dict[str, bytes]:
    """The files after a power cut at the end of these operations."""
    disk, target = ModelDisk(), directory / f"{model}-{seed}"
    for each in operations:
        disk.follow(each)
    target.mkdir()
    disk.leave(target, model, Random(seed))
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }


ROOT = 999
CREATED = [operation("c", 1, "f"), operation("w", 1, data=b"synced"), operation("s", 1)]


def test_a_name_is_durable_when_its_directory_was_synced(tmp_path: Path) -> None:
    assert left_by(CREATED, tmp_path, CutModel.SYNCED) == {}
    assert left_by(CREATED, tmp_path, CutModel.ISSUED) == {"f": b"synced"}
    synced = [*CREATED, operation("s", ROOT), operation("w", 1, offset=6, data=b" and more")]
    assert left_by(synced, tmp_path, CutModel.SYNCED, seed=1) == {"f": b"synced"}


def test_an_unsynced_rename_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    renamed = [
        *CREATED,
        operation("s", ROOT),
        operation("c", 2, "g"),
        operation("w", 2, data=b"new"),
        operation("s", 2),
        operation("r", path="g", target="f"),
    ]
    assert left_by(renamed, tmp_path, CutModel.SYNCED) == {"f": b"synced"}
    assert left_by(renamed, tmp_path, CutModel.ISSUED) == {"f": b"new"}
    torn = [left_by(renamed, tmp_path, CutModel.TORN, seed) for seed in range(1, 30)]
    assert {files["f"] for files in torn} == {b"synced", b"new"}


def test_torn_files_have_synced_blocks_and_any_of_the_others(tmp_path: Path) -> None:
    block = BLOCK_BYTES
    written = [
        operation("c", 1, "f"),
        operation("w", 1, data=b"a" * block),
        operation("s", 1),
        operation("s", ROOT),
        operation("w", 1, offset=block, data=b"b" * (2 * block)),
    ]
    torn = [left_by(written, tmp_path, CutModel.TORN, seed)["f"] for seed in range(60)]
    assert all(content.startswith(b"a" * block) for content in torn)
    assert any(len(content) == 3 * block for content in torn)
    assert any(block < len(content) < 3 * block for content in torn)
    assert any(content[block : 2 * block] == bytes(block) and b"b" in content for content in torn)


def test_an_inode_number_is_used_again(tmp_path: Path) -> None:
    again = [
        *CREATED,
        operation("u", 1, "f"),
        operation("c", 1, "g"),
        operation("w", 1, data=b"other"),
        operation("t", 1, offset=3),
    ]
    assert left_by(again, tmp_path, CutModel.ISSUED) == {"g": b"oth"}


CHANGES = """
import os, shutil, sys
from pathlib import Path
root = Path(sys.argv[1])
os.chdir(root)
Path("a").mkdir()
Path("a/one").write_bytes(b"1234567890")
os.link("a/one", "a/two")
Path("a/one").write_bytes(b"short")
os.replace("a/two", root / "b")
Path("c/d").mkdir(parents=True)
Path("c/d/file").write_bytes(b"gone")
shutil.rmtree("c")
descriptor = os.open(root / "b", os.O_RDWR)
os.pwrite(descriptor, b"XY", 20)
os.ftruncate(descriptor, 21)
os.fsync(descriptor)
os.close(descriptor)
Path("a").rename("moved")
"""
UNSEEN = (
    CHANGES
    + """
import mmap
with open("b", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
    mapped[0:1] = b"!"
"""
)


def recorded(script: str, tmp_path: Path) -> list[FileOperation]:
    root, file = tmp_path / "root", tmp_path / "recording"
    root.mkdir()
    record([sys.executable, "-c", script, str(root)], root, file)
    operations = read(file)
    require_complete(operations, root)
    return operations


def test_the_recording_leads_to_the_files_that_are_there(tmp_path: Path) -> None:
    kinds = {each.kind for each in recorded(CHANGES, tmp_path)}
    assert kinds == set("cmwtsurl")


def test_a_write_that_the_recorder_does_not_see_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RecorderFailed, match="b is not as it is on disk"):
        recorded(UNSEEN, tmp_path)


def test_a_workload_that_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RecorderFailed, match="ZeroDivisionError"):
        recorded("1 / 0", tmp_path)


def cut_at_many_moments(directory: Path, seed: int, steps: int, cuts: int) -> CutFigures:
    """Fails with every problem, and keeps the recording: the seed alone does not repeat it."""
    file = make_recording(directory, seed, steps)
    operations = read(file)
    figures = carry_out(operations, seed, draw_cuts(operations, seed, cuts))
    if figures.problems:
        kept = keep_recording(file, STORE, seed)
        pytest.fail("\n".join(described_failures(figures, kept, seed)), pytrace=False)
    return figures


def test_a_power_cut_at_any_moment_leaves_what_was_promised(scratch: Path) -> None:
    figures = cut_at_many_moments(scratch, 1, STEPS, 24)
    assert figures.cuts.keys() == set(CutModel)
    assert figures.acknowledged["append"] > STEPS / 4


@pytest.mark.slow
def test_an_append_that_is_not_synced_is_found_and_repeated(tmp_path: Path) -> None:
    arguments = ["power-cuts", "--steps", str(STEPS), "--cuts", "12", "--store", str(tmp_path)]
    failed = CliRunner().invoke(app, [*arguments, "--mutant", "sync-left-out"])
    assert failed.exit_code == 1, failed.output
    assert "was acknowledged" in failed.output
    problem, command = re.findall(r"(after operation.*)\n  repeat: (.*)", failed.output)[0]
    repeated = CliRunner().invoke(app, shlex.split(command)[1:])
    assert repeated.exit_code == 1, repeated.output
    assert problem in repeated.output


@pytest.mark.slow
@pytest.mark.parametrize("name", STORAGE_MUTANTS)
def test_a_missing_sync_is_found(name: str, scratch: Path) -> None:
    operations = read(make_recording(scratch, 1, 60, [name]))
    figures = carry_out(operations, 1, draw_cuts(operations, 1, 150))
    assert figures.problems, STORAGE_MUTANTS[name].story


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_hundreds_of_power_cuts(seed: int, scratch: Path) -> None:
    cut_at_many_moments(scratch, seed, 60, 250)


def test_entries_that_are_committed_and_not_applied_are_in_the_reference() -> None:
    entries = [Entry(1, index, EntryKind.NOOP) for index in (1, 2, 3, 4)]
    notes = [
        {"begin": "append", "hard_state": [1, 0, 1], "entries": pack_entries(entries[:2])},
        {"acknowledged": "append"},
        {"begin": "apply", "through": 1},
        {"acknowledged": "apply"},
        {"begin": "append", "hard_state": [1, 0, 3], "entries": pack_entries(entries[2:])},
        {"acknowledged": "append"},
    ]
    assert committed_entries(notes) == entries[:3]


async def indexes_found(path: Path) -> list[int]:
    node = await open_node(path, Random(0), LogWrapper())
    await node.close()
    return [entry.index for entry in node.found.entries]


def test_a_killed_node_keeps_what_it_has_acknowledged(scratch: Path) -> None:
    with KilledNodes() as killed:
        assert killed.append_and_kill(scratch / "node") == ""
        assert killed.append_and_kill(scratch / "node") == ""
        assert asyncio.run(indexes_found(scratch / "node")) == [1, 2, 3, 4]
        (scratch / "node" / "identity.json").write_bytes(b"{}")
        assert "identity.json is damaged" in killed.append_and_kill(scratch / "node")


def test_wrong_uses_are_named() -> None:
    for arguments, answer in (
        (["--only", "12:wet"], "the models are issued"),
        (["--mutant", "none"], "no such mutant"),
    ):
        result = CliRunner().invoke(app, ["power-cuts", "--recording", "/dev/null", *arguments])
        assert result.exit_code == 2, result.output
        assert answer in result.output

"""The reaper ends the process groups of a dead parent, and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.test_guarded_command import is_gone, until

STARTER = """
import pathlib, subprocess, sys, time
from raftkv.cli.guarded.reaper import Reaper

directory = pathlib.Path(sys.argv[1])
(directory / "data").mkdir()
with Reaper(0.0, directory / "data") as reaper:
    for script in sys.argv[2:]:
        child = subprocess.Popen(["sh", "-c", script], process_group=0, cwd=directory)
        reaper.watch(child.pid)
        if script == "exit":
            child.wait()
            reaper.forget(child.pid)
        else:
            (directory / "group").write_text(str(child.pid))
    (directory / "ready").touch()
    sys.stdin.read()
"""
STUBBORN = "trap '' TERM; while :; do sleep 0.02; done"


@contextmanager
def starter(directory: Path, *scripts: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", STARTER, str(directory), *scripts]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process


@pytest.mark.parametrize("killed", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_groups_and_the_directory_end_with_the_parent_process(
    tmp_path: Path, killed: bool
) -> None:
    with starter(tmp_path, "exit", STUBBORN) as process:
        await until((tmp_path / "ready").exists)
        group = int((tmp_path / "group").read_text())
        assert not is_gone(group)
        if killed:
            process.kill()
    await until(lambda: is_gone(group) and not (tmp_path / "data").exists())


def test_an_ended_group_is_not_killed(tmp_path: Path) -> None:
    """Its number may be another's by then: here that of a group which was never ours."""
    other = subprocess.Popen(["sleep", "600"], process_group=0)
    code = (
        "import sys; from raftkv.cli.guarded.reaper import Reaper\n"
        "with Reaper(0.0) as reaper:\n"
        f"    reaper.watch({other.pid}); reaper.forget({other.pid})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert other.poll() is None
    other.kill()
    other.wait()

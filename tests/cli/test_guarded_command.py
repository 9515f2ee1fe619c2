"""The guarded command, with real processes and no cluster: it does not outlive the lock."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftkv.cli.guarded.command import GuardedCommand

ENDLESS = "while :; do sleep 0.02; done"
STUBBORN_CHILD = f"(trap '' TERM; touch child; {ENDLESS}) & wait"


def started(script: str, directory: Path) -> GuardedCommand:
    return GuardedCommand(["sh", "-c", f"cd {directory}; echo $$ > group; {script}"], {})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


def group_in(directory: Path) -> int:
    """The process group, 0 as long as it has not begun."""
    file = directory / "group"
    return int(file.read_text() or 0) if file.exists() else 0


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    command = started(STUBBORN_CHILD, tmp_path)
    await until((tmp_path / "child").exists)
    command.end(grace_s=0.2)
    await command.wait()
    await until(lambda: is_gone(group_in(tmp_path)))


async def test_a_command_that_ends_within_the_grace_is_not_waited_for_longer(
    tmp_path: Path,
) -> None:
    command = started(ENDLESS, tmp_path)
    await until(lambda: group_in(tmp_path) > 0)
    command.end(grace_s=3600.0)
    async with asyncio.timeout(20.0):
        await command.wait()
    assert command.ended_by_signal


async def test_the_command_is_killed_if_the_wait_for_it_fails(tmp_path: Path) -> None:
    command = started(ENDLESS, tmp_path)
    await until(lambda: group_in(tmp_path) > 0)
    waiting = asyncio.create_task(command.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: is_gone(group_in(tmp_path)))


GUARDING = """
import asyncio, pathlib, sys
from raftkv.cli.guarded.command import GuardedCommand

async def guard() -> None:
    grace_s = float(sys.argv[2]) if sys.argv[2] else None
    command = GuardedCommand(["sh", "-c", sys.argv[1]], {}, grace_s)
    pathlib.Path(sys.argv[3]).touch()
    await command.wait()

asyncio.run(guard())
"""


@asynccontextmanager
async def guarding(
    script: str, directory: Path, grace: str
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Another process that guards a command by now, which one may kill."""
    script = f"cd {directory}; echo $$ > group; {script}"
    guards = directory / "guards"
    command = [sys.executable, "-c", GUARDING, script, grace, guards]
    with subprocess.Popen(command) as guard:  # noqa: ASYNC220 - it is waited for below
        await until(guards.exists)
        yield guard


@pytest.mark.parametrize("grace", ["0", "0.2"])
async def test_the_command_and_its_children_do_not_outlive_a_killed_guard(
    tmp_path: Path, grace: str
) -> None:
    async with guarding(STUBBORN_CHILD, tmp_path, grace) as guard:
        await until((tmp_path / "child").exists)
        guard.kill()
    await until(lambda: is_gone(group_in(tmp_path)))


async def test_after_the_death_of_its_guard_the_command_has_the_grace_to_end(
    tmp_path: Path,
) -> None:
    script = f"trap 'touch told; exit 0' TERM; touch ready; {ENDLESS}"
    async with guarding(script, tmp_path, "3600") as guard:
        await until((tmp_path / "ready").exists)
        guard.kill()
    await until(lambda: is_gone(group_in(tmp_path)))
    assert (tmp_path / "told").exists()


async def test_the_command_outlives_its_guard_with_on_loss_ignore(tmp_path: Path) -> None:
    script = "touch ready; until [ -e go-on ]; do sleep 0.02; done; touch done"
    async with guarding(script, tmp_path, "") as guard:
        await until((tmp_path / "ready").exists)
        guard.kill()
    (tmp_path / "go-on").touch()
    await until((tmp_path / "done").exists)


async def test_the_command_runs_on_a_terminal_of_another_session(tmp_path: Path) -> None:
    """As under setsid: it is a terminal, and not ours to lend."""
    primary, secondary = os.openpty()
    before = os.dup(0)
    os.dup2(secondary, 0)
    try:
        assert os.isatty(0)
        assert await started("exit 7", tmp_path).wait() == 7
    finally:
        os.dup2(before, 0)
        for each in (before, primary, secondary):
            os.close(each)

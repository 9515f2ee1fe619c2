"""The nodes of `raftkv dev` end with it, however and whenever it ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_real_processes import ROOT, free_block, read_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

Dev = subprocess.Popen[str]


def start(directory: Path, first: int, *, ignore: tuple[signal.Signals, ...] = ()) -> Dev:
    def ignore_them() -> None:
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)

    return subprocess.Popen(
        [
            *(sys.executable, "-m", "raftkv", "dev", "--temporary", "--nodes", "2"),
            *("--client-port", str(first), "--peer-port", str(first + 2)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        preexec_fn=ignore_them,
    )


def processes_of(directory: Path) -> list[int]:
    """Nodes and reapers: their command lines name what is below the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if entry.name.isdigit() and os.fsencode(directory) in words:
            found.append(int(entry.name))
    return found


def until(condition: Callable[[], bool]) -> None:
    """pytest-timeout is the deadline."""
    while not condition():
        time.sleep(0.01)


def assert_nothing_is_left(directory: Path) -> None:
    until(lambda: not processes_of(directory) and not list(directory.iterdir()))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGHUP, signal.SIGINT])
def test_no_node_and_no_temporary_directory_outlives_dev_and_its_ports_are_free(
    tmp_path: Path, number: signal.Signals
) -> None:
    first = free_block(4)
    for _ in range(2):
        with start(tmp_path, first) as dev:
            read_until(dev, "Ctrl-C stops it.")
            assert len(processes_of(tmp_path)) == 3
            dev.send_signal(number)
            dev.communicate()
    assert_nothing_is_left(tmp_path)


def test_dev_killed_at_any_moment_of_its_start_leaves_no_node(tmp_path: Path) -> None:
    first = free_block(4)
    for _ in range(12):
        with start(tmp_path, first) as dev:
            until(lambda: bool(processes_of(tmp_path)))
            time.sleep(random.uniform(0.0, 0.4))
            dev.kill()
            dev.communicate()
        until(lambda: not processes_of(tmp_path))


def test_a_second_signal_does_not_wait_for_the_nodes(tmp_path: Path) -> None:
    first = free_block(4)
    with start(tmp_path, first) as dev:
        read_until(dev, "Ctrl-C stops it.")
        nodes = [pid for pid in processes_of(tmp_path) if is_node(pid)]
        for node in nodes:
            os.kill(node, signal.SIGSTOP)  # it stops at no signal but SIGKILL now
        dev.send_signal(signal.SIGINT)
        read_until(dev, "stopping ...")
        began = time.monotonic()
        dev.send_signal(signal.SIGINT)
        dev.communicate()
    assert time.monotonic() - began < 8.0
    assert dev.returncode == 0
    assert_nothing_is_left(tmp_path)


def is_node(pid: int) -> bool:
    """Whether the process is a `raftkv serve`. Paths in its command line may contain that word."""
    return b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_nodes_ignore_the_signals_that_dev_was_started_to_ignore(tmp_path: Path) -> None:
    first = free_block(4)
    ignored = (signal.SIGTERM, signal.SIGHUP)
    with start(tmp_path, first, ignore=ignored) as dev:
        read_until(dev, "Ctrl-C stops it.")
        for pid in [dev.pid, *processes_of(tmp_path)]:
            if pid == dev.pid or is_node(pid):
                for number in ignored:
                    os.kill(pid, number)
        dev.send_signal(signal.SIGINT)
        rest, _ = dev.communicate()
    assert dev.returncode == 0
    assert "ended" not in rest
    assert "killed" not in rest
    assert_nothing_is_left(tmp_path)

"""Commands that run until a signal ends them, or until the reader of their output is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.test_real_processes import ROOT, free_block, raftkv, read_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PYTHON = (sys.executable, "-m", "raftkv")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A cluster of one node."""
    first = free_block(2)
    ports = ("--client-port", str(first), "--peer-port", str(first + 1))
    with (
        tempfile.TemporaryFile() as unread,
        subprocess.Popen(
            [*PYTHON, "dev", "--temporary", "--nodes", "1", *ports],
            stdout=subprocess.PIPE,
            stderr=unread,
            text=True,
            cwd=ROOT,
        ) as dev,
    ):
        read_until(dev, "Ctrl-C stops it.")
        yield f"127.0.0.1:{first}"
        dev.send_signal(signal.SIGTERM)
        dev.communicate()


@contextmanager
def running(
    endpoint: str, *arguments: str, ignoring: tuple[signal.Signals, ...] = (), shell: str = '"$@"'
) -> Iterator[subprocess.Popen[str]]:
    """`shell` says how a shell runs it."""

    def ignore() -> None:
        for number in ignoring:
            signal.signal(number, signal.SIG_IGN)

    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *PYTHON, "-e", endpoint, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        preexec_fn=ignore,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def until(condition: Callable[[], bool]) -> None:
    """pytest-timeout is the deadline."""
    while not condition():
        time.sleep(0.05)


def count(endpoint: str, prefix: str) -> int:
    return int(raftkv("-e", endpoint, "range", "--prefix", prefix, "--count-only").stdout)


def test_a_benchmark_that_is_interrupted_reports_and_deletes_its_keys(endpoint: str) -> None:
    with running(endpoint, "bench", "--seconds", "600", shell='exec "$@"') as bench:
        until(lambda: count(endpoint, "raftkv-bench/") > 10)
        bench.send_signal(signal.SIGINT)
        said, _ = bench.communicate()
    assert bench.returncode == 130
    assert "per_second" in said
    assert count(endpoint, "raftkv-bench/") == 0


@pytest.mark.parametrize("command", [("lock", "unread"), ("elect", "unread", "me")])
def test_a_lock_is_not_held_if_its_token_can_not_be_printed(
    endpoint: str, command: tuple[str, ...]
) -> None:
    with running(endpoint, *command, shell='"$@" >/dev/full') as holding:
        said, _ = holding.communicate()
    assert (holding.returncode, "can't be written" in said) == (13, True)
    assert raftkv("-e", endpoint, "--timeout", "2", "lock", "unread", "--", "true").returncode == 0


def test_a_watch_ends_when_its_reader_has_ended(endpoint: str) -> None:
    shell = '"$@" | head -n 1; exit "${PIPESTATUS[0]}"'
    with running(endpoint, "watch", "w", shell=shell) as watch:

        def ended() -> bool:
            raftkv("-e", endpoint, "put", "w", "v")
            return watch.poll() is not None

        until(ended)
    assert watch.returncode == 141


def lease(endpoint: str) -> str:
    granted = raftkv("-e", endpoint, "lease", "grant", "600", "-o", "json").stdout
    return str(json.loads(granted)["lease"])


@pytest.mark.parametrize(
    "command",
    [
        ("lock", "n"),
        ("lock", "n", "--", "sh", "-c", "echo runs; sleep 600"),
        ("elect", "n", "me"),
        ("lease", "keep-alive", "LEASE"),
        ("status", "--watch"),
        ("watch", "w", "--revision", "1"),
    ],
)
def test_signals_that_were_ignored_at_the_start_end_nothing(
    endpoint: str, command: tuple[str, ...]
) -> None:
    raftkv("-e", endpoint, "put", "w", "v")
    words = [lease(endpoint) if word == "LEASE" else word for word in command]
    ignored = (signal.SIGINT, signal.SIGHUP)
    with running(endpoint, *words, ignoring=ignored, shell='exec "$@"') as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        for number in ignored:
            for each in (process.pid, *children(process.pid)):
                os.kill(each, number)
        raftkv("-e", endpoint, "put", "w", "v")  # time enough to end, if they were not ignored
        assert process.poll() is None
        assert all(Path(f"/proc/{child}/stat").exists() for child in children(process.pid))


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]

"""A node process forked from one that has imported what a node imports.

Two thirds of the CPU time from the start of `python -m raftkv serve` to its first leader are
imports, and these tests start some two hundred nodes. The rest is that of any process: its own
address space and files, signals, SIGKILL, an exit code. All nodes of a test run hash strings alike;
tests/jepsen_lite/test_real.py and tests/cli start theirs with Python, each with its own hash seed.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from raftkv.cli import main

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.cluster.node_imports", __name__])


def run(arguments: Sequence[str], environment: dict[str, str], log_path: Path) -> None:
    """In the new process: what `raftkv ARGUMENTS >> log_path 2>&1` does."""
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    for output in (1, 2):
        os.dup2(log, output)
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["raftkv", *arguments]
    main.main()


class ForkedNode:
    """A node process with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self, arguments: Sequence[str], environment: dict[str, str], log_path: Path
    ) -> None:
        log_path.touch()
        self._process = FORKS.Process(
            target=run, args=(arguments, environment, log_path), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        self._process.join(timeout_s)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("raftkv serve", timeout_s or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

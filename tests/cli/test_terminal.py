"""A closed terminal: a node outlives it, `raftkv dev` ends with it, under nohup both go on."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from raftkv import logs
from raftkv.cli.event_loop import Signals
from tests.cli.test_real_processes import free_block, raftkv

SIGHUP = signal.SIGHUP


@pytest.fixture
def ignoring_hangups() -> Iterator[None]:
    before = signal.signal(SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(SIGHUP, before)


@pytest.mark.usefixtures("ignoring_hangups")
async def test_a_signal_that_was_ignored_at_the_start_stays_ignored() -> None:
    with Signals((SIGHUP, signal.SIGUSR1)) as signals:
        come = asyncio.Event()
        signals.receiver = lambda _: come.set()
        os.kill(os.getpid(), SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
        await come.wait()
        assert signals.received is signal.SIGUSR1
    assert signal.getsignal(SIGHUP) is signal.SIG_IGN


def test_a_failing_log_stream_does_not_stop_a_node() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    try:
        logs.configure("console", "info", Gone())
        logs.get_logger().info("nobody_reads_this")
    finally:
        logs.configure("console", "info", sys.stderr)


class Terminal:
    """`raftkv` in a terminal of its own, until that is closed."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "raftkv", *arguments])

    def read_until(self, wanted: bytes) -> None:
        said = b""
        while wanted not in said:  # pytest-timeout is the deadline
            said += os.read(self._terminal, 4096)

    def close(self) -> None:
        os.close(self._terminal)

    def end(self) -> int:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.cluster
def test_a_node_outlives_its_terminal_and_its_files_are_private(tmp_path: Path) -> None:
    first = free_block(2)
    client, data = f"127.0.0.1:{first}", tmp_path / "data"
    terminal = Terminal(
        *("serve", "--data-dir", str(data), "--log-level", "debug", "--set", "http_listen=off"),
        *("--client-listen", client, "--peer-listen", f"127.0.0.1:{first + 1}"),
    )
    try:
        terminal.read_until(b"node_ready")
        terminal.close()
        assert raftkv("-e", client, "put", "hello", "world").returncode == 0
        assert raftkv("-e", client, "get", "hello").stdout == "world"
        for path in (data, *data.rglob("*")):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    finally:
        code = terminal.end()
    assert code == 0


@pytest.mark.cluster
def test_the_nodes_of_dev_end_with_its_terminal(tmp_path: Path) -> None:
    first = free_block(2)
    terminal = Terminal(
        *("dev", "--nodes", "1", "--data-dir", str(tmp_path)),
        *("--client-port", str(first), "--peer-port", str(first + 1)),
    )
    try:
        terminal.read_until(b"Ctrl-C stops it.")
        terminal.close()
    finally:
        os.waitpid(terminal.pid, 0)
    assert raftkv("-e", f"127.0.0.1:{first}", "--timeout", "1", "get", "a").returncode == 4

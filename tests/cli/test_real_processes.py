"""`raftkv dev` and the demonstration as a stranger runs them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PORTS = range(21_000, 29_000, 10)  # below those that the system gives to outgoing connections

pytestmark = pytest.mark.cluster


def free_block(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on."""
    for first in PORTS[os.getpid() % len(PORTS) :]:
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


def raftkv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "raftkv", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `raftkv dev` and the endpoints of its nodes."""
    first = free_block(6)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "raftkv", "dev", "--data-dir", str(tmp_path)),
            *("--client-port", str(first), "--peer-port", str(first + 3)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process, ",".join(f"127.0.0.1:{port}" for port in range(first, first + 3))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def read_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """Lines up to the one that has `wanted` in it. pytest-timeout is the deadline."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError("the process ended first:\n" + "".join(lines))


def test_dev_starts_a_cluster_that_answers_and_stops_on_ctrl_c(
    dev: tuple[subprocess.Popen[str], str],
) -> None:
    process, endpoints = dev
    said = read_until(process, "Ctrl-C stops it.")
    assert any(f"export RAFTKV_ENDPOINTS={endpoints}" in line for line in said)
    assert raftkv("-e", endpoints, "put", "hello", "world").returncode == 0
    assert raftkv("-e", endpoints, "get", "hello").stdout == "world"
    status = raftkv("-e", endpoints, "status").stdout.splitlines()
    roles = sorted(line.split("\t")[2] for line in status[1:])
    assert roles == ["follower", "follower", "leader"]
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "raftkv dev | stopped" in rest
    assert "killed" not in rest
    assert raftkv("-e", endpoints, "--timeout", "1", "get", "hello").returncode == 4


def test_dev_advises_no_removed_node_to_come_back(
    dev: tuple[subprocess.Popen[str], str],
) -> None:
    process, endpoints = dev
    read_until(process, "Ctrl-C stops it.")
    assert raftkv("-e", endpoints, "member", "remove", "3").returncode == 0
    ended = read_until(process, "node 3 | ended (exit code 0)")[-1]
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert "start it again" not in ended + rest


def test_two_of_dev_on_the_same_ports_do_not_mix(
    dev: tuple[subprocess.Popen[str], str],
) -> None:
    process, endpoints = dev
    read_until(process, "Ctrl-C stops it.")
    client_port = int(endpoints.split(",")[0].split(":")[1])
    ports = ("--client-port", str(client_port), "--peer-port", str(client_port + 3))
    second = raftkv("dev", "--temporary", *ports)
    assert (second.returncode, second.stdout) == (2, "")
    assert all(f":{port}" in second.stderr for port in range(client_port, client_port + 6))


def test_the_demonstration_loses_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/demo.py", "--keys", "1000"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"demo: OK, 1000 acknowledged, 0 lost, failover \d+\.\d+ s", last)

"""`raftkv dev`, the demonstration and `raftkv serve` as real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from raftkv.rpc.v1 import api_pb2, api_pb2_grpc
from raftkv.storage.identity import DirectoryIdentity, Stage

ROOT = Path(__file__).parent.parent.parent
PORTS = range(21_000, 29_000, 10)  # below those that the system gives to outgoing connections

pytestmark = pytest.mark.cluster


def free_block(count: int) -> int:
    """The first of `count` consecutive free ports."""
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


def test_dev_does_not_advise_to_restart_a_removed_node(
    dev: tuple[subprocess.Popen[str], str],
) -> None:
    process, endpoints = dev
    read_until(process, "Ctrl-C stops it.")
    assert raftkv("-e", endpoints, "member", "remove", "3").returncode == 0
    ended = read_until(process, "node 3 | ended (exit code 0)")[-1]
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert "start it again" not in ended + rest


def test_dev_on_ports_that_are_in_use_does_not_start() -> None:
    first = free_block(6)
    taken = range(first, first + 6)
    with ExitStack() as stack:
        for port in taken:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        ports = ("--client-port", str(first), "--peer-port", str(first + 3))
        ended = raftkv("dev", "--temporary", *ports)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert all(f":{port}" in ended.stderr for port in taken)


@pytest.mark.slow  # by default: tests/cluster/test_faults.py
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


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "raftkv", "serve", "--log-format", "json"),
            *("--set", "http_listen=off"),
            *arguments,
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def read_event(process: subprocess.Popen[str], event: str) -> str:
    """The first line of the log with this event in it. pytest-timeout is the deadline."""
    assert process.stderr is not None
    for line in process.stderr:
        if f'"{event}"' in line:
            return line
    raise AssertionError(f"{event} was not logged")


def not_serving_at(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        request = api_pb2.StatusRequest()
        reason: str = cluster.Status(request, timeout=30, wait_for_ready=True).not_serving
        return reason


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_waits_for_other_founders_stops_on_a_signal(
    tmp_path: Path, stop: signal.Signals
) -> None:
    first = free_block(6)
    members = ",".join(
        f"{id}=127.0.0.1:{first + id + 2}/127.0.0.1:{first + id - 1}" for id in (1, 2, 3)
    )
    with serving("--data-dir", str(tmp_path / "1"), "--initial-members", members) as process:
        assert '"missing": [2, 3]' in read_event(process, "founding_waits")
        reason = not_serving_at(f"127.0.0.1:{first}")
        assert "it waits until all first nodes of the cluster answer" in reason
        process.send_signal(stop)
        assert process.wait(timeout=30) == 0


def test_a_node_out_of_service_reports_the_reason_and_stops_on_a_signal(tmp_path: Path) -> None:
    first = free_block(2)
    identity = DirectoryIdentity(
        *(1, 1, 5, "raftkv", 7), stage=Stage.MEMBER, out_of_service="compare nodes 1 and 2"
    )
    (tmp_path / "identity.json").write_bytes(identity.encode())
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "CURRENT").touch()
    with serving(
        *("--data-dir", str(tmp_path), "--client-listen", f"127.0.0.1:{first}"),
        *("--peer-listen", f"127.0.0.1:{first + 1}"),
    ) as process:
        read_event(process, "out_of_service")
        assert "compare nodes 1 and 2" in not_serving_at(f"127.0.0.1:{first}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0

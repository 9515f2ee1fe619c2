"""What a node tells systemd, over a real datagram socket as systemd has one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jepsen_lite.ports import free_ports
from raftkv.cli.sd_notify import Notifier

PATIENCE_S = 60.0


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(address.replace("@", "\0", 1))
        manager.settimeout(PATIENCE_S)
        yield manager


def received(manager: socket.socket) -> dict[str, str]:
    lines = manager.recv(65_536).decode().split("\n")
    return dict(line.split("=", 1) for line in lines)


def received_until(manager: socket.socket, name: str) -> list[dict[str, str]]:
    messages = [received(manager)]
    while name not in messages[-1]:
        messages.append(received(manager))
    return messages


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "path":
        return str(tmp_path / "notify")
    return f"@raftkv-test-{os.getpid()}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    client, peer = free_ports(2)
    file = tmp_path / "raftkv.toml"
    file.write_text(
        f'client_listen = "127.0.0.1:{client}"\npeer_listen = "127.0.0.1:{peer}"\n'
        f'data_dir = "{tmp_path / "node"}"\ndisk_reserve_bytes = 0\nlog_format = "json"\n'
    )
    return file


@contextmanager
def serving(config: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAFTKV_")}
    with (config.parent / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "raftkv", "serve", "--config", str(config)],
            env=inherited | environment,
            stdout=log,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def logged(config: Path, wanted: str) -> str:
    """The log, once `wanted` is in it."""
    end = time.monotonic() + PATIENCE_S
    while wanted not in (log := (config.parent / "log").read_text()):
        assert time.monotonic() < end, log
        time.sleep(0.02)
    return log


def reloaded(config: Path) -> tuple[int, Any]:
    """The exit code of `raftkv config reload`, and its answer for the node."""
    endpoint = tomllib.loads(config.read_text())["client_listen"]
    command = [sys.executable, "-m", "raftkv", "-e", endpoint, "-o", "json", "config", "reload"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.returncode, json.loads(ran.stdout)[endpoint]


@pytest.mark.slow
def test_a_node_reports_its_start_its_state_its_life_and_its_end(
    address: str, config: Path
) -> None:
    with (
        listening(address) as manager,
        serving(config, NOTIFY_SOCKET=address, WATCHDOG_USEC="300000") as node,
    ):
        started = received_until(manager, "READY")
        assert started[0]["STATUS"] == "it starts"
        assert not any("STOPPING" in message for message in started)
        leads = received_until(manager, "STATUS")
        while "leader: node 1" not in leads[-1]["STATUS"]:
            leads = received_until(manager, "STATUS")
        assert leads[-1]["STATUS"].startswith("node 1, leader, leader: node 1, term ")
        for _ in range(3):
            assert received(manager).get("WATCHDOG") == "1"
        # A process that does not run gives no sign of life.
        node.send_signal(signal.SIGSTOP)
        manager.settimeout(0.3)
        with pytest.raises(TimeoutError):
            received_until(manager, "nothing more")
        manager.settimeout(PATIENCE_S)
        node.send_signal(signal.SIGCONT)
        received_until(manager, "WATCHDOG")
        node.send_signal(signal.SIGTERM)
        received_until(manager, "STOPPING")
        assert node.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_a_node_that_cannot_start_is_never_ready(tmp_path: Path, config: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "something else").touch()
    with (
        listening(str(tmp_path / "notify")) as manager,
        serving(config, NOTIFY_SOCKET=str(tmp_path / "notify")) as node,
    ):
        assert node.wait(PATIENCE_S) == 7
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            received_until(manager, "READY")


@pytest.mark.slow
def test_signals_reload_the_settings_and_dump_tasks_and_queues(config: Path) -> None:
    with serving(config) as node:
        logged(config, "node_ready")
        config.write_text(config.read_text() + 'watches_max = 7\ntick_ms=60\nlog_level="error"\n')
        node.send_signal(signal.SIGHUP)
        log = logged(config, "settings_reloaded")
        assert '"watches_max": "7"' in log
        assert '"needs_restart": ["tick_ms"]' in log
        node.send_signal(signal.SIGUSR1)
        dump = logged(config, '"event": "queues"')
        assert '"requests_in_flight": 0' in dump
        assert "serve.py" in dump
        assert "NodeProcess.wait_stopped" in dump
        config.write_text(config.read_text().replace("watches_max = 7", "watches_max = 8"))
        assert reloaded(config) == (
            0,
            {
                "changed": {"watches_max": {"before": "7", "after": "8"}},
                "needs_restart": {"tick_ms": {"before": "50", "after": "60"}},
            },
        )
        config.write_text(config.read_text().replace("tick_ms=60", "tick_ms=1"))
        code, answer = reloaded(config)
        assert (code, "tick_ms (from file" in answer["error"]) == (2, True)
        node.send_signal(signal.SIGHUP)
        logged(config, "settings_not_reloaded")
        assert node.poll() is None


async def test_a_loop_that_stands_still_gives_no_sign_of_life(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listening(address) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000"})
        running = asyncio.create_task(notifier.run(lambda: "a\nb"))
        await asyncio.sleep(0.05)
        assert received(manager) == {"WATCHDOG": "1", "STATUS": "a b"}
        assert received(manager) == {"WATCHDOG": "1"}
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            received_until(manager, "nothing more")
        time.sleep(0.1)  # noqa: ASYNC251 (the loop stands still)
        with pytest.raises(BlockingIOError):
            received(manager)
        running.cancel()


async def test_a_message_that_is_not_taken_is_sent_later(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000"})
    notifier.ready()
    with listening(address) as manager:
        running = asyncio.create_task(notifier.run(lambda: "up"))
        await asyncio.sleep(0.01)
        assert received(manager) == {"READY": "1", "WATCHDOG": "1", "STATUS": "up"}
        running.cancel()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "30000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "never"},
    ],
)
async def test_without_a_watchdog_there_are_no_signs_of_life(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    address = str(tmp_path / "notify")
    with listening(address) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": address, **environment})
        running = asyncio.create_task(notifier.run(lambda: "up"))
        await asyncio.sleep(0.05)
        assert received(manager) == {"STATUS": "up"}
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            received(manager)
        running.cancel()


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
async def test_without_a_unix_socket_nothing_is_sent(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000"})
    notifier.ready()
    await notifier.run(lambda: "up")

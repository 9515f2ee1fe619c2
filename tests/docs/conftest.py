"""A fresh `raftkv dev` for each document whose examples are run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jepsen_lite.ports import free_ports

READY_S_MAX = 30.0
NODES = 3


class DevCluster:
    """Three nodes in one `raftkv dev --temporary`, and a shell's environment to reach them."""

    def __init__(self, directory: Path) -> None:
        self.client_port, client_ports = ports_in_a_row(NODES)
        self.peer_port, peer_ports = ports_in_a_row(NODES)
        self.http_port, http_ports = ports_in_a_row(NODES)
        self._reserved = [*client_ports, *peer_ports, *http_ports]
        self.directory = directory / "work"
        self.directory.mkdir()
        self._log = directory / "dev.log"
        programs = directory / "bin"
        programs.mkdir()
        # `raftkv` in an example is this checkout's, whatever is installed.
        command = programs / "raftkv"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m raftkv "$@"\n')
        command.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")}
        root = Path(__file__).parents[2]
        self.environment = kept | {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{kept['PATH']}",
            "PYTHONPATH": f"{root}:{root / 'jepsen-lite'}",
            "RAFTKV_ENDPOINTS": self.endpoints,
            "DEV_LOG": str(self._log),
            "LC_ALL": "C.UTF-8",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoints(self) -> str:
        return ",".join(f"127.0.0.1:{self.client_port + number}" for number in range(NODES))

    def start(self) -> None:
        command = [sys.executable, "-m", "raftkv", "dev", "--temporary"]
        command += ["--client-port", str(self.client_port), "--peer-port", str(self.peer_port)]
        command += ["--http-port", str(self.http_port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment, cwd=self.directory
            )
        deadline = time.monotonic() + READY_S_MAX
        while "Ctrl-C stops it" not in self._log.read_text(errors="replace"):
            assert self._process.poll() is None, self._log.read_text(errors="replace")
            assert time.monotonic() < deadline, f"not ready within {READY_S_MAX} s"
            time.sleep(0.05)

    def stop(self) -> None:
        for reservation in self._reserved:
            reservation.close()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def with_own_addresses(self, source: str) -> str:
        """The example's text with the addresses of this cluster for the default ones."""
        for number in range(NODES):
            source = source.replace(f"127.0.0.1:{7411 + number}", self.endpoints.split(",")[number])
            source = source.replace(
                f"127.0.0.1:{7611 + number}", f"127.0.0.1:{self.http_port + number}"
            )
        return source


def ports_in_a_row(count: int) -> tuple[int, list[socket.socket]]:
    """The first of that many ports, and what reserves the others: see `jepsen_lite.ports`."""
    for _ in range(100):
        (first,) = free_ports(1)
        reserved: list[socket.socket] = []
        for port in range(first + 1, first + count):
            reservation = socket.socket(type=socket.SOCK_DGRAM)
            reserved.append(reservation)
            if not _is_free(port, reservation):
                break
        else:
            return first, reserved
        for reservation in reserved:
            reservation.close()
    raise AssertionError("no free ports in a row")


def _is_free(port: int, reservation: socket.socket) -> bool:
    try:
        reservation.bind(("127.0.0.1", port))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@pytest.fixture
def dev_cluster(tmp_path: Path) -> Iterator[DevCluster]:
    cluster = DevCluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()

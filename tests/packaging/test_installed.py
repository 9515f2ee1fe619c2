"""What `pip install` makes of the wheels, in environments that have nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_real_processes import free_block, read_until
from tests.packaging.conftest import ROOT, Built

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,  # pip installs from a package registry
    pytest.mark.timeout(600),
]

PIP_TIMEOUT_S = 400.0
COMMAND_TIMEOUT_S = 60.0
CLIENT_NEEDS = ("grpcio>=1.85,<2", "grpcio-status>=1.85,<2", "protobuf>=7.35,<8")
EXAMPLES = ("keys", "coordination", "synchronous", "errors")


class Environment:
    """A virtual environment without pip, and without anything of the caller's."""

    def __init__(self, directory: Path) -> None:
        venv.create(directory, with_pip=False)
        self.bin = directory / "bin"
        self._variables = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("RAFTKV_")
        }
        self._variables["PATH"] = f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def install(self, *arguments: str | Path) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--python", self.bin / "python", "install"),
                *("--quiet", "--disable-pip-version-check", *arguments),
            ],
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, command: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [self.bin / command, *arguments],
            cwd=self.bin,  # not where the checkout's packages would be found
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command: str | Path, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.bin / command, *arguments],
            cwd=self.bin,
            env=self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def distributions(self) -> set[str]:
        program = (
            "import importlib.metadata, json;"
            "print(json.dumps([d.name.lower() for d in importlib.metadata.distributions()]))"
        )
        return set(json.loads(self.run("python", "-c", program)))


def dev(environment: Environment, command: str | Path, *arguments: str) -> Iterator[str]:
    """A cluster of `raftkv dev`: where it listens. It has ended afterwards."""
    first = free_block(6)
    process = environment.start(
        *(command, *arguments, "dev", "--temporary"),
        *("--client-port", str(first), "--peer-port", str(first + 3)),
    )
    try:
        read_until(process, "Ctrl-C stops it.")
        yield ",".join(f"127.0.0.1:{port}" for port in range(first, first + 3))
        process.send_signal(signal.SIGINT)
        read_until(process, "stopped")
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_the_client_s_examples_run_with_three_dependencies(
    raftkv_built: Built, tmp_path: Path
) -> None:
    alone = Environment(tmp_path / "alone")
    alone.install("--no-deps", raftkv_built.wheel)
    alone.install(*CLIENT_NEEDS)
    assert not alone.distributions() & {"rocksdict", "typer", "rich", "structlog", "uvloop"}
    for name in EXAMPLES:
        shutil.copy(ROOT / "tests" / "examples" / f"{name}.py", tmp_path)
    caller = Environment(tmp_path / "caller")
    for endpoints in dev(caller, sys.executable, "-m", "raftkv"):
        for name in EXAMPLES:
            alone.run("python", "-W", "error", tmp_path / f"{name}.py", endpoints)
    alone.run("python", "-c", "import raftkv; [getattr(raftkv, name) for name in dir(raftkv)]")
    alone.run("python", "-c", "import raftkv.clocks.grpc_aio, raftkv.clocks.grpc_sync")


def test_the_installed_wheel_runs_a_cluster(raftkv_built: Built, tmp_path: Path) -> None:
    installed = Environment(tmp_path / "installed")
    installed.install(raftkv_built.wheel)
    assert not installed.distributions() & {"jinja2", "jepsen-lite", "pytest"}
    for endpoints in dev(installed, "raftkv"):
        assert "OK" in installed.run("raftkv", "-e", endpoints, "put", "hello", "world")
        assert installed.run("raftkv", "-e", endpoints, "get", "hello") == "world"


def test_the_installed_harness_finds_its_raftkv(
    raftkv_built: Built, jepsen_lite_built: Built, tmp_path: Path
) -> None:
    installed = Environment(tmp_path / "installed")
    installed.install(raftkv_built.wheel, jepsen_lite_built.wheel)
    said = installed.run("jepsen-lite", "sim", "--seeds", "1", "--store", tmp_path / "store")
    assert "all held" in said

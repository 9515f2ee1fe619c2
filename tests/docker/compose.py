"""The cluster of docker-compose.yml as a project of its own, with faults injected from outside."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import raftkv
from raftkv.client.client import Connecting
from tests.cluster.cluster import eventually

ROOT = Path(__file__).parents[2]
# What scripts/docker-base makes where no image registry is reachable.
LOCAL_BASE_IMAGE = "raftkv-base"
COMMAND_TIMEOUT_S = 600.0
PROFILES = ("--profile", "five", "--profile", "secure")
CLIENT_PORTS = {node_id: 7410 + node_id for node_id in range(1, 6)}


def why_not() -> str:
    """Why containers can't be started here; empty if they can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    ask = ["docker", "version", "--format", "{{.Server.Version}}"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False)
    if answer.returncode:
        return f"no Docker engine answers: {answer.stderr.strip()[-200:]}"
    return "" if _compose_command() else "there is neither docker-compose nor docker compose"


def _compose_command() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return [] if plugin.returncode else ["docker", "compose"]


def run(*command: str, environment: Mapping[str, str] = os.environ) -> str:
    """What the command prints; AssertionError with all it said if it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert not done.returncode, f"{' '.join(command)} ended with {done.returncode}:\n{said}"
    return done.stdout


def _environment() -> dict[str, str]:
    """The caller's, without settings of nodes; by default the local base image, if there is one."""
    chosen = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")}
    local = subprocess.run(
        ["docker", "image", "inspect", LOCAL_BASE_IMAGE], capture_output=True, check=False
    )
    if not local.returncode:
        chosen.setdefault("BASE_IMAGE", LOCAL_BASE_IMAGE)
    return chosen


class ComposeCluster:
    """Containers, network and volumes that no other project has; `down` leaves nothing of them."""

    def __init__(self, project: str) -> None:
        self.project = project
        self._compose = [*_compose_command(), "--project-name", project]
        self._environment = _environment()

    def compose(self, *arguments: str) -> str:
        return run(*self._compose, *arguments, environment=self._environment)

    def build(self) -> None:
        self.compose("build")

    def up(self, *options: str) -> None:
        """Start three nodes, or with `--profile five` as many, without waiting for them."""
        self.compose(*options, "up", "--detach", "--no-build")

    def up_secure(self) -> None:
        """Start the nodes of the profile `secure`, and wait until authentication is enabled."""
        self.compose("--profile", "secure", "up", "--detach", "--no-build", "secure")
        ended = run("docker", "wait", self._containers()["secure"])
        assert ended.strip() == "0", self.logs()

    def exec(self, service: str, *command: str, **environment: str) -> str:
        """What the command prints in the container of the service."""
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        return self.compose("exec", "-T", *variables, service, *command)

    def down(self) -> None:
        self.compose(*PROFILES, "down", "--volumes", "--remove-orphans", "--timeout", "5")

    def node_ids(self) -> list[int]:
        """The nodes that have a container, running or not."""
        return sorted(
            int(service.removeprefix("node"))
            for service in self._containers()
            if service.startswith("node")
        )

    def container(self, node_id: int) -> str:
        return self._containers()[f"node{node_id}"]

    def _containers(self) -> dict[str, str]:
        labels = "com.docker.compose"
        listed = run(
            *("docker", "ps", "--all", "--filter", f"label={labels}.project={self.project}"),
            *("--format", f'{{{{.Label "{labels}.service"}}}} {{{{.ID}}}}'),
        )
        return dict(line.split() for line in listed.splitlines())

    def inspect(self, node_id: int) -> Any:
        """All that the engine knows of the node's container."""
        return self.inspect_service(f"node{node_id}")

    def inspect_service(self, service: str) -> Any:
        """All that the engine knows of the service's container."""
        (known,) = json.loads(run("docker", "inspect", self._containers()[service]))
        return known

    def volumes(self) -> list[str]:
        """The volumes of the project."""
        project = f"label=com.docker.compose.project={self.project}"
        return run("docker", "volume", "ls", "--quiet", "--filter", project).split()

    def client(self, *node_ids: int) -> Connecting:
        """A client on this machine that was given these nodes (default: all)."""
        chosen = node_ids or self.node_ids()
        return raftkv.connect(",".join(f"127.0.0.1:{CLIENT_PORTS[node]}" for node in chosen))

    # A command takes up to seconds, in which the test's clients must go on: so it has a thread.

    async def stop(self, node_id: int) -> None:
        """SIGTERM, and wait for the end of the container."""
        await asyncio.to_thread(run, "docker", "stop", self.container(node_id))

    async def kill(self, node_id: int) -> None:
        """SIGKILL as an operator does it, which Docker takes for "and let it lie"."""
        await asyncio.to_thread(run, "docker", "kill", self.container(node_id))

    async def start(self, node_id: int) -> None:
        await asyncio.to_thread(run, "docker", "start", self.container(node_id))

    async def crash(self, node_id: int) -> None:
        """SIGKILL from inside, as a process that dies by itself."""
        command = ["docker", "exec", self.container(node_id), "sh", "-c", "kill -9 -1"]
        await asyncio.to_thread(subprocess.run, command, capture_output=True)

    async def cut_off(self, node_id: int) -> None:
        """Take the network away from the container, which runs on."""
        network = f"{self.project}_default"
        cut = ("docker", "network", "disconnect", network, self.container(node_id))
        await asyncio.to_thread(run, *cut)

    async def connect(self, node_id: int) -> None:
        """Undo `cut_off`; the container may get another address."""
        alias = ("--alias", f"node{node_id}", f"{self.project}_default")
        mend = ("docker", "network", "connect", *alias, self.container(node_id))
        await asyncio.to_thread(run, *mend)

    async def leader(self) -> int:
        """Who leads, once a majority of the nodes agrees."""
        found = 0

        async def agreed() -> bool:
            nonlocal found
            said = [status.leader_id for status in await self._statuses()]
            found = max(said, key=said.count, default=0)
            return bool(found) and said.count(found) > len(self.node_ids()) // 2

        await eventually(agreed, "a majority knows one leader")
        return found

    async def _statuses(self) -> list[raftkv.NodeStatus]:
        async with self.client() as client:
            answers = await client.status_all(timeout=1.0)
        return [each for each in answers.values() if isinstance(each, raftkv.NodeStatus)]

    async def ready(self, *node_ids: int) -> None:
        """Wait until each of the nodes (default: all) serves a linearizable read by itself."""
        for node_id in node_ids or self.node_ids():
            await self._ready(node_id)

    async def _ready(self, node_id: int) -> None:
        async def serves() -> bool:
            try:
                async with self.client(node_id) as client:
                    await client.get("ready?", timeout=2.0)
            except raftkv.RaftkvError:
                return False
            return True

        try:
            await eventually(serves, f"node {node_id} serves")
        except AssertionError as error:
            error.add_note(self.logs())
            raise

    def logs(self) -> str:
        """The last lines of every container."""
        return self.compose(*PROFILES, "logs", "--no-color", "--tail", "20")

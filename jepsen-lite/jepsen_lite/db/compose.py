"""The cluster of docker-compose.yml: its containers can be killed, paused and cut off as well."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from jepsen_lite.db.base import DatabaseFailed, NoEffect, do_all
from jepsen_lite.db.existing_cluster import ExistingCluster
from jepsen_lite.db.network import Pair
from jepsen_lite.db.processes import output_of, output_of_now
from jepsen_lite.db.raftkv_operator import ASK_TIMEOUT_S, number_of
from raftkv.errors import RaftkvError

SERVICE = "com.docker.compose.service"
PORT = "7411/tcp"
FIRST_HOST_PORT = 7411
START_TRIES, START_AGAIN_S = 5, 1.0
PROFILES = {3: "docker-compose up -d --build", 5: "docker-compose --profile five up -d --build"}
"""What starts a cluster of so many nodes; docker-compose.yml has no other sizes."""


class ComposeCluster(ExistingCluster):
    """Nodes named node-1, node-2, ...: the services node1, node2, ..."""

    name = "compose"

    def __init__(self, size: int) -> None:
        super().__init__([f"127.0.0.1:{_host_port(number)}" for number in range(1, size + 1)])
        self._containers: dict[str, Container] = {}

    async def start(self) -> None:
        await super().start()
        for node in self.nodes:
            found = await asyncio.to_thread(find, number_of(node))
            self.machines[node] = self._containers[node] = Container(node, found)

    async def stop(self) -> None:
        await do_all(
            [
                *(
                    step
                    for each in self._containers.values()
                    for step in (each.resume, each.start, each.connect)
                ),
                super().stop,
            ]
        )

    async def cut(self, pairs: Collection[Pair]) -> Callable[[], Awaitable[str]]:
        """Take the fewest nodes off their network that cut all these ways.

        They lose every other way too: Docker has no halves, no bridges and no one-way cuts.
        """
        off = [self._containers[node] for node in fewest_ends(pairs, self.nodes)]
        running = [container for container in off if container.running]
        if not running:
            raise NoEffect(f"{', '.join(each.name for each in off)} did not run")
        for container in running:
            await container.disconnect()

        async def mend() -> str:
            names = ", ".join(container.name for container in running)
            answered = [each.name for each in running if await self._answers(each.name)]
            for container in running:
                await container.connect()
            if len(answered) == len(running):
                raise NoEffect(f"{names} answered nevertheless")
            return f"{names} had no network, and did not answer"

        return mend

    async def _answers(self, node: str) -> bool:
        try:
            operator = await self.operator()
            await operator.status(self.direct_address(node), timeout=ASK_TIMEOUT_S)
        except RaftkvError:
            return False
        return True


def fewest_ends(pairs: Collection[Pair], nodes: Collection[str]) -> tuple[str, ...]:
    """The fewest nodes of which each of the ways has one as an end."""
    for count in range(len(nodes) + 1):
        for chosen in itertools.combinations(nodes, count):
            if all(one in chosen or other in chosen for one, other in pairs):
                return chosen
    raise NoEffect("not all of these ways have a node as an end")


@dataclass(frozen=True, slots=True)
class Found:
    """A container's state in the engine; `networks` maps its networks to its aliases there."""

    name: str
    status: str
    networks: dict[str, list[str]]

    @classmethod
    def of(cls, known: Any) -> Found:
        short = known["Id"][:12]
        networks = {
            name: [alias for alias in network["Aliases"] or () if alias != short]
            for name, network in known["NetworkSettings"]["Networks"].items()
        }
        return cls(known["Name"].removeprefix("/"), known["State"]["Status"], networks)


def find(number: int) -> Found:
    """The container of a node. Raises `DatabaseFailed` if there is none, with what to do."""
    service = f"node{number}"
    listed = output_of_now(
        "docker", "ps", "--all", "--quiet", f"--filter=label={SERVICE}={service}"
    )
    known = json.loads(output_of_now("docker", "inspect", *listed.split())) if listed else []
    # Other projects may have services of that name, but only one can have the port.
    found = [Found.of(each) for each in known if _published(each) == str(_host_port(number))]
    if not found:
        raise DatabaseFailed(f"no container of {service} is at 127.0.0.1:{_host_port(number)}")
    return min(found, key=lambda each: each.status not in ("running", "paused"))


def why_not(size: int) -> str:
    """Why no cluster of so many containers can be tested here, with what to do; "" if one can."""
    if not shutil.which("docker"):
        return "Docker is not installed; apt-get install docker.io docker-compose"
    try:
        output_of_now("docker", "version")
    except DatabaseFailed as error:
        return f"Docker does not answer: {error}; start it, or join the group that may use it"
    if size not in PROFILES:
        return f"docker-compose.yml has 3 or 5 nodes, not {size}; choose one with --nodes"
    unfit, absent = [], []
    for number in range(1, size + 1):
        try:
            unfit += _troubles(find(number))
        except DatabaseFailed as error:
            absent.append(str(error))
    start = [f"start the cluster, in raftkv's directory: {PROFILES[size]}"] if absent else []
    return "; ".join(unfit + absent + start)


def _troubles(found: Found) -> list[str]:
    if found.status == "paused":
        return [f"{found.name} is paused; docker unpause {found.name}"]
    if found.status != "running":
        return [f"{found.name} does not run; docker start {found.name}"]
    if not found.networks:
        return [f"{found.name} has no network; docker-compose up -d --force-recreate"]
    return []


def _host_port(number: int) -> int:
    return FIRST_HOST_PORT + number - 1


def _published(known: Any) -> str:
    places = (known["HostConfig"]["PortBindings"] or {}).get(PORT) or [{"HostPort": ""}]
    port: str = places[0]["HostPort"]
    return port


class Container:
    """A node in a container. One thing at a time is done to it."""

    def __init__(self, name: str, found: Found) -> None:
        self.name = name
        self.running = True
        self._container = found.name
        self._networks = found.networks
        self._paused = False
        self._cut_off = False
        self._turn = asyncio.Lock()

    async def start(self) -> bool:
        async with self._turn:
            if self.running:
                return False
            await self._start()
            self.running = True
            if self._cut_off:
                await self._leave()  # Docker may have given it a network to start with
            return True

    async def _start(self) -> None:
        """Now and then its port is still in use shortly after its end."""
        for _ in range(START_TRIES):
            with contextlib.suppress(DatabaseFailed):
                await output_of("docker", "start", self._container)
                return
            await asyncio.sleep(START_AGAIN_S)
        await output_of("docker", "start", self._container)

    async def stop(self) -> bool:
        async with self._turn:
            await output_of("docker", "stop", self._container)
            ran, self.running = self.running, False
            return ran

    async def kill(self) -> bool:
        async with self._turn:
            ran, self.running = self.running, False
            if ran:
                await self._resume()
                await output_of("docker", "kill", self._container)
            return ran

    async def pause(self) -> bool:
        async with self._turn:
            if not self.running or self._paused:
                return False
            self._paused = True  # also if we are interrupted now
            try:
                await output_of("docker", "pause", self._container)
            except DatabaseFailed:
                self._paused = False
                raise
            return True

    async def resume(self) -> None:
        async with self._turn:
            await self._resume()

    async def _resume(self) -> None:
        if self._paused:
            await output_of("docker", "unpause", self._container)
        self._paused = False

    async def disconnect(self) -> None:
        """Take its network away; it runs on."""
        async with self._turn:
            self._cut_off = True
            await self._leave()

    async def _leave(self) -> None:
        for network in await self._joined():
            await output_of("docker", "network", "disconnect", network, self._container)

    async def connect(self) -> None:
        """Undo `disconnect`; it may get another address, its names are the same."""
        async with self._turn:
            if not self._cut_off:
                return
            await self._leave()  # what Docker may have given it has none of its names
            for network, aliases in self._networks.items():
                names = [f"--alias={alias}" for alias in aliases]
                await output_of("docker", "network", "connect", *names, network, self._container)
            self._cut_off = False

    async def _joined(self) -> list[str]:
        (known,) = json.loads(await output_of("docker", "inspect", self._container))
        return list(Found.of(known).networks)

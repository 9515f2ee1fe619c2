"""A raftkv cluster that somebody else runs: its endpoints are all that is known of it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping, Sequence

import raftkv
from jepsen_lite.systems.base import SystemFailed
from jepsen_lite.systems.network import CLIENTS
from jepsen_lite.systems.processes import free_ports
from jepsen_lite.systems.proxy import Proxy
from jepsen_lite.systems.raftkv_operator import ASK_TIMEOUT_S, Operated
from raftkv.client.client import Client
from raftkv.client.settings import ClientSettings
from raftkv.client.status import NodeStatus
from raftkv.errors import RaftkvError

DOCKER_TIMEOUT_S = 60.0


class Existing(Operated):
    """Clients reach its nodes through proxies; nothing else can be broken, or is."""

    name = "existing"

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__()
        self._endpoints = list(endpoints)
        self._back_doors: dict[str, str] = {}
        self._versions: set[str] = set()
        self._front_doors: dict[str, str] = {}
        self._proxies: list[Proxy] = []

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self._back_doors)

    def back_door(self, node: str) -> str:
        return self._back_doors[node]

    async def start(self) -> None:
        """Find out which node is where. Raises `SystemFailed` if one does not answer."""
        settings = ClientSettings(follow_members=False)
        try:
            async with raftkv.connect(self._endpoints, settings=settings) as client:
                for endpoint in self._endpoints:
                    status = await client.status(endpoint, timeout=ASK_TIMEOUT_S)
                    await self._meet(endpoint, status)
        except RaftkvError as error:
            raise SystemFailed(f"the cluster can't be used: {error}") from error

    async def _meet(self, endpoint: str, status: NodeStatus) -> None:
        name = f"node-{status.node_id}"
        self._versions.add(status.version)
        self._back_doors[name] = endpoint
        (port,) = free_ports(1)
        host, _, target = endpoint.rpartition(":")
        address = (host.strip("[]"), int(target))
        proxy = Proxy(name, port, address, self.network, lambda _: CLIENTS, both_ways=False)
        self._front_doors[name] = f"127.0.0.1:{port}"
        self._proxies.append(proxy)
        await proxy.start()

    async def stop(self) -> None:
        await self.forget_operator()
        await asyncio.gather(*(proxy.stop() for proxy in self._proxies))

    async def connect(self, node: str = "") -> Client:
        # The members' own addresses would lead past the proxies.
        settings = ClientSettings(follow_members=False)
        chosen = [node] if node else self.nodes
        return await raftkv.connect([self._front_doors[name] for name in chosen], settings=settings)

    def versions(self) -> Mapping[str, str]:
        return {"raftkv": ", ".join(sorted(self._versions)) or raftkv.__version__}


class Compose(Existing):
    """The cluster of docker-compose.yml: its containers can be killed and paused as well."""

    name = "compose"

    def __init__(self, size: int) -> None:
        super().__init__([f"127.0.0.1:{7410 + number}" for number in range(1, size + 1)])

    async def start(self) -> None:
        await super().start()
        for node in self.nodes:
            service = node.replace("-", "")
            found = await _docker(
                "ps", "-q", "--filter", f"label=com.docker.compose.service={service}"
            )
            if not found:
                raise SystemFailed(f"no container of the service {service} runs; docker-compose up")
            self.machines[node] = Container(node, found.split()[0])

    async def stop(self) -> None:
        for machine in self.machines.values():
            await machine.resume()
            await machine.start()
        await super().stop()


class Container:
    """A node in a container."""

    def __init__(self, name: str, container: str) -> None:
        self.name = name
        self.running = True
        self._container = container
        self._paused = False

    async def start(self) -> bool:
        began, self.running = not self.running, True
        await _docker("start", self._container)
        return began

    async def stop(self) -> bool:
        await _docker("stop", self._container)
        ran, self.running = self.running, False
        return ran

    async def kill(self) -> bool:
        if self.running:
            await self.resume()
            await _docker("kill", self._container)
        ran, self.running = self.running, False
        return ran

    async def pause(self) -> bool:
        if not self.running or self._paused:
            return False
        await _docker("pause", self._container)
        self._paused = True
        return True

    async def resume(self) -> None:
        if self._paused:
            await _docker("unpause", self._container)
        self._paused = False


async def _docker(*arguments: str) -> str:
    """Raises `SystemFailed` if Docker refuses."""
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, complaint = await asyncio.wait_for(process.communicate(), DOCKER_TIMEOUT_S)
    if process.returncode:
        raise SystemFailed(f"docker {' '.join(arguments)}: {complaint.decode().strip()}")
    return said.decode().strip()

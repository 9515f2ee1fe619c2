"""Clusters of processes on this machine's loopback, with every connection through a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from jepsen_lite.db.base import Database, DatabaseFailed, do_all
from jepsen_lite.db.network import CLIENTS
from jepsen_lite.db.processes import OF_ITS_OWN, Server
from jepsen_lite.db.proxy import Proxy, owner_of
from jepsen_lite.ports import free_ports

START_TIMEOUT_S = 60.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Addresses:
    """HOST:PORT where a node listens, and where it is known to be: at its proxies, if it has any.

    `direct_address`: where the harness itself reaches it, past the faults of the network.
    """

    client_listen: str
    client: str
    peer_listen: str
    peer: str
    direct_address: str


def split(address: str) -> tuple[str, int]:
    """Host and port."""
    host, _, port = address.rpartition(":")
    return host, int(port)


class LocalCluster(Database):
    """Servers with their proxies. Subclasses define the command of each server."""

    peers_dial_both_ways = False
    """See `Proxy`: whether a connection between peers carries messages of its dialler only."""
    one_port = False
    """Whether a server listens to clients and peers on the same port."""
    bad_disk_codes: Container[int] = OF_ITS_OWN
    """What a server ends with that gives up because of its disk."""

    def __init__(self, directory: Path, logs: Path) -> None:
        super().__init__()
        self.servers: dict[str, Server] = {}
        self.addresses: dict[str, Addresses] = {}
        self.directory = directory
        self.logs = logs
        self._retired: list[Server] = []
        self._proxies: list[Proxy] = []
        self._outfits: list[Callable[[Server], None]] = []
        self._at_end: list[Callable[[], object]] = []

    def pids(self) -> dict[str, int]:
        return {name: server.pid for name, server in self.servers.items() if server.running}

    def endpoint(self, node: str) -> str:
        """Where clients reach the node: its proxy."""
        return self.addresses[node].client

    def direct_address(self, node: str) -> str:
        """Where the harness itself reaches the node, past the faults of the network."""
        return self.addresses[node].direct_address

    def new_addresses(self, name: str) -> Addresses:
        """For a node that is to be."""
        listen, client, peer_listen, peer = (f"127.0.0.1:{port}" for port in free_ports(4))
        return Addresses(
            listen, client, listen if self.one_port else peer_listen, peer, direct_address=listen
        )

    def add_server(self, name: str, command: list[str]) -> Server:
        """A server for a node whose addresses are known already."""
        directory = self.directory / name
        server = Server(name, command, directory, self.logs / f"{name}.log")
        for outfit in self._outfits:
            outfit(server)
        self.servers[name] = self.machines[name] = server
        return server

    def retire(self, name: str) -> None:
        """The node belongs to the cluster no more; how it ended is not forgotten."""
        del self.machines[name]
        self._retired.append(self.servers.pop(name))

    def died(self) -> list[str]:
        return [
            f"{server.name} ended by itself with {end}"
            for server in (*self.servers.values(), *self._retired)
            for end in server.ends()
            if not end.excused
        ]

    def equip(self, outfit: Callable[[Server], None]) -> None:
        """Change how servers will be started: those there are, and those to come."""
        self._outfits.append(outfit)
        for server in self.servers.values():
            outfit(server)

    def at_end(self, tidy: Callable[[], object]) -> None:
        """Call this when all servers have ended."""
        self._at_end.append(tidy)

    async def join_network(self, name: str) -> None:
        """Let others reach the node: through proxies."""
        addresses = self.addresses[name]
        of_peers = Proxy(
            name,
            split(addresses.peer)[1],
            split(addresses.peer_listen),
            self.network,
            lambda port: owner_of(port, self.pids()),
            both_ways=not self.peers_dial_both_ways,
        )
        of_clients = Proxy(
            name,
            split(addresses.client)[1],
            split(addresses.client_listen),
            self.network,
            lambda _: CLIENTS,
            both_ways=False,
        )
        for proxy in (of_peers, of_clients):
            self._proxies.append(proxy)
            await proxy.start()

    async def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        for name in self.nodes:
            await self.join_network(name)
        for server in self.servers.values():
            await server.start()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + START_TIMEOUT_S
        while missing := await self.not_ready():
            if loop.time() > until_s:
                raise DatabaseFailed(
                    f"not every node serves after {START_TIMEOUT_S} s: "
                    + "; ".join(f"{name}: {why}" for name, why in missing.items())
                    + f"; their logs are in {self.logs}"
                )
            for server in self.servers.values():
                if not server.running:
                    raise DatabaseFailed(
                        f"{server.name} ended with code {server.exit_code}: "
                        f"{server.log()[-1000:].strip()}"
                    )
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        servers = (*self.servers.values(), *self._retired)
        await do_all(
            [
                *(server.kill for server in servers),
                *(proxy.stop for proxy in self._proxies),
                *reversed(self._at_end),
            ]
        )

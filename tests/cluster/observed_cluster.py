"""A cluster of real nodes with HTTP ports."""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection
from pathlib import Path

from jepsen_lite.ports import free_ports
from tests.cluster.cluster import Cluster, eventually


class ObservedCluster(Cluster):
    """Three nodes with HTTP ports."""

    def __init__(self, base: Path) -> None:
        super().__init__(base, 3)
        self.http_ports = dict(zip(self.nodes, free_ports(3), strict=True))

    def start(self, node_id: int) -> None:
        self.nodes[node_id].start(
            *("--initial-members", self.initial_members),
            *("--set", f"http_listen=127.0.0.1:{self.http_ports[node_id]}"),
        )

    async def ask(self, node_id: int, path: str) -> tuple[int, str]:
        def exchange() -> tuple[int, str]:
            connection = HTTPConnection("127.0.0.1", self.http_ports[node_id], timeout=30)
            try:
                connection.request("GET", path)
                reply = connection.getresponse()
                return reply.status, reply.read().decode()
            finally:
                connection.close()

        return await asyncio.to_thread(exchange)

    async def answers(self, node_id: int, path: str, status: int, *parts: str) -> None:
        """Wait until this node answers so."""

        async def answered() -> bool:
            try:
                found, text = await self.ask(node_id, path)
            except ConnectionError:  # it is starting
                return False
            return found == status and all(part in text for part in parts)

        await eventually(answered, f"node {node_id} answers {path} with {status}, {parts}")

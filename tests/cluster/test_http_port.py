"""The HTTP ports of a real cluster, with and without its majority."""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection
from pathlib import Path

import pytest

from jepsen_lite.ports import free_ports
from tests.cluster.cluster import Cluster, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


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


async def test_a_node_without_its_majority_is_alive_and_not_ready(tmp_path: Path) -> None:
    async with ObservedCluster(tmp_path) as cluster:
        leader = await cluster.leader()
        peers = sorted(cluster.nodes.keys() - {leader})
        async with cluster.client() as client:
            await client.put("key", "value")
        for node_id in cluster.nodes:
            await cluster.answers(node_id, "/readyz", 200)
        await cluster.answers(
            *(leader, "/metrics", 200, "raftkv_raft_is_leader 1.0"),
            *(f'raftkv_raft_peer_lag_entries{{peer="{peer}"}} 0.0' for peer in peers),
            *(f'raftkv_raft_peer_reachable{{peer="{peer}"}} 1.0' for peer in peers),
            *('method="Pipeline/commands",outcome="OK"', "raftkv_raft_leader_changes_total 1.0"),
        )
        await cluster.answers(peers[0], "/metrics", 200, "raftkv_raft_is_leader 0.0")

        for peer in peers:
            cluster.nodes[peer].kill()
        await cluster.answers(leader, "/readyz", 503, "[-] leader: ")
        await cluster.answers(leader, "/readyz?local", 200)
        await cluster.answers(leader, "/livez", 200)
        await cluster.answers(leader, "/metrics", 200, "raftkv_ready 0.0")
        for peer in peers:
            cluster.start(peer)
        for node_id in cluster.nodes:
            await cluster.answers(node_id, "/readyz", 200)

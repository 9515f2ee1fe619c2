"""The HTTP ports of a real cluster, and what a real Prometheus makes of them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import pytest

from jepsen_lite.ports import free_ports
from tests.cluster.cluster import eventually
from tests.cluster.observed_cluster import ObservedCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "raftkv.rules.yml"


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


class Prometheus:
    """A Prometheus that scrapes these ports each second, with the rules' waits cut to 2 s."""

    def __init__(self, base: Path, ports: list[int]) -> None:
        self._port = free_ports(1)[0]
        base.mkdir()
        rules = re.sub(r"for: \w+", "for: 2s", RULES.read_text())
        (base / "raftkv.rules.yml").write_text(rules)
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        (base / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            "rule_files: [raftkv.rules.yml]\n"
            "scrape_configs:\n"
            "  - job_name: raftkv\n"
            f"    static_configs: [{{targets: [{targets}], labels: {{cluster: raftkv}}}}]\n"
        )
        self._base = base

    @contextmanager
    def running(self) -> Iterator[None]:
        command = [
            "prometheus",
            f"--config.file={self._base / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._base / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        with (self._base / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)

    async def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = (await self._data("/api/v1/alerts"))["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    async def fires(self, *alerts: str) -> None:
        """Wait until exactly these alerts fire."""

        async def exactly() -> bool:
            try:
                return await self.firing() == set(alerts)
            except ConnectionError:  # it is starting
                return False

        await eventually(exactly, f"{alerts} fire", 60)

    async def scraped(self, count: int) -> None:
        """Wait until that many nodes have been scraped for longer than an alert waits."""
        query = "/api/v1/query?query=sum(count_over_time(raftkv_ready%5B1h%5D))"

        async def enough() -> bool:
            try:
                result = (await self._data(query))["result"]
            except ConnectionError:
                return False
            return bool(result) and int(result[0]["value"][1]) >= 5 * count

        await eventually(enough, "the nodes are scraped", 60)

    async def _data(self, path: str) -> dict[str, list[dict[str, dict[str, str]]]]:
        def exchange() -> bytes:
            connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request("GET", path)
                reply = connection.getresponse()
                if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
                    raise ConnectionError("it is starting")
                return reply.read()
            finally:
                connection.close()

        found: dict[str, dict[str, list[dict[str, dict[str, str]]]]]
        found = json.loads(await asyncio.to_thread(exchange))
        return found.get("data") or {"alerts": [], "result": []}


@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is missing: apt-get install prometheus"
)
async def test_a_real_prometheus_raises_the_alerts_of_lost_nodes_and_no_others(
    tmp_path: Path,
) -> None:
    async with ObservedCluster(tmp_path) as cluster:
        leader = await cluster.leader()
        first, second = (node_id for node_id in cluster.nodes if node_id != leader)
        prometheus = Prometheus(tmp_path / "prometheus", list(cluster.http_ports.values()))
        with prometheus.running():
            await prometheus.scraped(3)
            assert await prometheus.firing() == set()

            cluster.nodes[first].kill()
            await prometheus.fires("RaftkvNodeDown", "RaftkvMemberUnreachable")
            cluster.nodes[second].kill()
            await prometheus.fires("RaftkvNodeDown", "RaftkvNoLeader", "RaftkvNotReady")

            cluster.start(first)
            cluster.start(second)
            await prometheus.fires()

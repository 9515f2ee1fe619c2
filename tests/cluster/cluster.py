"""Clusters of real `raftkv serve` processes that tests kill, pause, partition and restart."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import raftkv
from jepsen_lite.ports import free_ports
from tests.cluster.forked_node import ForkedNode
from tests.cluster.proxy import Network, PeerProxy


async def eventually(
    condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 30.0
) -> None:
    """Wait for a condition, never for a number of seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not await condition():
        assert loop.time() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)


class NodeProcess:
    """One `raftkv serve` process and its data directory.

    `program`: what Python runs instead of `raftkv`. `knows_http_port`: whether it is of a version
    with the setting `http_listen`.
    """

    def __init__(
        self, node_id: int, directory: Path, client_port: int, peer_port: int, listen_port: int
    ) -> None:
        self.node_id = node_id
        self.directory = directory
        self.client_address = f"127.0.0.1:{client_port}"
        self.peer_address = f"127.0.0.1:{peer_port}"
        self._peer_listen = f"127.0.0.1:{listen_port}"
        self.log_path = directory.with_suffix(".log")
        self.process: ForkedNode | subprocess.Popen[bytes] | None = None
        self.program: Sequence[str] = ()
        self.knows_http_port = True

    @property
    def data_dir(self) -> Path:
        return self.directory

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def move(self, client_port: int, peer_port: int) -> None:
        """From its next start on it listens elsewhere."""
        self.client_address = f"127.0.0.1:{client_port}"
        self.peer_address = self._peer_listen = f"127.0.0.1:{peer_port}"

    def start(self, *arguments: str) -> None:
        assert not self.running
        command = [
            "serve",
            *("--node-id", str(self.node_id)),
            *("--data-dir", str(self.directory)),
            *("--client-listen", self.client_address),
            *("--peer-listen", self._peer_listen),
            *("--peer-advertise", self.peer_address),
            *("--log-format", "json"),
            *("--set", "disk_reserve_bytes=0"),
            *(("--set", "http_listen=off") if self.knows_http_port else ()),
            *arguments,
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAFTKV_")}
        if not self.program:
            self.process = ForkedNode(command, environment, self.log_path)
            return
        command = [sys.executable, *self.program, *command]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=environment)

    def send(self, signal_number: int) -> None:
        assert self.process is not None
        self.process.send_signal(signal_number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.running:
            self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def wait(self, timeout_s: float = 30.0) -> int:
        """The exit code, once the process has ended by itself."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


class Cluster:
    """Nodes 1..n; with `proxied` the peers talk through proxies that can be cut."""

    def __init__(self, base: Path, size: int, *, proxied: bool = False, settings: str = "") -> None:
        self.base = base
        self.settings = settings.split()
        self.network = Network()
        self.nodes: dict[int, NodeProcess] = {}
        self._clones: list[NodeProcess] = []
        self._proxies: list[PeerProxy] = []
        self._proxied = proxied
        for node_id in range(1, size + 1):
            self.make_node(node_id)
        self.initial_members = self._list()

    def _list(self) -> str:
        return ",".join(
            f"{node.node_id}={node.peer_address}/{node.client_address}"
            for node in self.nodes.values()
        )

    def move(self, *node_ids: int) -> None:
        """Give these nodes, which are down, new addresses, and the nodes a list that has them."""
        for node_id in node_ids:
            self.nodes[node_id].move(*free_ports(2))
        self.initial_members = self._list()

    def make_node(self, node_id: int) -> NodeProcess:
        """A node that is not running and no member yet."""
        client_port, peer_port, listen_port = free_ports(3)
        if not self._proxied:
            listen_port = peer_port
        else:
            self._proxies.append(
                PeerProxy(node_id, peer_port, listen_port, self.network, self.pids)
            )
        directory = self.base / f"node-{node_id}"
        node = NodeProcess(node_id, directory, client_port, peer_port, listen_port)
        self.nodes[node_id] = node
        return node

    def pids(self) -> dict[int, int]:
        return {
            node.node_id: node.process.pid
            for node in self.nodes.values()
            if node.process is not None and node.running
        }

    @property
    def endpoints(self) -> str:
        return ",".join(node.client_address for node in self.nodes.values())

    async def __aenter__(self) -> Cluster:
        for proxy in self._proxies:
            await proxy.start()
        for node_id in self.nodes:
            self.start(node_id)
        await self.ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in (*self.nodes.values(), *self._clones):
            node.kill()
        for proxy in self._proxies:
            await proxy.stop()

    def start(self, node_id: int) -> None:
        self.nodes[node_id].start("--initial-members", self.initial_members, *self.settings)

    def clone(self, node_id: int) -> NodeProcess:
        """A second process for `node_id`, on a copy of its disk as it is now, not started yet.

        It ends with the cluster.
        """
        client_port, peer_port = free_ports(2)
        directory = self.base / f"copy-of-node-{node_id}"
        shutil.copytree(self.nodes[node_id].data_dir, directory)
        clone = NodeProcess(node_id, directory, client_port, peer_port, peer_port)
        self._clones.append(clone)
        return clone

    async def join(self, node_id: int) -> NodeProcess:
        """Add node `node_id` as a learner and start it."""
        node = self.make_node(node_id)
        if self._proxied:
            await self._proxies[-1].start()
        async with raftkv.connect(self.endpoints) as client:
            await client.member_add(node_id, node.peer_address, node.client_address)
        member = next(each for each in self.nodes.values() if each.running)
        node.start("--join", member.client_address, *self.settings)
        return node

    async def ready(self, *node_ids: int) -> None:
        """Wait until each node (default: all that run) serves a linearizable read."""
        for node_id in node_ids or [n for n, node in self.nodes.items() if node.running]:
            await eventually(
                lambda node=self.nodes[node_id]: self._serves(node), f"{node_id} serves"
            )

    async def _serves(self, node: NodeProcess) -> bool:
        assert node.running, f"node {node.node_id} has ended:\n{node.log()[-2000:]}"
        try:
            async with self.client(node.node_id) as client:
                await client.get("ready?")
        except raftkv.Unavailable:
            return False
        return True

    def client(self, *node_ids: int) -> raftkv.Client:
        """A client of these nodes and no others; without arguments of the whole cluster."""
        chosen = [self.nodes[node_id].client_address for node_id in node_ids or self.nodes]
        settings = raftkv.ClientSettings(follow_members=not node_ids)
        return raftkv.connect(",".join(chosen), settings=settings)

    async def leader(self) -> int:
        """Who leads, as the nodes that run say; waits until a majority agrees."""
        found = 0

        async def agreed() -> bool:
            nonlocal found
            said: list[int] = []
            for node in self.nodes.values():
                if node.running:
                    try:
                        status = await self.status(node.node_id)
                    except raftkv.RaftkvError:
                        continue
                    said.append(status.leader_id)
            best = max(said, key=said.count, default=0)
            found = best
            voters = len(self.nodes)
            return bool(best) and said.count(best) > voters // 2 and self.nodes[best].running

        await eventually(agreed, "a majority knows one leader")
        return found

    async def status(self, node_id: int) -> raftkv.NodeStatus:
        async with self.client(node_id) as client:
            return await client.status(self.nodes[node_id].client_address, timeout=1.0)

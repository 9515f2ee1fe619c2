"""A cluster of real nodes with TLS on both ports."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import raftkv
from raftkv.cli.exit_codes import ExitCode
from tests.cluster.cluster import Cluster, NodeProcess, eventually
from tests.tls.authority import Authority, Issued


class SecureCluster(Cluster):
    """Three nodes whose certificates `authority` signs. `tls` is the mode of the next starts."""

    def __init__(self, base: Path, tls: str = "required", certificates: str = "none") -> None:
        super().__init__(base, 3)
        self.authority = Authority(base / "certificates")
        self.issued = {node_id: self.authority.node(node_id) for node_id in self.nodes}
        self.user = self.authority.user("bob")
        self.deny_file = self.authority.ca_file.with_name("denied")
        self.deny_file.touch()
        self.tls = tls
        self.certificates = certificates
        self.encrypted = tls != "off"
        """Whether `client` makes clients that use TLS."""

    def arguments(self, node_id: int) -> list[str]:
        if self.tls == "off":
            return []
        issued, ca = self.issued[node_id], self.authority.ca_file
        values = {"client_certificates": self.certificates, "certificate_deny_file": self.deny_file}
        for port in ("client", "peer"):
            values |= {
                f"{port}_cert_file": issued.cert_file,
                f"{port}_key_file": issued.key_file,
                f"{port}_ca_file": ca,
                f"{port}_tls": self.tls,
            }
        return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]

    def start(self, node_id: int) -> None:
        self.nodes[node_id].start(
            "--initial-members", self.initial_members, *self.arguments(node_id)
        )

    async def add(self, node_id: int, *arguments: str) -> NodeProcess:
        """Add a node as a learner and start it."""
        node = self.make_node(node_id)
        self.issued[node_id] = self.authority.node(node_id)
        async with self.client(1, 2, 3) as client:
            await client.member_add(node_id, node.peer_address, node.client_address)
        node.start("--join", self.nodes[1].client_address, *self.arguments(node_id), *arguments)
        return node

    def client(self, *node_ids: int) -> raftkv.Client:
        chosen = [self.nodes[node_id].client_address for node_id in node_ids or self.nodes]
        settings = raftkv.ClientSettings(follow_members=not node_ids)
        tls = self.trusting(self.user) if self.encrypted else None
        return raftkv.connect(",".join(chosen), settings=settings, tls=tls)

    def trusting(self, shown: Issued | None) -> raftkv.Tls:
        ca = self.authority.ca_file
        return raftkv.Tls(ca, shown.cert_file, shown.key_file) if shown else raftkv.Tls(ca)

    async def restart_each(self) -> None:
        """A rolling restart."""
        for node_id, node in self.nodes.items():
            node.send(signal.SIGTERM)
            assert await asyncio.to_thread(node.wait) == ExitCode.OK
            self.start(node_id)
            await self.ready(node_id)

    async def logged(self, event: str, count: int, *node_ids: int) -> None:
        """Wait until each node has logged the event so many times since its first start."""
        for node_id in node_ids or self.nodes:

            async def has_logged(node: NodeProcess = self.nodes[node_id]) -> bool:
                return node.log().count(f'"event": "{event}"') >= count

            await eventually(has_logged, f"node {node_id} logs {event}")

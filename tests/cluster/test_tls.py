"""Real nodes with TLS on both ports: rotation of certificates and of the CA, migration and back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from raftkv.client.connection.tls import Tls

import raftkv
from raftkv.cli.exit_codes import ExitCode
from tests.cluster.cluster import Cluster, NodeProcess, eventually
from tests.tls.authority import Authority, Issued

pytestmark = [pytest.mark.cluster]


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

    def trusting(self, shown: Issued | None) -> Tls:
        ca = self.authority.ca_file
        return Tls(ca, shown.cert_file, shown.key_file) if shown else Tls(ca)

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


WRITERS = 4
ROUNDS_MIN = 20


@asynccontextmanager
async def load(client: raftkv.Client) -> AsyncIterator[None]:
    """Writers that run within the block; none of their requests may fail."""
    over = asyncio.Event()
    rounds = [0] * WRITERS

    async def write(writer: int) -> None:
        key = f"load/{id(client)}/{writer}"
        while not over.is_set() or rounds[writer] < ROUNDS_MIN:
            rounds[writer] += 1
            await client.put(key, str(rounds[writer]))
            assert (await client.get(key)).value == str(rounds[writer]).encode()
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as group:
        for writer in range(WRITERS):
            group.create_task(write(writer))
        yield
        over.set()


async def not_served(node: NodeProcess, tls: Tls | None) -> None:
    """Check that the node, which serves others, does not serve a client with these files."""
    with pytest.raises(raftkv.Unavailable):
        async with raftkv.connect(node.client_address, tls=tls, timeout=1.0) as client:
            await client.get("key")


async def test_nodes_serve_over_tls_whom_they_trust_until_it_is_denied(tmp_path: Path) -> None:
    async with SecureCluster(tmp_path, certificates="optional") as cluster:
        node = cluster.nodes[1]
        async with cluster.client() as client:
            await client.put("key", "1")
            stranger = Authority(tmp_path / "other").user("bob")
            for tls in (cluster.trusting(stranger), Tls(Authority(tmp_path / "third").ca_file)):
                await not_served(node, tls)
            cluster.deny_file.write_text(f"{cluster.user.serial:x}\n")
            await cluster.logged("certificate_deny_list_read", 1)
            with pytest.raises(raftkv.errors.Unauthenticated, match="deny list"):
                await client.status(node.client_address)
        async with raftkv.connect(node.client_address, tls=cluster.trusting(None)) as other:
            assert (await other.get("key")).value == b"1"


@pytest.mark.slow
@pytest.mark.parametrize("certificates", ["required", "optional"])
async def test_certificates_change_under_load_and_a_bad_file_leaves_the_old_in_use(
    tmp_path: Path, certificates: str
) -> None:
    cluster = SecureCluster(tmp_path, certificates=certificates)
    async with cluster, cluster.client() as client, load(client):
        for node_id, issued in cluster.issued.items():
            good = issued.cert_file.read_bytes()
            issued.cert_file.write_bytes(b"half of a certificate")
            await cluster.logged("certificates_not_taken", 2, node_id)  # on both ports
            await cluster.ready(node_id)
            issued.cert_file.write_bytes(good)
            cluster.authority.node(node_id).move_to(issued)
            await cluster.logged("certificates_read", 2, node_id)
            await cluster.ready(node_id)
        await cluster.restart_each()  # each node reconnects to each other with the new ones


@pytest.mark.slow
async def test_the_ca_changes_node_by_node_under_load(tmp_path: Path) -> None:
    cluster = SecureCluster(tmp_path, certificates="required")
    old, new = cluster.authority, Authority(tmp_path / "new", "new")
    async with cluster, cluster.client() as client, load(client):
        # 1. All trust both. The CA file is one for all nodes here; each reads it by itself.
        old.ca_file.write_bytes(old.pem + new.pem)
        await cluster.logged("certificates_read", 2)
        # 2. Each node, and each user, gets a certificate of the new CA.
        new.user("bob").move_to(cluster.user)
        for node_id, issued in cluster.issued.items():
            new.node(node_id).move_to(issued)
            await cluster.logged("certificates_read", 4, node_id)
            await cluster.ready(node_id)
        # 3. None trusts the old CA any more.
        old.ca_file.write_bytes(new.pem)
        await cluster.logged("certificates_read", 6)
        await cluster.restart_each()
        left = old.user("bob")
        tls = Tls(old.ca_file, left.cert_file, left.key_file)
        await not_served(cluster.nodes[1], tls)


@pytest.mark.slow
@pytest.mark.parametrize("certificates", ["none", "optional"])
async def test_a_plaintext_cluster_migrates_to_tls_and_back_under_load(
    tmp_path: Path, certificates: str
) -> None:
    cluster = SecureCluster(tmp_path, tls="off", certificates=certificates)
    async with cluster:
        async with cluster.client() as plaintext, load(plaintext):
            cluster.tls = "optional"
            await cluster.restart_each()
            cluster.encrypted = True
            async with cluster.client() as encrypted, load(encrypted):
                await encrypted.put("both", "served")
                assert (await plaintext.get("both")).value == b"served"
        async with cluster.client() as client, load(client):
            cluster.tls = "required"
            await cluster.restart_each()
            await not_served(cluster.nodes[1], None)
            cluster.tls = "optional"
            await cluster.restart_each()
        cluster.encrypted = False
        async with cluster.client() as client, load(client):
            cluster.tls = "off"
            await cluster.restart_each()
            assert (await client.get("both")).value == b"served"


@pytest.mark.slow
@pytest.mark.parametrize("tls", ["required", "optional"])
async def test_a_node_joins_with_its_certificate(tmp_path: Path, tls: str) -> None:
    async with SecureCluster(tmp_path, tls, certificates="required") as cluster:
        await cluster.add(4)
        await cluster.ready(4)


@pytest.mark.slow
async def test_a_node_reports_certificates_that_expire_and_does_not_start_with_expired_ones(
    tmp_path: Path,
) -> None:
    cluster = SecureCluster(tmp_path)
    cluster.authority.node(1, days=5).move_to(cluster.issued[1])
    async with cluster:
        await cluster.logged("certificate_expires", 2, 1)
        assert '"days_left": 4' in cluster.nodes[1].log()
        assert "certificate_expires" not in cluster.nodes[2].log()
        cluster.nodes[1].kill()
        cluster.authority.node(1, days=-0.1).move_to(cluster.issued[1])
        cluster.start(1)
        assert await asyncio.to_thread(cluster.nodes[1].wait) == ExitCode.USAGE
        assert "client_cert_file is" in cluster.nodes[1].log()
        assert "has expired at" in cluster.nodes[1].log()


@pytest.mark.slow
async def test_a_node_with_the_certificate_of_another_takes_no_part(tmp_path: Path) -> None:
    """It is refused by itself at its start, and by its peers if it is started all the same."""
    async with SecureCluster(tmp_path) as cluster:
        cluster.nodes[3].kill()
        cluster.issued[3] = cluster.authority.node(2)
        cluster.start(3)
        assert await asyncio.to_thread(cluster.nodes[3].wait) == ExitCode.USAGE
        assert "Hostname mismatch" in cluster.nodes[3].log()

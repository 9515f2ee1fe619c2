"""Three raftkv nodes with default settings, from this checkout: in plaintext, or secured."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

import grpc

from bench_lib.channels import open_channel
from bench_lib.cluster import NODES, Cluster, NodeState
from bench_lib.processes import ServerProcess
from jepsen_lite.ports import free_ports
from raftkv.cli.certs_commands import write_ca, write_node
from raftkv.client.client import connect
from raftkv.client.credentials import PASSWORD_VARIABLE, USER_VARIABLE
from raftkv.client.tls import CA_VARIABLE, Tls
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2

PROBE_TIMEOUT_S = 1.0
CERTIFICATE_DAYS = 1
SETUP_TIMEOUT_S = 30.0  # of the calls that add users, as hashing a password takes its time
ADMINISTRATOR = "root"
USER = "bench"
READABLE_PREFIXES = ("config/", "jobs/", "metrics/", "sessions/")  # beside what USER writes


class RaftkvCluster(Cluster):
    system = "raftkv"
    _authorities: bytes | None = None  # that the nodes' certificates are signed by
    _probe_metadata: tuple[tuple[str, str], ...] = ()

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        ports = free_ports(2 * NODES)
        self._addresses = [f"127.0.0.1:{port}" for port in ports[:NODES]]
        self.endpoints = self._addresses
        members = ",".join(
            f"{number}=127.0.0.1:{peer}/{endpoint}"
            for number, (peer, endpoint) in enumerate(
                zip(ports[NODES:], self._addresses, strict=True), start=1
            )
        )
        self.nodes = [
            ServerProcess(
                name=f"raftkv-{number}",
                command=[sys.executable, "-m", "raftkv", "serve"],
                log=directory / f"raftkv-{number}.log",
                environment={
                    "RAFTKV_NODE_ID": str(number),
                    "RAFTKV_DATA_DIR": str(directory / f"raftkv-{number}"),
                    "RAFTKV_INITIAL_MEMBERS": members,
                    "RAFTKV_LOG_LEVEL": "warning",
                    "RAFTKV_HTTP_LISTEN": "off",
                    **self._more_settings(number),
                },
            )
            for number in range(1, NODES + 1)
        ]
        self._channels: dict[int, grpc.aio.Channel] = {}

    def _more_settings(self, node_id: int) -> dict[str, str]:
        """Settings beside those of every cluster, as environment variables of the node."""
        return {}

    async def state(self, node: int) -> NodeState | None:
        try:
            reply = await self._cluster_stub(node).Status(
                api_pb2.StatusRequest(), timeout=PROBE_TIMEOUT_S, metadata=self._probe_metadata
            )
        except grpc.aio.AioRpcError:
            return None
        return NodeState(leads=reply.role == api_pb2.ROLE_LEADER, applied_index=reply.applied_index)

    async def serves(self, node: int) -> bool:
        request = api_pb2.RangeRequest(range=kv_pb2.Range(key=b"health"))
        try:
            reply = await self._kv_stub(node).Range(
                request, timeout=PROBE_TIMEOUT_S, metadata=self._probe_metadata
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.header.node_id)

    def _cluster_stub(self, node: int) -> Any:
        return api_pb2_grpc.ClusterStub(self._channel(node))  # type: ignore[no-untyped-call]

    def _kv_stub(self, node: int) -> Any:
        return api_pb2_grpc.KVStub(self._channel(node))  # type: ignore[no-untyped-call]

    def _channel(self, node: int) -> grpc.aio.Channel:
        if node not in self._channels:
            self._channels[node] = open_channel(self._addresses[node], self._authorities)
        return self._channels[node]

    async def close_probes(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)
        self._channels.clear()


class TlsCluster(RaftkvCluster):
    """As `RaftkvCluster`, with TLS on both ports. Clients have no certificate."""

    system = "raftkv, TLS"

    def __init__(self, directory: Path) -> None:
        self._certificates = directory / "certificates"
        self._ca_file, _ = write_ca(self._certificates, "raftkv")
        self._authorities = self._ca_file.read_bytes()
        super().__init__(directory)
        self.endpoints = [f"raftkvs://{address}" for address in self._addresses]
        self.client_environment = {CA_VARIABLE: str(self._ca_file)}

    def _more_settings(self, node_id: int) -> dict[str, str]:
        certificate, key = write_node(self._certificates, node_id, None, CERTIFICATE_DAYS)
        files = {"CERT": certificate, "KEY": key, "CA": self._ca_file}
        return {
            f"RAFTKV_{port}_{name}_FILE": str(file)
            for port in ("CLIENT", "PEER")
            for name, file in files.items()
        }


class AuthenticatedCluster(TlsCluster):
    """As `TlsCluster`, for callers that log in: a user, not root, with a role of several ranges."""

    system = "raftkv, TLS + auth"

    def __init__(self, directory: Path, prefix: str) -> None:
        """The load may write keys with this prefix."""
        super().__init__(directory)
        self._prefix = prefix

    async def start(self) -> None:
        await super().start()
        password, tls = secrets.token_urlsafe(), Tls(self._ca_file)
        password_file = self.directory / "password"
        password_file.write_text(password)
        async with connect(self.endpoints, timeout=SETUP_TIMEOUT_S, tls=tls) as client:
            auth = client.auth
            await auth.user_add(ADMINISTRATOR, password)
            await auth.user_grant_role(ADMINISTRATOR, ADMINISTRATOR)
            await auth.user_add(USER, password)
            await auth.role_add(USER)
            await auth.user_grant_role(USER, USER)
            await auth.role_grant(USER, "readwrite", prefix=self._prefix)
            for prefix in READABLE_PREFIXES:
                await auth.role_grant(USER, "read", prefix=prefix)
        async with connect(
            self.endpoints, timeout=SETUP_TIMEOUT_S, tls=tls, user=ADMINISTRATOR, password=password
        ) as client:
            await client.auth.enable()
            token = await client.auth.token_create(ADMINISTRATOR)
        self._probe_metadata = (("authorization", f"Bearer {token.token}"),)
        self.client_environment = {
            **self.client_environment,
            USER_VARIABLE: USER,
            PASSWORD_VARIABLE: str(password_file),
        }

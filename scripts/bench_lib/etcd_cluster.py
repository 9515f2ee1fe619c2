"""Three etcd nodes with default settings, from Debian's packages or whatever is on the PATH."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import grpc

from bench_lib import etcd_api
from bench_lib.channels import open_channel
from bench_lib.cluster import NODES, Cluster, NodeState
from bench_lib.processes import ServerProcess
from jepsen_lite.ports import free_ports

INSTALL_ADVICE = (
    "etcd is not installed. On Debian or Ubuntu: apt-get install etcd-server etcd-client"
    " (and `systemctl disable --now etcd`, the benchmark starts its own nodes)."
    " Or measure raftkv alone: scripts/bench --against none"
)

# Above etcd's default of 2 GiB, so that the measurements of growth can't run into it.
QUOTA_BYTES = 8 << 30

PROBE_TIMEOUT_S = 1.0


def require_etcd() -> str:
    """The path of etcd; ends the program with advice if there is none."""
    etcd = shutil.which("etcd")
    if etcd is None:
        raise SystemExit(INSTALL_ADVICE)
    return etcd


class EtcdCluster(Cluster):
    system = "etcd"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        etcd = require_etcd()
        ports = free_ports(2 * NODES)
        self.endpoints = [f"127.0.0.1:{port}" for port in ports[:NODES]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[NODES:]]
        names = [f"etcd-{number}" for number in range(NODES)]
        members = ",".join(f"{name}={peer}" for name, peer in zip(names, peers, strict=True))
        self.nodes = []
        for name, endpoint, peer in zip(names, self.endpoints, peers, strict=True):
            command = [etcd, "--name", name, "--data-dir", str(directory / name)]
            command += ["--listen-client-urls", f"http://{endpoint}"]
            command += ["--advertise-client-urls", f"http://{endpoint}"]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", members, "--initial-cluster-state", "new"]
            command += ["--quota-backend-bytes", str(QUOTA_BYTES), "--log-level", "warn"]
            command += ["--logger", "zap", "--log-outputs", "stderr"]
            self.nodes.append(ServerProcess(name, command, directory / f"{name}.log", {}))
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._status: dict[int, Any] = {}
        self._range: dict[int, Any] = {}

    async def state(self, node: int) -> NodeState | None:
        self._open_probes(node)
        try:
            reply = await self._status[node](etcd_api.StatusRequest(), timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
        return NodeState(
            leads=reply.leader == reply.header.member_id, applied_index=reply.raftAppliedIndex
        )

    async def serves(self, node: int) -> bool:
        self._open_probes(node)
        request = etcd_api.RangeRequest(key=b"health")
        try:
            await self._range[node](request, timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return True

    def _open_probes(self, node: int) -> None:
        if node in self._channels:
            return
        channel = self._channels[node] = open_channel(self.endpoints[node])
        self._status[node] = etcd_api.unary(
            channel, "etcdserverpb.Maintenance/Status", "StatusRequest", "StatusResponse"
        )
        self._range[node] = etcd_api.unary(
            channel, "etcdserverpb.KV/Range", "RangeRequest", "RangeResponse"
        )

    async def close_probes(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)
        self._channels.clear()

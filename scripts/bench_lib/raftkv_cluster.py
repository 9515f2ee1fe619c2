"""Three raftkv nodes with default settings, from this checkout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grpc

from bench_lib.channels import open_channel
from bench_lib.cluster import NODES, Cluster, NodeState
from bench_lib.processes import ServerProcess
from jepsen_lite.ports import free_ports
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2

PROBE_TIMEOUT_S = 1.0


class RaftkvCluster(Cluster):
    system = "raftkv"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        ports = free_ports(2 * NODES)
        self.endpoints = [f"127.0.0.1:{port}" for port in ports[:NODES]]
        members = ",".join(
            f"{number}=127.0.0.1:{peer}/{endpoint}"
            for number, (peer, endpoint) in enumerate(
                zip(ports[NODES:], self.endpoints, strict=True), start=1
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
                },
            )
            for number in range(1, NODES + 1)
        ]
        self._channels: dict[int, grpc.aio.Channel] = {}

    async def state(self, node: int) -> NodeState | None:
        try:
            reply = await self._cluster_stub(node).Status(
                api_pb2.StatusRequest(), timeout=PROBE_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            return None
        return NodeState(leads=reply.role == api_pb2.ROLE_LEADER, applied_index=reply.applied_index)

    async def serves(self, node: int) -> bool:
        request = api_pb2.RangeRequest(range=kv_pb2.Range(key=b"health"))
        try:
            reply = await self._kv_stub(node).Range(request, timeout=PROBE_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.header.node_id)

    def _cluster_stub(self, node: int) -> Any:
        return api_pb2_grpc.ClusterStub(self._channel(node))  # type: ignore[no-untyped-call]

    def _kv_stub(self, node: int) -> Any:
        return api_pb2_grpc.KVStub(self._channel(node))  # type: ignore[no-untyped-call]

    def _channel(self, node: int) -> grpc.aio.Channel:
        if node not in self._channels:
            self._channels[node] = open_channel(self.endpoints[node])
        return self._channels[node]

    async def close_probes(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)
        self._channels.clear()

"""etcd as processes of this machine: a database known to be correct, to check the harness with."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from aetcd import Client as Connection
from aetcd import rpc

from jepsen_lite.clients.etcd_client import EtcdClient
from jepsen_lite.clients.protocol import OperationError
from jepsen_lite.db.base import DatabaseFailed, NoEffect, do_all
from jepsen_lite.db.local import LocalCluster, split

ASK_TIMEOUT_S = 1.0
OPERATE_TIMEOUT_S = 10.0
REVISIONS_KEPT = 20


class EtcdCluster(LocalCluster):
    """Nodes named node-1, node-2, ..., with etcd's default settings."""

    name = "etcd"
    # A follower dials its leader for the stream on which that one sends.
    peers_dial_both_ways = True

    def __init__(self, directory: Path, logs: Path, size: int) -> None:
        super().__init__(directory, logs)
        program = shutil.which("etcd")
        if program is None:
            raise DatabaseFailed("etcd is not installed")
        names = [f"node-{number}" for number in range(1, size + 1)]
        self.addresses = {name: self.new_addresses(name) for name in names}
        members = ",".join(f"{name}={self._peer(name)}" for name in names)
        for name in names:
            self.add_server(name, [program, *self._arguments(name, members)])
        self._operators: dict[str, Connection] = {}

    def _peer(self, name: str) -> str:
        return f"http://{self.addresses[name].peer}"

    def _arguments(self, name: str, members: str) -> list[str]:
        addresses = self.addresses[name]
        return [
            *("--name", name, "--data-dir", str(self.directory / name)),
            *("--listen-client-urls", f"http://{addresses.client_listen}"),
            *("--advertise-client-urls", f"http://{addresses.client}"),
            *("--listen-peer-urls", f"http://{addresses.peer_listen}"),
            *("--initial-advertise-peer-urls", self._peer(name)),
            *("--initial-cluster", members, "--initial-cluster-state", "new"),
            *("--logger", "zap", "--log-outputs", "stderr"),
        ]

    async def stop(self) -> None:
        await do_all([*(each.close for each in self._operators.values()), super().stop])

    async def connect(self, node: str = "") -> EtcdClient:
        chosen = [node] if node else self.nodes
        return EtcdClient([self.endpoint(name) for name in chosen])

    async def _operator(self, node: str) -> Connection:
        if node not in self._operators:
            host, port = split(self.direct_address(node))
            self._operators[node] = Connection(host=host, port=port)
        await self._operators[node].connect()
        return self._operators[node]

    async def _statuses(self) -> Mapping[str, Any]:
        """What each node says of itself; the reason if it does not."""

        async def ask(name: str) -> Any:
            operator = await self._operator(name)
            try:
                request = rpc.StatusRequest()
                return await operator.maintenancestub.Status(request, timeout=ASK_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                return error.code().name

        return dict(zip(self.nodes, await asyncio.gather(*map(ask, self.nodes)), strict=True))

    async def leader(self) -> str:
        leaders = {
            status.raftTerm: name
            for name, status in (await self._statuses()).items()
            if not isinstance(status, str) and status.leader == status.header.member_id
        }
        return leaders[max(leaders)] if leaders else ""

    async def not_ready(self) -> Mapping[str, str]:
        missing = {
            name: status if isinstance(status, str) else "has no leader"
            for name, status in (await self._statuses()).items()
            if isinstance(status, str) or not status.leader
        }
        if missing:
            return missing
        client = EtcdClient([self.direct_address(name) for name in self.nodes])
        try:
            await client.get("ready?", timeout_s=ASK_TIMEOUT_S)
        except OperationError as error:
            return dict.fromkeys(self.nodes, error.reason)
        finally:
            await client.close()
        return {}

    def versions(self) -> Mapping[str, str]:
        command = self.servers[self.nodes[0]].command[0]
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"etcd Version: (\S+)", done.stdout)
        return {"etcd": found[1] if found else "unknown"}

    async def compact(self) -> str:
        operator = await self._operator(await self.leader() or self.nodes[0])
        try:
            request = rpc.RangeRequest(key=b"ready?")
            found = await operator.kvstub.Range(request, timeout=OPERATE_TIMEOUT_S)
            revision = found.header.revision - REVISIONS_KEPT
            if revision < 1:
                raise NoEffect("there is no history to forget")
            compaction = rpc.CompactionRequest(revision=revision)
            await operator.kvstub.Compact(compaction, timeout=OPERATE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise NoEffect(f"refused: {error.code().name}") from error
        return f"forgot what was before revision {revision}"

"""How long the cluster takes no writes after SIGKILL of its leader, as its client sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import grpc

from bench_lib.cluster import Client, Cluster
from bench_lib.etcd_client import EtcdClient, open_etcd_client
from bench_lib.processes import remove_directory
from bench_lib.results import Failover
from bench_lib.systems import new_cluster, open_client

WRITE_EVERY_S = 0.01
WRITES_BEFORE_THE_KILL_S = 0.5
WRITE_DEADLINE_S = 20.0
VALUE = b"x" * 256

# An etcd node that has forwarded a write to a dead leader says nothing for seven seconds.
ETCD_ATTEMPT_TIMEOUT_S = 1.0


class PersistentEtcdClient:
    """What a careful user of etcd writes around the calls: on to the next node until it is done.

    Repeating is safe here, as the same value goes to the same key.
    """

    def __init__(self, client: EtcdClient) -> None:
        self._client = client

    async def put(self, key: bytes, value: bytes) -> None:
        while True:
            # The rotation takes the next node, and a dead one refuses at once.
            with suppress(grpc.aio.AioRpcError):
                await self._client.put(key, value, ETCD_ATTEMPT_TIMEOUT_S)
                return
            await asyncio.sleep(WRITE_EVERY_S)

    async def close(self) -> None:
        await self._client.close()


class Writer:
    """Begins a write every 10 ms, whether or not the earlier ones have been answered."""

    def __init__(self, client: Client | PersistentEtcdClient) -> None:
        self._client = client
        self._begun = 0
        self._writes: set[asyncio.Task[None]] = set()
        self.killed_s = float("inf")
        self.acknowledged: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.longest_wait_s = 0.0
        self.failed = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._begun += 1
            write = asyncio.create_task(self._write(self._begun))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)
            await asyncio.sleep(WRITE_EVERY_S)

    async def _write(self, number: int) -> None:
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(WRITE_DEADLINE_S):
                await self._client.put(b"failover/%08d" % number, VALUE)
        except Exception:  # noqa: BLE001  whatever went wrong, the write is not acknowledged
            self.failed += 1
            return
        now_s = time.monotonic()
        self.longest_wait_s = max(self.longest_wait_s, now_s - begun_s)
        if begun_s > self.killed_s and not self.acknowledged.done():
            self.acknowledged.set_result(now_s)

    async def drain(self) -> None:
        """Returns when every write that was begun has been answered or given up."""
        while self._writes:
            await asyncio.wait(self._writes)


async def run(system: str, kills: int, directory: Path) -> AsyncIterator[Failover]:
    """Kill the leader `kills` times; each time the dead node comes back before the next."""
    remove_directory(directory)
    cluster = new_cluster(system, directory)
    try:
        await cluster.start()
        client = await _open(cluster)
        try:
            for _ in range(kills):
                yield await _kill_leader(cluster, client)
        finally:
            await client.close()
    finally:
        await cluster.stop()
        remove_directory(directory)


async def _open(cluster: Cluster) -> Client | PersistentEtcdClient:
    if cluster.system == "etcd":
        return PersistentEtcdClient(await open_etcd_client(cluster.endpoints, 1))
    return await open_client(cluster.system, cluster.endpoints, 1)


async def _kill_leader(cluster: Cluster, client: Client | PersistentEtcdClient) -> Failover:
    writer = Writer(client)
    writing = asyncio.create_task(writer.run())
    try:
        await asyncio.sleep(WRITES_BEFORE_THE_KILL_S)
        leader = await cluster.leader()
        writer.killed_s = killed_s = time.monotonic()
        cluster.nodes[leader].kill()
        acknowledged_s = await asyncio.wait_for(writer.acknowledged, WRITE_DEADLINE_S)
    finally:
        writing.cancel()
    await writer.drain()
    cluster.nodes[leader].start()
    await cluster.wait_until_serving(leader)
    await cluster.wait_until_caught_up(leader)
    return Failover(cluster.system, acknowledged_s - killed_s, writer.longest_wait_s, writer.failed)

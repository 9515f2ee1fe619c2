"""etcd's unary calls from asyncio, the way its Python users make them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from typing import Any

from bench_lib import etcd_api
from bench_lib.channels import open_channel

TIMEOUT_S = 60.0
LEASE_TTL_S = 600  # longer than any measurement, so that nobody has to renew it


class EtcdClient:
    """Spreads calls evenly over `connections` channels to each endpoint."""

    def __init__(self, endpoints: Sequence[str], connections: int) -> None:
        # Neighbours in the rotation are connections to different nodes.
        self._channels = [
            open_channel(endpoint) for _ in range(connections) for endpoint in endpoints
        ]
        self._next_put = self._rotation("etcdserverpb.KV/Put", "Put")
        self._next_range = self._rotation("etcdserverpb.KV/Range", "Range")
        self._next_txn = self._rotation("etcdserverpb.KV/Txn", "Txn")
        self._next_grant = self._rotation("etcdserverpb.Lease/LeaseGrant", "LeaseGrant")
        self._next_lock = self._rotation("v3lockpb.Lock/Lock", "Lock")
        self._next_unlock = self._rotation("v3lockpb.Lock/Unlock", "Unlock")
        self._leases: dict[int, int] = {}

    def _rotation(self, method: str, message: str) -> Callable[[], Any]:
        """Gives the method's callable of one channel after the other."""
        request, response = f"{message}Request", f"{message}Response"
        return cycle(
            [etcd_api.unary(each, method, request, response) for each in self._channels]
        ).__next__

    async def connect(self) -> None:
        """Returns when every channel has a connection."""
        for channel in self._channels:
            await channel.channel_ready()

    def put(self, key: bytes, value: bytes, timeout_s: float = TIMEOUT_S) -> Awaitable[object]:
        request = etcd_api.PutRequest(key=key, value=value)
        call: Awaitable[object] = self._next_put()(request, timeout=timeout_s)
        return call

    async def put_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        operations = [
            etcd_api.RequestOp(request_put=etcd_api.PutRequest(key=key, value=value))
            for key, value in pairs
        ]
        await self._next_txn()(etcd_api.TxnRequest(success=operations), timeout=TIMEOUT_S)

    async def get(self, key: bytes) -> bytes:
        reply = await self._next_range()(etcd_api.RangeRequest(key=key), timeout=TIMEOUT_S)
        return bytes(reply.kvs[0].value) if reply.kvs else b""

    async def stale_get(self, key: bytes) -> bytes:
        raise NotImplementedError("only raftkv's stale reads are measured")

    async def lock_and_unlock(self, name: bytes, owner: int) -> None:
        lease = self._leases.get(owner)
        if lease is None:
            granted = await self._next_grant()(etcd_api.LeaseGrantRequest(TTL=LEASE_TTL_S))
            lease = self._leases[owner] = granted.ID
        request = etcd_api.LockRequest(name=name, lease=lease)
        held = await self._next_lock()(request, timeout=TIMEOUT_S)
        await self._next_unlock()(etcd_api.UnlockRequest(key=held.key), timeout=TIMEOUT_S)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(None)


async def open_etcd_client(endpoints: Sequence[str], connections: int) -> EtcdClient:
    client = EtcdClient(endpoints, connections)
    await client.connect()
    return client

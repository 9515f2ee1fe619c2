"""etcd's unary calls from asyncio, the way its Python users make them."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from itertools import cycle

from bench_lib import etcd_api
from bench_lib.channels import open_channel

TIMEOUT_S = 60.0


class EtcdClient:
    """Spreads calls evenly over `connections` channels to each endpoint."""

    def __init__(self, endpoints: Sequence[str], connections: int) -> None:
        # Neighbours in the rotation are connections to different nodes.
        self._channels = [
            open_channel(endpoint) for _ in range(connections) for endpoint in endpoints
        ]
        self._next_put = cycle(
            [etcd_api.unary(each, "KV/Put", "PutRequest", "PutResponse") for each in self._channels]
        ).__next__
        self._next_range = cycle(
            [
                etcd_api.unary(each, "KV/Range", "RangeRequest", "RangeResponse")
                for each in self._channels
            ]
        ).__next__
        self._next_txn = cycle(
            [etcd_api.unary(each, "KV/Txn", "TxnRequest", "TxnResponse") for each in self._channels]
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

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(None)


async def open_etcd_client(endpoints: Sequence[str], connections: int) -> EtcdClient:
    client = EtcdClient(endpoints, connections)
    await client.connect()
    return client

"""raftkv's own client behind the benchmark's port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from raftkv.client.client import Client, connect
from raftkv.client.model.read_levels import ReadLevel
from raftkv.client.settings import ClientSettings

TIMEOUT_S = 60.0


class RaftkvClient:
    """Passes calls through: the client itself coalesces, chooses nodes and retries."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, key: bytes, value: bytes) -> Awaitable[object]:
        return self._client.put(key, value)

    async def put_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        await asyncio.gather(*(self._client.put(key, value) for key, value in pairs))

    async def get(self, key: bytes) -> bytes:
        found = await self._client.get(key)
        return found.value if found is not None else b""

    async def stale_get(self, key: bytes) -> bytes:
        found = await self._client.get(key, level=ReadLevel.STALE)
        return found.value if found is not None else b""

    async def lock_and_unlock(self, name: bytes, owner: int) -> None:
        async with self._client.lock(name):
            pass

    async def close(self) -> None:
        await self._client.close()


async def open_raftkv_client(endpoints: Sequence[str]) -> RaftkvClient:
    # Given all nodes, it goes where it likes; given one, it is to stay there.
    settings = ClientSettings(follow_members=len(endpoints) > 1)
    return RaftkvClient(await connect(endpoints, timeout=TIMEOUT_S, settings=settings))

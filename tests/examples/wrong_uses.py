"""Mistakes that a type checker must refuse: in each line that ends with `# refused`, in no other.

Never run.
"""

from __future__ import annotations

import raftkv
from raftkv import ToStale  # refused
from raftkv.recipes import Semaphor  # refused
from raftkv.recipes.sync import Counter


async def misspelt(client: raftkv.Client) -> None:
    raftkv.conect("127.0.0.1:7411")  # refused
    raftkv.ReadLevel.LINEARISABLE  # refused
    client.putt("k", "v")  # refused
    raftkv.op.puts("k", "v")  # refused
    try:
        await client.get("k")
    except raftkv.TooStalee:  # refused
        pass


async def wrong_arguments(client: raftkv.Client) -> None:
    await client.put("k", 7)  # refused
    await client.put("k", "v", time_out=2)  # refused
    await client.put("k", "v", 10)  # refused
    await client.get("k", level="stale")  # refused
    raftkv.connect(7411)  # refused
    client.lock("name", ttl="10 s")  # refused
    Counter(client, "visits")  # refused


async def wrong_results(client: raftkv.Client) -> None:
    value = await client.get("k")
    value.value  # refused
    revision: str = (await client.put("k", "v")).revision  # refused
    found: bytes = await client.get("k")  # refused
    client.get("k").value  # refused
    with client.lock("k"):  # refused
        pass


def wrong_twin(client: raftkv.SyncClient) -> None:
    client.put("k", b"v", fence="name")  # refused
    client.lock("k").tokens  # refused
    with raftkv.connect("127.0.0.1:7411"):  # refused
        pass


def private_or_gone() -> None:
    raftkv.Pipeline  # refused
    raftkv.AddressInUse  # refused
    raftkv._public_names  # refused

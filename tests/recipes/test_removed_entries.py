"""An operator deletes a recipe's queue entry or revokes its lease: its owner is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from raftkv.client.client import Client
from raftkv.errors import LockLost
from raftkv.recipes import DoubleBarrier, ReadWriteLock, Semaphore, locked
from tests.recipes.recipe_cluster import RecipeCluster

PROMISED_S = 1.0
TTL = 30.0

Hold = Callable[[Client], Awaitable[None]]


async def read(client: Client) -> None:
    async with ReadWriteLock(client, "n", ttl=TTL).read():
        await asyncio.Event().wait()


async def write(client: Client) -> None:
    async with ReadWriteLock(client, "n", ttl=TTL).write():
        await asyncio.Event().wait()


async def use_slot(client: Client) -> None:
    async with Semaphore(client, "n", 1, ttl=TTL).slot():
        await asyncio.Event().wait()


async def hold_several(client: Client) -> None:
    async with locked(client, "n", "m", ttl=TTL):
        await asyncio.Event().wait()


async def meet(client: Client) -> None:
    async with DoubleBarrier(client, "n", 1, ttl=TTL):
        await asyncio.Event().wait()


async def wait_to_meet(client: Client) -> None:
    async with DoubleBarrier(client, "n", 2, ttl=TTL):
        await asyncio.Event().wait()


def remove_last_place(cluster: RecipeCluster, *, with_lease: bool) -> None:
    key = max((int(key[-16:], 16), key) for key in cluster.store.keys_of(b"n/") if b"/0000" in key)[
        1
    ]
    if not with_lease:
        cluster.store.run(delete_range={"key": key})
        return
    (lease,) = [
        each for each in cluster.machine.leases() if key in cluster.machine.lease_keys(each)
    ]
    cluster.store.run(lease_revoke={"lease": lease})


@pytest.mark.parametrize("with_lease", [False, True])
@pytest.mark.parametrize(
    ("before", "hold"),
    [
        (None, read),
        (None, write),
        (None, use_slot),
        (None, hold_several),
        (None, meet),
        (None, wait_to_meet),
        (read, write),
        (write, read),
        (use_slot, use_slot),
    ],
)
async def test_an_owner_whose_entry_is_removed_is_stopped_within_a_second(
    client: Client,
    other: Client,
    cluster: RecipeCluster,
    before: Hold | None,
    hold: Hold,
    with_lease: bool,
) -> None:
    """With `before`, it is a place of one that waits behind that."""
    in_front = asyncio.ensure_future(before(other)) if before else None
    await asyncio.sleep(0.1)
    holding = asyncio.ensure_future(hold(client))
    await asyncio.sleep(3.0)
    remove_last_place(cluster, with_lease=with_lease)
    with pytest.raises(LockLost):
        await asyncio.wait_for(holding, PROMISED_S)
    if in_front:
        assert not in_front.done()
        in_front.cancel()

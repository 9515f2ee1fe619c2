"""So many at once and no more, first come first served."""

from __future__ import annotations

import asyncio
import random

import pytest

from raftkv.client.client import Client
from raftkv.errors import InvalidRequest, LockNotAcquired, RaftkvError, SizeMismatch
from raftkv.recipes import Semaphore, SharedLock
from raftkv.recipes._parameters import AgreedSize
from tests.recipes.conftest import Connect
from tests.recipes.recipe_cluster import RecipeCluster, until


async def take(client: Client, slots: int = 2) -> SharedLock:
    return await Semaphore(client, "s", slots).slot().acquire()


async def test_slots_are_given_in_the_order_of_coming_and_never_too_many(
    client: Client, other: Client
) -> None:
    inside, order = 0, []

    async def use(number: int, who: Client) -> None:
        nonlocal inside
        async with Semaphore(who, "s", 3).slot():
            inside += 1
            assert inside <= 3
            order.append(number)
            await asyncio.sleep(0.1)
            inside -= 1

    tasks = []
    for number in range(20):
        tasks.append(asyncio.create_task(use(number, (client, other)[number % 2])))
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    assert order == list(range(20))


async def test_all_slots_are_used(client: Client) -> None:
    slots = await asyncio.wait_for(
        asyncio.gather(*(asyncio.create_task(take(client, 5)) for _ in range(5))), 1.0
    )
    assert len({slot.token for slot in slots}) == 5


async def test_another_number_of_slots_is_a_mismatch(client: Client, other: Client) -> None:
    await take(client, 2)
    with pytest.raises(SizeMismatch) as error:
        await take(other, 3)
    assert error.value.facts["size"] == "2"


@pytest.mark.parametrize("slots", [0, -1, "3"])
def test_a_number_of_slots_below_one_is_refused(slots: int) -> None:
    with pytest.raises(InvalidRequest, match="slots"):
        AgreedSize(None, b"s", slots, "slots")  # type: ignore[arg-type]


async def test_a_slot_that_becomes_free_wakes_one_waiter(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    slot = await take(client, 1)
    waiting = [asyncio.create_task(take(other, 1)) for _ in range(20)]
    await asyncio.sleep(0.5)
    before = len(cluster.reads)
    await slot.release()
    await until(lambda: any(task.done() for task in waiting))
    await asyncio.sleep(0.5)
    assert sum(task.done() for task in waiting) == 1
    # The next in turn looks too, and waits; and the keys of the slot and the turn are looked at.
    assert len(cluster.reads) <= before + 4
    for task in waiting:
        task.cancel()


async def test_a_waiter_that_gives_up_leaves_and_the_next_has_its_turn(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    slot = await take(client, 1)
    with pytest.raises(LockNotAcquired):
        await Semaphore(other, "s", 1).slot().acquire(timeout=0.5)
    waiting = asyncio.create_task(take(other, 1))
    await asyncio.sleep(0.1)
    assert (
        not await Semaphore(client, "s", 1)
        .slot()
        .try_acquire_for(
            "a task",
        )
    )
    await slot.release()
    await (await asyncio.wait_for(waiting, 1.0)).release()
    await until(lambda: cluster.store.keys_of(b"s/") == [b"s/size"])


async def test_the_slot_of_a_dead_holder_is_free_when_its_lease_ends(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    dead = await take(client, 1)
    waiting = asyncio.create_task(take(other, 1))
    await asyncio.sleep(0.1)
    assert dead._hold is not None
    cluster.store.run(lease_revoke={"lease": dead._hold._entry.lease.id})
    await asyncio.wait_for(waiting, 1.0)


async def test_a_slot_is_no_fence(client: Client) -> None:
    async with Semaphore(client, "s", 2).slot() as slot:
        with pytest.raises(InvalidRequest, match="fences nobody off"):
            await client.put("k", "v", fence=slot)


@pytest.mark.parametrize("seed", range(12))
async def test_never_more_holders_than_slots_under_faults(
    seed: int, connect: Connect, cluster: RecipeCluster
) -> None:
    rng = random.Random(seed)
    clients = [await connect() for _ in range(4)]
    inside, done = 0, 0

    async def use(who: Client) -> None:
        nonlocal inside, done
        for _ in range(6):
            try:
                async with Semaphore(who, "s", 3, ttl=5.0).slot():
                    inside += 1
                    try:
                        assert inside <= 3
                        await asyncio.sleep(rng.random() * 0.3)
                    finally:
                        inside -= 1
                done += 1
            except RaftkvError:
                await asyncio.sleep(0.1)

    async def disturb() -> None:
        await asyncio.sleep(rng.random() * 2)
        cluster.kill("a:1")
        await asyncio.sleep(rng.random())
        cluster.go_down()
        await asyncio.sleep(rng.random() * 8)
        cluster.come_up()

    async with asyncio.timeout(300.0):
        await asyncio.gather(disturb(), *(use(who) for who in clients for _ in range(3)))
    assert done >= 4 * 3 * 4
    await until(lambda: cluster.store.keys_of(b"s/") == [b"s/size"])

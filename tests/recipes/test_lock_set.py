"""Several locks: all of them or none, and no circle of waiting."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.client import Client
from raftkv.errors import (
    DeadlineExceeded,
    FencedOff,
    InvalidRequest,
    LockLost,
    LockNotAcquired,
    LockReentered,
)
from raftkv.recipes import locked
from tests.recipes.recipe_cluster import RecipeCluster, until


async def test_names_given_in_opposite_orders_do_not_deadlock(
    client: Client, other: Client
) -> None:
    inside = 0

    async def use(who: Client, *names: str) -> None:
        nonlocal inside
        for _ in range(10):
            async with locked(who, *names):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0.01)
                inside -= 1

    async with asyncio.timeout(60.0):
        await asyncio.gather(use(client, "a", "b", "c"), use(other, "c", "b", "a"))


async def test_each_name_has_a_token_and_all_of_them_are_the_fence(
    client: Client, cluster: RecipeCluster
) -> None:
    async with locked(client, "b", b"a", "b") as locks:
        assert locks.names == (b"a", b"b")
        assert locks.tokens == {lock.name: lock.token for lock in locks}
        await client.put("k", "1", fence=locks)
        cluster.store.run(delete_range={"key": locks[0].key})
        with pytest.raises(FencedOff):
            await client.put("k", "2", fence=locks)
        with pytest.raises(LockLost):
            async with locked(client, "c"):
                cluster.store.run(delete_range={"key": cluster.store.keys_of(b"c/")[0]})
        cluster.store.run(delete_range={"key": b"x"})
        await locks.release()


@pytest.mark.parametrize("give_up", ["timeout", "cancel"])
async def test_giving_up_leaves_none_behind(
    client: Client, other: Client, cluster: RecipeCluster, give_up: str
) -> None:
    await other.lock("b").acquire()
    locks = locked(client, "a", "b", timeout=1.0)

    async def use() -> None:
        async with locks:
            raise AssertionError("b is held")

    using = asyncio.create_task(use())
    await asyncio.sleep(0.5)
    assert len(cluster.store.tokens(b"a")) == 1
    if give_up == "cancel":
        using.cancel()
    with pytest.raises(LockNotAcquired if give_up == "timeout" else asyncio.CancelledError):
        await using
    await until(lambda: cluster.store.tokens(b"a") == [])
    assert len(cluster.store.tokens(b"b")) == 1
    await asyncio.wait_for(client.lock("a").acquire(), 1.0)


@pytest.mark.parametrize("after_s", [0.0, 0.0005, 0.001, 0.0015, 0.002])
async def test_a_cancellation_while_they_are_given_back_leaves_none_behind(
    client: Client, other: Client, cluster: RecipeCluster, after_s: float
) -> None:
    await other.lock("d").acquire()
    acquiring = asyncio.create_task(locked(client, "a", "b", "c", "d").acquire(timeout=1.0))
    await asyncio.sleep(1.0 + after_s)
    acquiring.cancel()
    await asyncio.wait([acquiring])
    await until(lambda: not any(cluster.store.tokens(name) for name in (b"a", b"b", b"c")))
    async with asyncio.timeout(1.0), locked(client, "a", "b", "c"):
        pass


async def test_a_release_that_is_cancelled_at_once_goes_on(
    client: Client, cluster: RecipeCluster
) -> None:
    locks = await locked(client, "a", "b").acquire()
    releasing = asyncio.create_task(locks.release())
    await asyncio.sleep(0)
    releasing.cancel()
    await asyncio.wait([releasing])
    await until(lambda: not any(cluster.store.tokens(name) for name in (b"a", b"b")))
    assert not await locks.release()


async def test_on_lost_is_called_for_each_lock_that_is_lost(
    client: Client, cluster: RecipeCluster
) -> None:
    reported: list[bool] = []
    locks = await locked(client, "a", "b").acquire()
    locks.on_lost(lambda: reported.append(True))
    cluster.go_down()
    await asyncio.sleep(10.0)
    assert reported == [True, True]


async def test_losing_them_cancels_the_block_once_and_ends_as_lock_lost(
    client: Client, cluster: RecipeCluster
) -> None:
    async def use() -> None:
        async with locked(client, "a", "b", "c"):
            cluster.go_down()
            await asyncio.Event().wait()

    using = asyncio.create_task(use())
    with pytest.raises(LockLost):
        await using
    assert using.cancelling() == 0


async def test_a_loss_while_waiting_for_the_next_one_gives_up_all(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    await other.lock("b", ttl=60.0).acquire()
    waiting = asyncio.create_task(locked(client, "a", "b", ttl=5.0).acquire())
    await asyncio.sleep(0.5)
    cluster.go_down()
    with pytest.raises(LockLost):
        await waiting
    cluster.come_up()
    await until(lambda: cluster.store.tokens(b"a") == [])


async def test_no_names_are_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest):
        locked(client)


async def test_without_an_answer_no_holder_is_claimed(
    client: Client, cluster: RecipeCluster
) -> None:
    cluster.go_down()
    with pytest.raises(DeadlineExceeded, match=r"^a of 2 locks was not acquired within 1 s"):
        await locked(client, "a", "b").acquire(timeout=1.0)
    cluster.come_up()


async def test_the_task_that_waits_for_an_acquire_in_another_task_owns_the_locks(
    client: Client,
) -> None:
    locks = await asyncio.wait_for(locked(client, "a", "b").acquire(), 1.0)
    with pytest.raises(LockReentered):
        await asyncio.wait_for(client.lock("b").acquire(), 1.0)
    assert await locks.release()
    await asyncio.wait_for(client.lock("b").acquire(), 1.0)

"""Barriers hold all and let all go; double barriers begin and end for all together."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.client import Client
from raftkv.errors import DeadlineExceeded, LockLost, LockNotAcquired, RaftkvError, SizeMismatch
from raftkv.recipes import Barrier, DoubleBarrier
from tests.recipes.conftest import Connect
from tests.recipes.recipe_cluster import RecipeCluster, until


async def test_a_caller_of_wait_waits_until_the_barrier_is_released(
    client: Client, other: Client
) -> None:
    barrier = Barrier(client, "b")
    await barrier.wait(timeout=1.0)
    assert await barrier.hold()
    assert not await Barrier(other, "b").hold()
    waiting = [asyncio.create_task(Barrier(other, "b").wait()) for _ in range(5)]
    await asyncio.sleep(1.0)
    assert not any(task.done() for task in waiting)
    with pytest.raises(DeadlineExceeded):
        await barrier.wait(timeout=0.5)
    assert await barrier.release()
    assert not await barrier.release()
    await asyncio.wait_for(asyncio.gather(*waiting), 1.0)


async def test_a_barrier_released_and_set_up_again_releases_its_waiters(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    await Barrier(client, "b").hold()
    waiting = asyncio.create_task(Barrier(other, "b").wait())
    await asyncio.sleep(0.1)
    cluster.store.run(delete_range={"key": b"b"})
    cluster.store.run(put={"key": b"b"})
    await asyncio.wait_for(waiting, 1.0)


async def test_a_waiter_survives_the_node_that_it_watches_at(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    await Barrier(client, "b").hold()
    waiting = asyncio.create_task(Barrier(other, "b").wait())
    await until(lambda: any(host.streams for host in cluster.hosts.values()))
    (host,) = [host for host in cluster.hosts.values() if host.streams]
    cluster.kill(host.address)
    await Barrier(client, "b").release()
    await asyncio.wait_for(waiting, 10.0)


# ---- double ----------------------------------------------------------------------------


async def test_all_enter_together_and_leave_together_round_after_round(
    connect: Connect, cluster: RecipeCluster
) -> None:
    clients = [await connect() for _ in range(3)]
    rounds = [0, 0, 0]

    async def member(number: int) -> None:
        barrier = DoubleBarrier(clients[number], "d", 3)
        for mine in range(1, 6):
            rounds[number] = mine
            async with barrier:
                assert rounds == [mine] * 3
                await asyncio.sleep(0.1 * number)

    async with asyncio.timeout(60.0):
        await asyncio.gather(*(member(number) for number in range(3)))
    assert cluster.store.keys_of(b"d/") == [b"d/size"]


async def test_no_member_goes_on_before_the_last_has_left(client: Client, other: Client) -> None:
    first, second = DoubleBarrier(client, "d", 2), DoubleBarrier(other, "d", 2)
    await asyncio.gather(first.enter(), second.enter())
    leaving = asyncio.create_task(first.leave())
    await asyncio.sleep(1.0)
    assert not leaving.done()
    with pytest.raises(DeadlineExceeded):
        await second.leave(timeout=0.0005)  # less than a message takes
    await asyncio.wait_for(leaving, 1.0)


async def test_one_too_many_waits_for_the_next_round(client: Client, other: Client) -> None:
    members = [DoubleBarrier(client, "d", 2) for _ in range(4)]
    late = [asyncio.create_task(members[2].enter())]
    await asyncio.sleep(0.1)
    await members[0].enter()
    await late[0]
    late = [asyncio.create_task(member.enter()) for member in (members[1], members[3])]
    await asyncio.sleep(1.0)
    assert not any(task.done() for task in late)
    await asyncio.gather(members[0].leave(), members[2].leave())
    await asyncio.wait_for(asyncio.gather(*late), 1.0)


async def test_a_member_that_dies_before_all_are_there_does_not_count(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    dead = asyncio.create_task(DoubleBarrier(client, "d", 2).enter())
    await until(lambda: len(cluster.store.tokens(b"d/members")) == 1)
    cluster.store.run(delete_range={"key": cluster.store.keys_of(b"d/members/")[0]})
    with pytest.raises(LockNotAcquired):
        await DoubleBarrier(other, "d", 2).enter(timeout=1.0)
    assert await asyncio.gather(
        DoubleBarrier(other, "d", 2).enter(), DoubleBarrier(other, "d", 2).enter()
    )
    with pytest.raises(LockLost):
        await dead


async def test_a_member_that_dies_inside_counts_as_one_that_has_left(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    dead, alive = DoubleBarrier(client, "d", 2, ttl=5.0), DoubleBarrier(other, "d", 2, ttl=6.0)
    await asyncio.gather(dead.enter(), alive.enter())
    leaving = asyncio.create_task(alive.leave())
    await asyncio.sleep(1.0)
    assert not leaving.done()
    assert dead._hold is not None
    cluster.store.run(lease_revoke={"lease": dead._hold._entry.lease.id})
    await asyncio.wait_for(leaving, 1.0)


async def test_a_round_of_which_all_died_does_not_stop_the_next(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    await asyncio.gather(*(DoubleBarrier(client, "d", 2).enter() for _ in range(2)))
    for key in cluster.store.keys_of(b"d/members/"):
        cluster.store.run(delete_range={"key": key})
    assert b"d/round" in cluster.store.keys_of(b"d/")
    members = [DoubleBarrier(other, "d", 2) for _ in range(2)]
    await asyncio.wait_for(asyncio.gather(*(member.enter() for member in members)), 1.0)


async def test_members_that_wait_for_a_round_to_end_see_all_of_it_die(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    await asyncio.gather(*(DoubleBarrier(client, "d", 2).enter() for _ in range(2)))
    members = [DoubleBarrier(other, "d", 2, ttl=60.0) for _ in range(2)]
    entering = asyncio.gather(*(member.enter() for member in members))
    await until(lambda: len(cluster.store.tokens(b"d/members")) == 4)
    await asyncio.sleep(0.1)
    for key in cluster.store.keys_of(b"d/members/")[:2]:
        cluster.store.run(delete_range={"key": key})
    await asyncio.wait_for(entering, 1.0)


async def test_another_count_is_a_mismatch_and_misuse_raises(client: Client) -> None:
    alone = DoubleBarrier(client, "d", 1)
    with pytest.raises(LockLost):
        await alone.leave()
    await alone.enter()
    with pytest.raises(LockLost):
        await alone.enter()
    with pytest.raises(SizeMismatch):
        await DoubleBarrier(client, "d", 2).enter()


@pytest.mark.parametrize("after_s", [0.05, 0.11, 0.23, 0.31])
async def test_rounds_go_on_over_failures_of_the_cluster(
    connect: Connect, cluster: RecipeCluster, after_s: float
) -> None:
    clients = [await connect() for _ in range(3)]
    inside: list[int] = []

    async def member(number: int) -> None:
        for mine in range(4):
            try:
                async with DoubleBarrier(clients[number], "d", 3):
                    inside.append(mine)
                    await asyncio.sleep(0.05)
            except RaftkvError as error:
                raise AssertionError("an outage shorter than the lease is not noticed") from error

    async def disturb() -> None:
        await asyncio.sleep(after_s)
        cluster.kill("a:1")
        cluster.go_down()
        await asyncio.sleep(2.0)
        cluster.come_up()

    async with asyncio.timeout(60.0):
        await asyncio.gather(disturb(), *(member(number) for number in range(3)))
    assert inside == sorted(inside)
    assert len(inside) == 12

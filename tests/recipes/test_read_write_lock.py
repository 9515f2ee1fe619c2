"""Many readers or one writer, first come first served, and only writers' tokens fence."""

from __future__ import annotations

import asyncio
import random

import pytest

from raftkv.client.client import Client
from raftkv.errors import (
    FencedOff,
    InvalidRequest,
    LockLost,
    LockNotAcquired,
    LockReentered,
    RaftkvError,
)
from raftkv.recipes import ReadWriteLock, SharedLock
from tests.recipes.conftest import Connect
from tests.recipes.recipe_cluster import RecipeCluster, until


async def test_readers_share_and_a_writer_waits_for_all_of_them(
    client: Client, other: Client
) -> None:
    first, second = ReadWriteLock(client, "n").read(), ReadWriteLock(other, "n").read()
    await first.acquire()
    await second.acquire(timeout=1.0)

    async def write() -> None:
        await ReadWriteLock(other, "n").write().acquire()

    writer = asyncio.create_task(write())
    await first.release()
    await asyncio.sleep(1.0)
    assert not writer.done()
    await second.release()
    await asyncio.wait_for(writer, 1.0)


async def test_a_reader_that_comes_after_a_waiting_writer_waits_for_it(
    client: Client, other: Client, connect: Connect
) -> None:
    third = await connect()
    reading = await ReadWriteLock(client, "n").read().acquire()
    order: list[str] = []

    async def take(who: Client, mode: str) -> None:
        lock = ReadWriteLock(who, "n")
        async with lock.write() if mode == "write" else lock.read():
            order.append(mode)

    tasks = []
    for who, mode in ((other, "write"), (third, "read")):
        tasks.append(asyncio.create_task(take(who, mode)))
        await asyncio.sleep(0.1)
    assert order == []
    await reading.release()
    await asyncio.wait_for(asyncio.gather(*tasks), 1.0)
    assert order == ["write", "read"]


async def test_a_writer_that_gives_up_lets_the_readers_behind_it_in(
    client: Client, other: Client, connect: Connect
) -> None:
    third = await connect()
    await ReadWriteLock(client, "n").read().acquire()
    waiting = asyncio.create_task(ReadWriteLock(other, "n").write().acquire(timeout=1.0))
    await asyncio.sleep(0.1)
    reader = asyncio.create_task(ReadWriteLock(third, "n").read().acquire())
    await asyncio.sleep(0.1)
    assert not reader.done()
    with pytest.raises(LockNotAcquired):
        await waiting
    await asyncio.wait_for(reader, 1.0)


async def test_a_writers_token_fences_until_it_lets_go_and_a_readers_never_does(
    client: Client, other: Client
) -> None:
    lock = ReadWriteLock(client, "n")
    async with lock.write() as writer:
        await client.put("k", "1", fence=writer)
        name, token = writer.name, writer.token
    async with lock.read() as reader:
        with pytest.raises(InvalidRequest, match="fences nobody off"):
            await client.put("k", "2", fence=reader)
        with pytest.raises(FencedOff):
            await client.put("k", "2", fence=(name, reader.token))
    with pytest.raises(FencedOff):
        await other.put("k", "2", fence=(name, token))
    found = await client.get("k")
    assert found is not None
    assert found.value == b"1"


async def test_a_writer_looks_again_only_when_the_last_reader_before_it_is_gone(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    async def read() -> SharedLock:
        return await ReadWriteLock(client, "n").read().acquire()

    readers = await asyncio.gather(*(asyncio.create_task(read()) for _ in range(10)))
    writer = asyncio.create_task(ReadWriteLock(other, "n").write().acquire())
    await asyncio.sleep(0.5)
    before = len(cluster.reads)
    in_order = sorted(readers, key=lambda reader: reader.token)
    for reader in in_order[:-1]:
        await reader.release()
    await asyncio.sleep(0.5)
    assert len(cluster.reads) == before
    await in_order[-1].release()
    await asyncio.wait_for(writer, 1.0)
    assert len(cluster.reads) == before + 1


async def test_a_dead_holders_lock_goes_to_the_next_when_its_lease_ends(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    dead = await ReadWriteLock(client, "n", ttl=5.0).write().acquire()
    assert dead._hold is not None
    cluster.store.run(lease_revoke={"lease": dead._hold._entry.lease.id})
    await asyncio.wait_for(ReadWriteLock(other, "n").read().acquire(), 1.0)


async def test_try_acquire_takes_what_is_free_and_leaves_nothing_behind(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    mine, theirs = ReadWriteLock(client, "n"), ReadWriteLock(other, "n")
    reader = mine.read()
    assert await reader.try_acquire()
    assert not await theirs.write().try_acquire()
    second = theirs.read()
    assert await second.try_acquire()
    await reader.release()
    await second.release()
    writer = mine.write()
    assert await writer.try_acquire()
    assert not await theirs.read().try_acquire()
    assert not await theirs.write().try_acquire()
    await writer.release()
    await until(lambda: cluster.store.keys_of(b"n/") == [])


async def test_a_task_that_reads_may_not_wait_to_write(client: Client) -> None:
    lock = ReadWriteLock(client, "n")
    async with lock.read():
        with pytest.raises(LockReentered):
            await lock.write().acquire()


async def test_losing_the_lease_cancels_readers_writers_and_waiters(
    client: Client, other: Client, cluster: RecipeCluster
) -> None:
    inside = asyncio.Event()

    async def read() -> None:
        async with ReadWriteLock(client, "n").read():
            inside.set()
            await asyncio.Event().wait()

    reading = asyncio.create_task(read())
    await inside.wait()
    waiting = asyncio.create_task(ReadWriteLock(other, "n").write().acquire())
    await asyncio.sleep(0.1)
    cluster.go_down()
    async with asyncio.timeout(60.0):
        for task in (reading, waiting):
            with pytest.raises(LockLost):
                await task


@pytest.mark.parametrize("seed", range(12))
async def test_no_reader_holds_the_lock_beside_a_writer_under_faults(
    seed: int, connect: Connect, cluster: RecipeCluster
) -> None:
    rng = random.Random(seed)
    clients = [await connect() for _ in range(4)]
    readers, writers, done = 0, 0, 0

    async def use(who: Client) -> None:
        nonlocal readers, writers, done
        lock = ReadWriteLock(who, "n", ttl=5.0)
        for _ in range(8):
            try:
                if rng.random() < 0.4:
                    async with lock.write():
                        writers += 1
                        try:
                            assert (readers, writers) == (0, 1)
                            await asyncio.sleep(rng.random() * 0.2)
                        finally:
                            writers -= 1
                else:
                    async with lock.read():
                        readers += 1
                        try:
                            assert writers == 0
                            await asyncio.sleep(rng.random() * 0.2)
                        finally:
                            readers -= 1
                done += 1
            except RaftkvError:
                await asyncio.sleep(0.1)

    async def disturb() -> None:
        await asyncio.sleep(rng.random())
        cluster.kill("a:1")
        await asyncio.sleep(rng.random())
        cluster.go_down()
        await asyncio.sleep(rng.random() * 8)
        cluster.come_up()

    async with asyncio.timeout(300.0):
        await asyncio.gather(disturb(), *(use(who) for who in clients for _ in range(3)))
    assert done >= 4 * 3 * 6
    await until(lambda: cluster.store.keys_of(b"n/") == [])

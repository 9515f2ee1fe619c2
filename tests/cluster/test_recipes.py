"""Recipes on real processes: the leader is killed, and so are holders."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import raftkv
from raftkv.recipes import Counter, DoubleBarrier, ReadWriteLock, Semaphore, locked
from raftkv.recipes import sync as sync_recipes
from tests.cluster.cluster import Cluster, eventually

pytestmark = pytest.mark.cluster

# Holds a writer's lock and a slot, says so, and stays until it is killed.
HOLDER = """
import sys, time, raftkv
from raftkv.recipes.sync import ReadWriteLock, Semaphore
with raftkv.connect_sync(sys.argv[1]) as client:
    ReadWriteLock(client, "rw", ttl=2.0).write().acquire()
    Semaphore(client, "s", 2, ttl=2.0).slot().acquire()
    print("holds", flush=True)
    time.sleep(60)
"""


def kill_a_holder(endpoints: str) -> None:
    """A process that dies with the lock and a slot in its hands."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, endpoints], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow  # by default: tests/recipes, without processes
async def test_recipes_survive_killed_holders_and_a_killed_leader(tmp_path: Path) -> None:
    """Fenced read-modify-writes, additions and bounded admission, with a leader killed midway."""
    async with Cluster(tmp_path, 3) as cluster:
        clients = [await cluster.client() for _ in range(3)]
        await asyncio.to_thread(kill_a_holder, cluster.endpoints)
        written, added, inside = 0, 0, 0
        stopping = False

        async def write(client: raftkv.Client) -> None:
            nonlocal written
            while not stopping:
                try:
                    async with ReadWriteLock(client, "rw", ttl=8.0).write() as writer:
                        found = await client.get("k", timeout=20)
                        value = 1 + (int(found.value) if found else 0)
                        await client.put("k", str(value), fence=writer, timeout=20)
                        written += 1
                    async with ReadWriteLock(client, "rw", ttl=8.0).read():
                        first = await client.get("k", timeout=20)
                        second = await client.get("k", timeout=20)
                        assert first == second, "somebody wrote while this one read"
                except (raftkv.LockLost, raftkv.Unavailable):
                    continue

        async def share(client: raftkv.Client) -> None:
            nonlocal added, inside
            while not stopping:
                try:
                    async with Semaphore(client, "s", 2, ttl=8.0).slot():
                        inside += 1
                        assert inside <= 2
                        try:
                            await Counter(client, "c").add(timeout=20)
                            added += 1
                        finally:
                            inside -= 1
                except (raftkv.LockLost, raftkv.Unavailable):
                    continue

        workers = [
            asyncio.create_task(work(client)) for client in clients for work in (write, share)
        ]

        async def reach(goal: int) -> None:
            async def reached() -> bool:
                return min(written, added) >= goal or any(each.done() for each in workers)

            await eventually(reached, "everybody gets on", timeout_s=20.0)

        await reach(15)
        await asyncio.to_thread(cluster.nodes[await cluster.leader()].kill)
        await reach(min(written, added) + 15)
        stopping = True
        await asyncio.gather(*workers)
        found = await clients[0].get("k")
        assert found is not None
        assert int(found.value) == written
        assert await Counter(clients[0], "c").get() == added
        await asyncio.gather(*(DoubleBarrier(each, "d", 3).enter(timeout=10) for each in clients))
        await asyncio.to_thread(use_the_twins, cluster.endpoints)
        for client in clients:
            await client.close()


def use_the_twins(endpoints: str) -> None:
    with raftkv.connect_sync(endpoints) as client:
        with sync_recipes.locked(client, "b", "a") as locks:
            client.put("x", "1", fence=locks)
        with sync_recipes.ReadWriteLock(client, "twin").write() as writer:
            client.put("x", "2", fence=writer)
        slots = sync_recipes.Semaphore(client, "twin-s", 1)
        with slots.slot() as slot, pytest.raises(raftkv.InvalidRequest):
            client.put("x", "3", fence=slot)
        barrier = sync_recipes.Barrier(client, "twin-b")
        assert barrier.hold()
        assert barrier.release()
        barrier.wait()
        with sync_recipes.DoubleBarrier(client, "twin-d", 1):
            assert sync_recipes.Counter(client, "twin-c").add(2) == 2
        found = client.get("x")
        assert found is not None
        assert found.value == b"2"


async def test_the_example_of_the_package_runs(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, raftkv.connect(cluster.endpoints) as client:
        async with ReadWriteLock(client, "report").write() as writer:
            await client.put("report", "new", fence=writer)
        async with Semaphore(client, "downloads", 5).slot():
            pass
        async with locked(client, "alice", "bob") as locks:
            await client.put("alice", "5", fence=locks)
        assert await Counter(client, "visits").add(1) == 1

"""Locks on real processes: leaders are killed, holders are paused and die."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import raftkv
from tests.cluster.cluster import Cluster, eventually

pytestmark = pytest.mark.cluster

# Takes the lock, tells its token, and stays. What it writes afterwards carries the old token.
HOLDER = """
import asyncio, sys, raftkv

async def main() -> None:
    async with raftkv.connect(sys.argv[1]) as client:
        lock = await client.lock("n", ttl=float(sys.argv[2])).acquire()
        token = lock.token
        print(token, flush=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, sys.stdin.readline)
        print("held" if lock.remaining() else "lost", flush=True)
        try:
            await client.put("k", "stale", fence=("n", token))
            print("written", flush=True)
        except raftkv.FencedOff:
            print("fenced off", flush=True)

asyncio.run(main())
"""


class Holder:
    """A process that holds the lock."""

    def __init__(self, endpoints: str, ttl_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, endpoints, str(ttl_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.to_thread(self.process.stdout.readline)).strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.mark.slow
async def test_one_holder_at_a_time_and_no_write_is_lost_when_leaders_are_killed(
    tmp_path: Path,
) -> None:
    """Each holder adds one to a counter by a plain read and a fenced write."""
    async with Cluster(tmp_path, 3) as cluster:
        clients = [await cluster.client() for _ in range(3)]
        added, stopping = 0, False
        tokens: list[int] = []

        async def work(client: raftkv.Client) -> None:
            nonlocal added
            while not stopping:
                try:
                    async with client.lock("n", ttl=5.0) as lock:
                        found = await client.get("counter", timeout=20)
                        tokens.append(lock.token)
                        value = 1 + (int(found.value) if found else 0)
                        await client.put("counter", str(value), fence=lock, timeout=20)
                        added += 1
                except (raftkv.LockLost, raftkv.FencedOff, raftkv.Unavailable):
                    continue

        workers = [asyncio.create_task(work(client)) for client in clients for _ in range(2)]
        for _ in range(2):
            goal = added + 30

            async def reached(goal: int = goal) -> bool:
                return added >= goal or any(each.done() for each in workers)

            await eventually(reached, "the counter moves on")
            leader = await cluster.leader()
            cluster.nodes[leader].kill()
            goal = added + 30
            await eventually(lambda goal=goal: reached(goal), "it survives its leader")
            cluster.start(leader)
            await cluster.ready(leader)
        stopping = True
        await asyncio.gather(*workers)
        found = await clients[0].get("counter")
        assert found is not None
        assert int(found.value) == added
        assert tokens == sorted(set(tokens))
        for client in clients:
            await client.close()


async def test_a_holder_that_was_paused_too_long_is_fenced_and_learns_of_its_loss(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        holder = Holder(cluster.endpoints, 1.0)
        try:
            token = int(await holder.line())
            holder.process.send_signal(signal.SIGSTOP)
            async with client.lock("n", ttl=5.0) as lock:
                assert lock.token > token
                await client.put("k", "fresh", fence=lock)
                holder.process.send_signal(signal.SIGCONT)
                holder.go_on()
                assert await holder.line() == "lost"
                assert await holder.line() == "fenced off"
            found = await client.get("k")
            assert found is not None
            assert found.value == b"fresh"
        finally:
            holder.end()


@pytest.mark.parametrize("leader_dies", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_a_dead_holders_lock_is_free_after_its_ttl_and_not_before(
    tmp_path: Path, leader_dies: bool
) -> None:
    ttl_s, election_s = 4.0, 2.0
    # On a busy machine a renewal is late, and so is what the end of the TTL leads to.
    late_s, patience_s = 1.5, 5.0
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        holder = Holder(cluster.endpoints, ttl_s)
        try:
            await holder.line()
            waiting = asyncio.create_task(client.lock("n", ttl=10.0).acquire())
            await asyncio.sleep(ttl_s)  # renewed meanwhile: it does not end
            assert not waiting.done()
            renewal_s = ttl_s / 3
            died_at = time.monotonic()
            holder.process.kill()
            if leader_dies:
                cluster.nodes[await cluster.leader()].kill()
            lock = await waiting
            took_s = time.monotonic() - died_at
            assert took_s >= ttl_s - renewal_s - late_s, "its last renewal gave it the whole TTL"
            assert took_s <= ttl_s + (election_s if leader_dies else 0.0) + patience_s
            await lock.release()
        finally:
            holder.end()


async def test_a_lock_that_is_kept_alive_outlives_leaders(tmp_path: Path) -> None:
    async with (
        Cluster(tmp_path, 3) as cluster,
        cluster.client() as client,
        client.lock("n", ttl=5.0) as lock,
    ):
        token = lock.token
        for _ in range(2):
            leader = await cluster.leader()
            cluster.nodes[leader].kill()
            await client.put("k", "v", fence=lock, timeout=20)
            cluster.start(leader)
            await cluster.ready(leader)
        assert lock.token == token
        info = await client.lock_info("n")
        assert info.holder is not None
        assert info.holder.token == token


async def test_waiters_are_served_in_order_while_the_node_they_wait_at_dies(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        first = await client.lock("n", ttl=10.0).acquire()
        tokens: list[int] = []

        async def use() -> None:
            async with client.lock("n", ttl=10.0) as lock:
                tokens.append(lock.token)

        users = [asyncio.create_task(use()) for _ in range(20)]

        async def all_wait() -> bool:
            return len((await client.lock_info("n")).waiters) == 20

        await eventually(all_wait, "all wait")
        expected = [member.token for member in (await client.lock_info("n")).waiters]
        cluster.nodes[await cluster.leader()].kill()
        await first.release()
        await asyncio.gather(*users)
        assert tokens == expected

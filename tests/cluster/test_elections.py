"""Elections on real processes: nodes die, candidates die, are paused and partitioned."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import raftkv
from jepsen_lite.ports import free_ports
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.proxy import Network, PeerProxy

pytestmark = pytest.mark.cluster

# Wins the named elections and stays; says so, and since when it had campaigned, or that it lost.
CANDIDATE = """
import asyncio, sys, time, raftkv

async def main() -> None:
    async with raftkv.connect(sys.argv[1]) as client:
        won = []
        for name in sys.argv[3:]:
            election = client.election(name, ttl=float(sys.argv[2]))
            while True:
                came_at = time.monotonic()
                try:
                    won.append(await election.campaign("a process"))
                    print("leads", end=" ")  # whatever its token says
                    print(won[-1].token, came_at, flush=True)
                    break
                except raftkv.LockLost:
                    print("lost", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class CandidateProcess:
    """A process that campaigns for each of the names in turn."""

    def __init__(self, endpoints: str, ttl_s: float, *names: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CANDIDATE, endpoints, str(ttl_s), *names],
            stdout=subprocess.PIPE,
            text=True,
        )

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.to_thread(self.process.stdout.readline)).strip()

    async def leads(self) -> tuple[int, float]:
        """The token of the next election that it wins, and when it had begun to campaign."""
        said, token, came_at = (await self.line()).split()
        assert said == "leads"
        return int(token), float(came_at)

    def __enter__(self) -> CandidateProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Observer:
    """Records everything that `observe` yields, with the time."""

    def __init__(self, client: raftkv.Client, name: str) -> None:
        self.told: list[raftkv.LeaderInfo | None] = []
        self.told_at: list[float] = []
        self._task = asyncio.create_task(self._observe(client.election(name)))

    async def _observe(self, election: raftkv.Election) -> None:
        async with contextlib.aclosing(election.observe()) as leaders:
            async for leader in leaders:
                self.told.append(leader)
                self.told_at.append(time.monotonic())

    async def hear(self, token: int | None) -> None:
        """Wait until it has seen this leader, or none."""

        async def heard() -> bool:
            if self._task.done():
                self._task.result()
            return bool(self.told) and _token(self.told[-1]) == token

        await eventually(heard, f"an observer is told of {token}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def all_hear(observers: list[Observer], token: int | None) -> None:
    for observer in observers:
        await observer.hear(token)


@asynccontextmanager
async def observed(cluster: Cluster, name: str, *node_ids: int) -> AsyncIterator[list[Observer]]:
    """An observer at each of these nodes; all of them have seen that there is no leader."""
    async with contextlib.AsyncExitStack() as stack:
        observers = []
        for node_id in node_ids:
            client = await stack.enter_async_context(cluster.client(node_id))
            observers.append(Observer(client, name))
            stack.push_async_callback(observers[-1].close)
            await observers[-1].hear(None)
        yield observers


def _token(leader: raftkv.LeaderInfo | None) -> int | None:
    return leader.token if leader else None


async def history(client: raftkv.Client, name: str) -> list[raftkv.LeaderInfo | None]:
    """Who led as the store's state was at each revision: the truth, with no watch in it."""
    last = (await client.put("last")).revision
    states = await asyncio.gather(
        *(
            client.range(f"{name}/", f"{name}0", limit=1, revision=revision)
            for revision in range(1, last + 1)
        )
    )
    leaders = [
        raftkv.LeaderInfo(kv.create_revision, kv.value, kv.key, kv.lease) if kv else None
        for kv in (next(iter(state.kvs), None) for state in states)
    ]
    return [leader for leader, _ in itertools.groupby(leaders)]


async def waiting(client: raftkv.Client, name: str, count: int) -> None:
    """Wait until so many candidates do."""

    async def all_wait() -> bool:
        return len((await client.lock_info(name)).waiters) == count

    await eventually(all_wait, f"{count} wait for {name}")


class Candidates:
    """Clients that lead in turn and record their values; after each round there is no leader."""

    def __init__(self, clients: list[raftkv.Client], name: str) -> None:
        self.rounds = 0
        self.said: list[tuple[int, bytes]] = []
        self._clients = clients
        self._name = name
        self._stopping = False
        self._task = asyncio.create_task(self._go_round())

    async def _go_round(self) -> None:
        while not self._stopping:
            await asyncio.gather(*(self._lead(client) for client in self._clients))
            self.rounds += 1

    async def _lead(self, client: raftkv.Client) -> None:
        async with await client.election(self._name).campaign("elected") as leadership:
            self.said.append((leadership.token, b"elected"))
            for value in (b"at work", b"done"):
                await leadership.proclaim(value, timeout=20)
                self.said.append((leadership.token, value))

    async def more(self, rounds: int = 5) -> None:
        """Wait until all have led so many times more."""
        goal = self.rounds + rounds

        async def reached() -> bool:
            if self._task.done():
                self._task.result()
            return self.rounds >= goal

        await eventually(reached, f"{rounds} more rounds of leaders")

    async def stop(self) -> None:
        self._stopping = True
        await self._task


async def test_observers_see_every_leader_in_order_while_raft_leaders_are_killed(
    tmp_path: Path,
) -> None:
    """Each observer has one node only; it receives later what it misses while that is down."""
    async with Cluster(tmp_path, 3) as cluster:
        clients = [await cluster.client() for _ in range(3)]
        async with observed(cluster, "e", 1, 2, 3) as observers:
            candidates = Candidates(clients, "e")
            await candidates.more()
            for _ in range(2):
                leader = await cluster.leader()
                cluster.nodes[leader].kill()
                cluster.start(leader)
                await candidates.more()
                await cluster.ready(leader)
            await candidates.stop()
            last = await clients[0].election("e").campaign("last")
            await all_hear(observers, last.token)
            truth = await history(clients[0], "e")
            for observer in observers:
                assert observer.told == truth
        said = [(leader.token, leader.value) for leader in truth if leader]
        assert said == [*candidates.said, (last.token, b"last")]
        assert truth.count(None) > candidates.rounds
        for client in clients:
            await client.close()


async def death_of_a_leader(
    cluster: Cluster, client: raftkv.Client, ttl_s: float, follows_s: float, *, node_dies: bool
) -> None:
    """Kill a process that leads where another candidate waits and where none does.

    Observers are to be told what follows within `follows_s`.
    """
    node = await cluster.leader()
    others = [node_id for node_id in cluster.nodes if node_id != node]
    awaited, empty = f"awaited/{node_dies}", f"empty/{node_dies}"
    async with (
        observed(cluster, awaited, *others) as told_of_next,
        observed(cluster, empty, *others) as told_of_nobody,
    ):
        with CandidateProcess(cluster.endpoints, ttl_s, awaited, empty) as dying:
            token, came_at = await dying.leads()  # both on the lease that it took then
            await all_hear(told_of_next, token)
            token, _ = await dying.leads()
            await all_hear(told_of_nobody, token)
            campaign = asyncio.create_task(client.election(awaited).campaign("next"))
            await waiting(client, awaited, 1)
            died_at = time.monotonic()
        if node_dies:
            cluster.nodes[node].kill()
        await all_hear(told_of_next, (await campaign).token)
        await all_hear(told_of_nobody, None)
    for observer in (*told_of_next, *told_of_nobody):
        assert len(observer.told) == 3, "nobody, the dead one, and what follows"
        assert observer.told_at[-1] >= came_at + ttl_s
        assert observer.told_at[-1] <= died_at + follows_s


@pytest.mark.slow
async def test_a_dead_leader_is_followed_after_its_ttl_and_not_before(tmp_path: Path) -> None:
    """Alone, and along with Raft's leader."""
    ttl_s, election_s = 1.2, 2.0
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        await death_of_a_leader(cluster, client, ttl_s, ttl_s + 1.0, node_dies=False)
        await death_of_a_leader(cluster, client, ttl_s, ttl_s + election_s + 1.0, node_dies=True)


@asynccontextmanager
async def cut_off_at_will(cluster: Cluster, node_id: int) -> AsyncIterator[tuple[str, Network]]:
    """An address of that node for a client of this process, and what cuts it off from there."""
    (port,) = free_ports(1)
    _, target_port = cluster.nodes[node_id].client_address.split(":")
    network = Network()
    here = 0
    proxy = PeerProxy(node_id, port, int(target_port), network, lambda: {here: os.getpid()})
    await proxy.start()
    try:
        yield f"127.0.0.1:{port}", network
    finally:
        network.heal()
        await proxy.stop()


async def test_a_candidate_whose_lease_expired_while_paused_never_leads(tmp_path: Path) -> None:
    """One process sleeps and one client is cut off. Both are the next to lead for as long as
    their leases live, and neither can know.
    """
    ttl_s = 1.0
    async with (
        Cluster(tmp_path, 3) as cluster,
        cluster.client() as client,
        observed(cluster, "e", 1, 2) as observers,
        cut_off_at_will(cluster, 3) as (address, network),
        raftkv.connect(address, settings=raftkv.ClientSettings(follow_members=False)) as cut_off,
    ):
        first = await client.election("e").campaign("first")
        with CandidateProcess(cluster.endpoints, ttl_s, "e") as asleep:
            await waiting(client, "e", 1)
            campaign = asyncio.create_task(cut_off.election("e", ttl=ttl_s).campaign("cut off"))
            await waiting(client, "e", 2)
            sleeper, _ = (await client.lock_info("e")).waiters
            network.isolate(3, {0})
            asleep.process.send_signal(signal.SIGSTOP)
            await first.resign()
            await all_hear(observers, sleeper.token)
            await all_hear(observers, None)
            with pytest.raises(raftkv.LockLost):
                await asyncio.wait_for(campaign, 2 * ttl_s)
            last = await client.election("e").campaign("last")
            network.heal()
            campaign = asyncio.create_task(cut_off.election("e", ttl=ttl_s).campaign("back"))
            await waiting(client, "e", 1)
            asleep.process.send_signal(signal.SIGCONT)
            assert await asleep.line() == "lost"
            await waiting(client, "e", 2)
            after = [last.token]
            await last.resign()
            async with await campaign as back:
                after.append(back.token)
            woken, _ = await asleep.leads()
            await all_hear(observers, woken)
            truth = await history(client, "e")
            for observer in observers:
                assert observer.told == truth
        assert [_token(leader) for leader in truth][-4:] == [None, *after, woken]

"""Read levels keep their guarantees while leaders are partitioned and paused."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import raftkv
from raftkv import ReadLevel, bounded
from raftkv.client.model.read_levels import Level
from tests.cluster.cluster import Cluster, eventually

pytestmark = pytest.mark.cluster

BOUND_S = 0.3
LEADERS_ONLY = [ReadLevel.LINEARIZABLE, ReadLevel.LEADER_LEASE]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, 3, proxied=True, settings="--set leader_lease=true") as made:
        yield made


class Counter:
    """Counts up in key `n` as fast as it can; knows when each value had been acknowledged."""

    def __init__(self, client: raftkv.Client) -> None:
        self.acknowledged: list[float] = []
        self._client = client
        self._task = asyncio.create_task(self._count())

    async def _count(self) -> None:
        while True:
            await self._client.put("n", str(len(self.acknowledged)), timeout=20.0)
            self.acknowledged.append(time.monotonic())

    async def more(self, count: int = 20) -> None:
        goal = len(self.acknowledged) + count

        async def reached() -> bool:
            return len(self.acknowledged) >= goal

        await eventually(reached, f"{count} more writes are acknowledged")

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def check(self, reading: raftkv.Reading, asked_at: float, age_s: float) -> None:
        """What was acknowledged `age_s` before the read was asked for must be in it."""
        value = int(reading.kv.value) if reading.kv else -1
        if value + 1 < len(self.acknowledged):
            next_at = self.acknowledged[value + 1]
            assert next_at >= asked_at - age_s, (
                f"value {value} was replaced {asked_at - next_at:.3f} s before the read: {reading}"
            )


async def read_on(
    client: raftkv.Client, level: Level, counter: Counter, age_s: float, until: asyncio.Event
) -> tuple[int, int]:
    """Read without pause and check each answer; how many were answered and how many refused."""
    answered = refused = 0
    while not until.is_set():
        asked_at = time.monotonic()
        try:
            reading = await client.read("n", level=level, timeout=0.5)
        except raftkv.Unavailable:
            refused += 1
            continue
        answered += 1
        counter.check(reading, asked_at, age_s)
    return answered, refused


@pytest.mark.parametrize("fault", [pytest.param("cut off", marks=pytest.mark.slow), "paused"])
async def test_a_deposed_leader_answers_no_linearizable_or_lease_read(
    cluster: Cluster, fault: str
) -> None:
    deposed = await cluster.leader()
    others = [node for node in cluster.nodes if node != deposed]
    async with cluster.client(*others) as majority, cluster.client(deposed) as minority:
        await majority.put("n", "-1")
        counter, done = Counter(majority), asyncio.Event()
        readers = [
            asyncio.create_task(read_on(minority, level, counter, 0.0, done))
            for level in LEADERS_ONLY
            for _ in range(5)
        ]
        await counter.more()
        if fault == "cut off":
            cluster.network.isolate(deposed, set(cluster.nodes))
            await counter.more()  # a new leader commits
        else:
            cluster.nodes[deposed].send(signal.SIGSTOP)
            await counter.more()
            cluster.nodes[deposed].send(signal.SIGCONT)
            await counter.more()
        done.set()
        counts = await asyncio.gather(*readers)
        await counter.stop()
    assert all(answered for answered, _ in counts)


async def test_a_bounded_read_is_never_staler_than_its_bound_on_a_partitioned_node(
    cluster: Cluster,
) -> None:
    leader = await cluster.leader()
    cut_off, other = (node for node in cluster.nodes if node != leader)
    async with cluster.client(leader, other) as majority, cluster.client(cut_off) as minority:
        counter, done = Counter(majority), asyncio.Event()
        await counter.more()
        reader = asyncio.create_task(read_on(minority, bounded(BOUND_S), counter, BOUND_S, done))
        await counter.more()
        cluster.network.isolate(cut_off, set(cluster.nodes))

        async def too_stale() -> bool:
            try:
                await minority.get("n", level=bounded(BOUND_S), timeout=0.5)
            except raftkv.TooStale:
                return True
            return False

        await eventually(too_stale, "a bounded read is refused as too stale")
        stale = await minority.read("n", level=ReadLevel.STALE)
        assert stale.staleness is not None
        assert stale.staleness > BOUND_S
        fallen_back = await minority.read("n", fallback="stale", timeout=1.0)
        assert (fallen_back.fallback, fallen_back.node) == (True, cut_off)
        cluster.network.heal()
        await minority.get("n", level=bounded(BOUND_S), timeout=20.0)
        done.set()
        answered, refused = await reader
        await counter.stop()
    assert answered
    assert refused


@pytest.mark.parametrize(
    "seen_by", ["its own write", pytest.param("a stale read", marks=pytest.mark.slow)]
)
async def test_a_session_reads_its_last_revision_at_the_next_follower(
    cluster: Cluster, seen_by: str
) -> None:
    leader = await cluster.leader()
    followers = {node for node in cluster.nodes if node != leader}
    async with cluster.client(leader) as writer, cluster.client(*followers) as client:
        await writer.put("k", "old")
        first = (await client.read("k")).node
        (second,) = followers - {first}

        async def has_applied(node: int, value: bytes) -> bool:
            async with cluster.client(node) as direct:
                kv = await direct.get("k", level=ReadLevel.STALE)
                return kv is not None and kv.value == value

        await eventually(lambda: has_applied(second, b"old"), "the second follower has it")
        cluster.network.isolate(second, set(cluster.nodes))
        await writer.put("k", "new")
        if seen_by == "its own write":
            await client.put("k", "new")
        else:
            await eventually(lambda: has_applied(first, b"new"), "the first follower has it")
            assert (await client.get("k", level=ReadLevel.STALE)).value == b"new"
        cluster.nodes[first].kill()
        session = asyncio.create_task(client.read("k", level=ReadLevel.SESSION, timeout=20.0))

        async def still_old() -> bool:
            return await has_applied(second, b"old")

        await eventually(still_old, "the second follower has no news")
        assert not session.done()
        cluster.network.heal()
        reading = await session
        assert (reading.node, reading.kv.value) == (second, b"new")

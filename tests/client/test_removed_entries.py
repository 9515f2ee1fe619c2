"""Another client deletes a holder's key or revokes its lease: the holder stops; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from raftkv.client.client import Client
from raftkv.client.coordination import queue_entry
from raftkv.client.coordination.election import Leadership
from raftkv.client.coordination.lock import Lock
from raftkv.client.coordination.queue_entry import WATCHED_AFTER_S
from raftkv.client.watch.watch import Watch
from raftkv.errors import LockLost
from tests.client.conftest import Connect
from tests.client.lock_cluster import LockCluster

TTL = 30.0
PROMISED_S = 1.0
WHY = "its key was deleted or its lease was revoked by another client"


@pytest.fixture
async def cluster() -> LockCluster:
    return LockCluster("a:1", "b:2", "c:3")


@pytest.fixture
async def other(connect: Connect) -> Client:
    return await connect()


def delete(cluster: LockCluster, key: bytes) -> None:
    assert cluster.store.run(delete_range={"key": key}).delete_range.deleted == 1


def revoke(cluster: LockCluster, key: bytes) -> None:
    (lease,) = [
        each for each in cluster.machine.leases() if key in cluster.machine.lease_keys(each)
    ]
    cluster.store.run(lease_revoke={"lease": lease})


Remove = Callable[[LockCluster, bytes], None]


@asynccontextmanager
async def locked(client: Client) -> AsyncIterator[Lock]:
    async with client.lock("n", ttl=TTL) as lock:
        yield lock


@asynccontextmanager
async def leading(client: Client) -> AsyncIterator[Leadership]:
    async with await client.election("n", ttl=TTL).campaign("me") as leadership:
        yield leadership


def watched_by(client: Client) -> int:
    return len(client._watches._watches)


def watched_at(cluster: LockCluster) -> int:
    return sum(host.service._synced.watcher_count for host in cluster.hosts.values())


@pytest.mark.parametrize("held_s", [0.0, 0.25, 5.0])
@pytest.mark.parametrize("remove", [delete, revoke])
@pytest.mark.parametrize("hold", [locked, leading])
async def test_a_holder_whose_key_is_removed_is_cancelled_within_a_second(
    client: Client, cluster: LockCluster, hold: Callable[..., object], remove: Remove, held_s: float
) -> None:
    removed_at, stopped_at, reported_at = 0.0, 0.0, 0.0

    def report() -> None:
        nonlocal reported_at
        reported_at = cluster.loop.time()

    async def work() -> None:
        nonlocal removed_at, stopped_at
        async with hold(client) as held:  # type: ignore[attr-defined]
            held.on_lost(report)
            await asyncio.sleep(held_s)
            removed_at = cluster.loop.time()
            remove(cluster, held.key)
            try:
                await asyncio.Event().wait()
            finally:
                stopped_at = cluster.loop.time()
                assert held.remaining() == 0
                with pytest.raises(LockLost, match=WHY):
                    held.check()
                with pytest.raises(LockLost, match=WHY):
                    assert held.token

    with pytest.raises(LockLost, match=WHY):
        await work()
    assert removed_at <= reported_at <= stopped_at <= removed_at + PROMISED_S
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("remove", [delete, revoke])
async def test_a_lock_whose_key_was_removed_is_acquired_again_by_its_owner(
    client: Client, other: Client, cluster: LockCluster, remove: Remove
) -> None:
    lock = await client.lock("n", ttl=TTL).acquire()
    first = lock.token
    await asyncio.sleep(1.0)
    remove(cluster, lock.key)
    await asyncio.sleep(PROMISED_S)
    assert await other.lock("n").try_acquire()
    again = asyncio.create_task(lock.acquire(timeout=5.0))
    await asyncio.sleep(0.1)
    assert not again.done()
    delete(cluster, b"n/%016x" % cluster.store.tokens(b"n")[0])
    await again
    assert lock.token > first
    assert cluster.store.tokens(b"n") == [lock.token]


async def test_the_other_entries_of_the_lease_stay_when_one_key_is_deleted(
    client: Client, cluster: LockCluster
) -> None:
    lost: list[bytes] = []
    one, two = [await client.lock(name, ttl=TTL).acquire() for name in ("m", "n")]
    for lock in (one, two):
        lock.on_lost(lambda lock=lock: lost.append(lock.name))  # type: ignore[misc]
    await asyncio.sleep(1.0)
    delete(cluster, one.key)
    await asyncio.sleep(2 * TTL)
    assert lost == [b"m"]
    assert not await one.release()
    two.check()
    assert await two.release()


async def test_an_entry_that_is_held_briefly_is_neither_read_nor_watched(
    client: Client, cluster: LockCluster
) -> None:
    for _ in range(20):
        async with client.lock("n", ttl=TTL):
            await asyncio.sleep(WATCHED_AFTER_S * 0.9)
    await asyncio.sleep(1.0)
    assert cluster.reads == []
    assert cluster.opened == []


async def test_a_release_is_no_loss_and_leaves_no_watch_behind(
    client: Client, cluster: LockCluster
) -> None:
    lost: list[bool] = []
    locks = [client.lock(f"n{number}", ttl=TTL) for number in range(50)]
    for lock in locks:
        lock.on_lost(lambda: lost.append(True))
        await lock.acquire()
    await asyncio.sleep(1.0)
    assert watched_by(client) == watched_at(cluster) == 50
    for lock in locks:
        assert await lock.release()
    await asyncio.sleep(1.0)
    assert watched_by(client) == watched_at(cluster) == 0
    assert not lost
    assert not client._queues._watches._watches


async def test_an_entry_that_is_lost_otherwise_leaves_no_watch_behind(
    client: Client, cluster: LockCluster
) -> None:
    lock = await client.lock("n", ttl=TTL).acquire()
    await asyncio.sleep(1.0)
    cluster.go_down()
    await asyncio.sleep(TTL)
    cluster.come_up()
    await asyncio.sleep(5.0)
    with pytest.raises(LockLost, match="was not renewed in time"):
        lock.check()
    assert watched_by(client) == 0
    assert not client._queues._watches._watches


async def test_a_deletion_is_noticed_after_the_node_that_served_the_watch_has_died(
    client: Client, cluster: LockCluster
) -> None:
    lock = await client.lock("n", ttl=TTL).acquire()
    await asyncio.sleep(1.0)
    (host,) = [host for host in cluster.hosts.values() if host.streams]
    host.node.kill()
    for stream in list(host.streams):
        stream.break_off()
    cluster.leader = next(address for address, node in cluster.nodes.items() if node.up)
    delete(cluster, lock.key)
    await asyncio.sleep(PROMISED_S)
    assert lock.remaining() == 0


async def test_a_deletion_that_was_compacted_before_the_watch_began_is_noticed(
    client: Client, cluster: LockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = await client.lock("n", ttl=TTL).acquire()
    key, add = lock.key, client._watches.add

    def add_too_late(watch: Watch) -> None:
        delete(cluster, key)
        revision = cluster.store.run(put={"key": b"k"}).revision
        cluster.store.run(compact={"revision": revision})
        add(watch)

    monkeypatch.setattr(client._watches, "add", add_too_late)
    await asyncio.sleep(PROMISED_S)
    with pytest.raises(LockLost, match=WHY):
        lock.check()


async def test_an_entry_whose_watch_is_refused_is_watched_when_the_server_accepts_it(
    connect: Connect, cluster: LockCluster
) -> None:
    for host in cluster.hosts.values():
        host.service._settings = replace(cluster.settings, watches_per_stream_max=1)
    client = await connect()
    first = await client.lock("m", ttl=TTL).acquire()
    await asyncio.sleep(1.0)
    more = [await client.lock(f"o{number}", ttl=TTL).acquire() for number in range(20)]
    second = more[0]
    await asyncio.sleep(5.0)
    before = len(cluster.reads)
    await asyncio.sleep(2 * TTL)
    second.check()
    assert watched_at(cluster) == 1
    assert len(cluster.reads) - before <= 2 * TTL + 1, "one is tried each second"
    for lock in more[1:]:
        await lock.release()
    await first.release()
    await asyncio.sleep(5.0)
    delete(cluster, second.key)
    await asyncio.sleep(PROMISED_S)
    with pytest.raises(LockLost, match=WHY):
        second.check()


async def test_an_entry_beyond_the_bound_of_the_client_is_watched_when_others_are_released(
    client: Client, cluster: LockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_entry, "WATCHES_MAX", 2)
    monkeypatch.setattr(client._queues._watches, "_bound", 2)
    locks = [await client.lock(f"n{number}", ttl=TTL).acquire() for number in range(4)]
    await asyncio.sleep(5.0)
    assert watched_at(cluster) == 2
    await locks[0].release()
    await asyncio.sleep(5.0)
    delete(cluster, locks[2].key)
    delete(cluster, locks[3].key)
    await asyncio.sleep(PROMISED_S)
    assert locks[2].remaining() == 0
    await asyncio.sleep(5.0)
    assert locks[3].remaining() == 0, "its key is read when there is room"


async def test_a_waiter_whose_entry_is_removed_stops_waiting_within_a_second(
    client: Client, other: Client, cluster: LockCluster
) -> None:
    for remove in (delete, revoke):
        holder = await other.lock("n", ttl=TTL).acquire()

        async def wait() -> None:
            await client.lock("n", ttl=TTL).acquire()

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(3.0)
        remove(cluster, b"n/%016x" % cluster.store.tokens(b"n")[1])
        with pytest.raises(LockLost):
            await asyncio.wait_for(waiting, PROMISED_S)
        await holder.release()


async def test_closing_the_client_ends_the_watches_of_its_entries(
    connect: Connect, cluster: LockCluster
) -> None:
    client = await connect()
    for number in range(10):
        await client.lock(f"n{number}").acquire()
    await asyncio.sleep(1.0)
    assert watched_at(cluster) == 10
    await client.close()
    await asyncio.sleep(1.0)
    assert watched_at(cluster) == 0

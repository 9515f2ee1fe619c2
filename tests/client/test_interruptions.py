"""A signal handler that raises in a synchronous call leaves nothing behind that nobody owns.

The calls run on the real portal; the cluster is in memory, with the production state machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pytest

from raftkv.client.portal import shared_portal
from raftkv.client.settings import ClientSettings
from raftkv.client.sync import SyncClient
from raftkv.recipes import sync as recipes
from tests.client.interruptions import Interrupter, eventually
from tests.recipes.recipe_cluster import RecipeCluster

TTL_S = 600.0  # nothing ends by itself in this test
SLOW = pytest.mark.slow


T = TypeVar("T")
Undo = Callable[[], object] | None
Operation = Callable[[SyncClient, str], Undo]


class World:
    """A client under interruptions, and what it has left in the cluster."""

    def __init__(self) -> None:
        self.portal = shared_portal()
        self.cluster: RecipeCluster = self.portal.call(self._make)
        self.client = SyncClient(self.portal.call(self.cluster.connect, 5.0, ClientSettings()))

    async def _make(self) -> RecipeCluster:
        return RecipeCluster("a:1", "b:2", "c:3")

    def leases(self) -> set[int]:
        async def leases() -> set[int]:
            return set(self.cluster.machine.leases())

        return self.portal.call(leases)

    def members(self) -> list[bytes]:
        """The keys of the test, without those of recipes that all who use a name share."""

        async def keys() -> list[bytes]:
            return self.cluster.store.keys_of(b"i/")

        return [key for key in self.portal.call(keys) if not key.endswith((b"/size", b"/round"))]

    def watches(self) -> int:
        async def watches() -> int:
            return len(self.client.asynchronous._watches._watches)

        return self.portal.call(watches)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.client:
        yield world


def with_lock(client: SyncClient, name: str) -> None:
    with client.lock(name, ttl=TTL_S):
        pass


def acquire_lock(client: SyncClient, name: str) -> Callable[[], object]:
    return client.lock(name, ttl=TTL_S).acquire().release


def try_lock(client: SyncClient, name: str) -> Callable[[], object] | None:
    lock = client.lock(name, ttl=TTL_S)
    return lock.release if lock.try_acquire() else None


def release_lock(client: SyncClient, name: str) -> None:
    client.lock(name, ttl=TTL_S).acquire().release()


def campaign(client: SyncClient, name: str) -> Callable[[], object]:
    return client.election(name, ttl=TTL_S).campaign("me").resign


def lead(client: SyncClient, name: str) -> None:
    with client.election(name, ttl=TTL_S).campaign("me"):
        pass


def grant(client: SyncClient, name: str) -> Callable[[], object]:
    granted = client.acquire(name, TTL_S)
    return lambda: client.release(granted)


def kept_lease(client: SyncClient, name: str) -> None:
    with client.lease(TTL_S):
        pass


def lease(client: SyncClient, name: str) -> Callable[[], object]:
    granted = client.lease_grant(TTL_S).lease
    return lambda: client.lease_revoke(granted)


def watch(client: SyncClient, name: str) -> Callable[[], object]:
    return client.watch(name).close


def watch_block(client: SyncClient, name: str) -> None:
    with client.watch(name):
        pass


def observe(client: SyncClient, name: str) -> None:
    leaders = client.election(name).observe()
    next(leaders)
    leaders.close()


def lock_set(client: SyncClient, name: str) -> None:
    with recipes.locked(client, name, name + "/b", ttl=TTL_S):
        pass


def lock_set_acquired(client: SyncClient, name: str) -> Callable[[], object]:
    return recipes.locked(client, name, name + "/b", ttl=TTL_S).acquire().release


def semaphore(client: SyncClient, name: str) -> None:
    with recipes.Semaphore(client, name, 2, ttl=TTL_S).slot():
        pass


def read_lock(client: SyncClient, name: str) -> Callable[[], object]:
    return recipes.ReadWriteLock(client, name, ttl=TTL_S).read().acquire().release


def double_barrier(client: SyncClient, name: str) -> Callable[[], object]:
    barrier = recipes.DoubleBarrier(client, name, 1, ttl=TTL_S)
    barrier.enter()
    return barrier.leave


OPERATIONS: tuple[Operation, ...] = (
    *(with_lock, acquire_lock, try_lock, release_lock, campaign, lead, grant, kept_lease, lease),
    *(watch, watch_block, observe, lock_set, lock_set_acquired, semaphore, read_lock),
    double_barrier,
)


def bound(operation: Operation, client: SyncClient, name: str) -> Callable[[], Undo]:
    return lambda: operation(client, name)


def first(iterator: Iterable[T]) -> T | None:
    for item in iterator:
        return item
    return None


def interrupt_all(world: World, rounds: int, seed: int, rings: int) -> Interrupter:
    interrupter = Interrupter(seed, rings)
    with interrupter.installed():
        for number in range(rounds):
            for operation in OPERATIONS:
                name = f"i/{operation.__name__}/{number}"
                undo = interrupter.run(operation.__name__, bound(operation, world.client, name))
                if undo is not None:
                    undo()
    return interrupter


@pytest.mark.parametrize(
    ("rounds", "rings"), [(8, 1), (8, 3), *(pytest.param(200, n, marks=SLOW) for n in (1, 3))]
)
def test_an_interrupted_call_leaves_nothing_behind(world: World, rounds: int, rings: int) -> None:
    world.client.put("session", "is open")
    with world.client.lock("the leases of locks", ttl=TTL_S):
        leases = world.leases()
    interrupter = interrupt_all(world, rounds, seed=rings, rings=rings)
    assert interrupter.interrupted > 5 * rounds
    assert interrupter.completed
    assert eventually(lambda: not world.members()), f"left: {world.members()}"
    assert eventually(lambda: world.leases() <= leases), "a lease is left that nobody owns"
    assert eventually(lambda: not world.watches())


def test_an_interrupted_iteration_of_a_watch_loses_no_event(world: World) -> None:
    count = 150
    interrupter, seen = Interrupter(seed=5), []
    with world.client.watch(prefix="w/") as watch, interrupter.installed():
        for number in range(count):
            world.client.put("w/a", str(number))
        while len(seen) < count:
            event = interrupter.run("next", lambda: first(watch))
            if event is not None:
                assert event.kv is not None
                seen.append(int(event.kv.value))
    assert interrupter.interrupted > 10
    assert seen == list(range(count))


def test_an_interrupted_scan_loses_no_key(world: World) -> None:
    keys = [b"s/%03d" % number for number in range(60)]
    for key in keys:
        world.client.put(key, "")
    interrupter, seen = Interrupter(seed=6), []
    scan = world.client.scan_prefix("s/", page_keys=1)
    with interrupter.installed():
        while len(seen) < len(keys):
            kv = interrupter.run("next", lambda: first(scan))
            if kv is not None:
                seen.append(kv.key)
    assert interrupter.interrupted > 5
    assert seen == keys

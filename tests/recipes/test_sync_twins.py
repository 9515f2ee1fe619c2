"""The twins of recipes for threads, over a portal whose loop runs on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import async_solipsism
import pytest

from raftkv.client.settings import ClientSettings
from raftkv.client.sync import base
from raftkv.client.sync.client import SyncClient
from raftkv.errors import LockLost
from raftkv.recipes import sync as recipes
from tests.recipes.recipe_cluster import RecipeCluster

T = TypeVar("T")


class VirtualPortal:
    """Runs its loop while it is called, and time passes only then."""

    def __init__(self) -> None:
        self.loop = async_solipsism.EventLoop()

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], /, *a: Any, **k: Any) -> T:
        result: T = self.loop.run_until_complete(function(*a, **k))
        return result

    finish = call

    def take(self, give_back: object, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self.call(function, *args, **kwargs)

    hold = take

    def close(self, function: Any, /) -> None:
        self.call(function)

    def exit_block(self, kind: object, function: Any, /, *args: Any, **kwargs: Any) -> None:
        self.call(function, *args, **kwargs)

    def close_at_exit(self, client: object) -> None:
        """The tests close what they open."""


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualPortal]:
    portal = VirtualPortal()
    monkeypatch.setattr(base, "shared_portal", lambda: portal)
    yield portal
    portal.loop.close()


@pytest.fixture
def cluster(portal: VirtualPortal) -> RecipeCluster:
    async def make() -> RecipeCluster:
        return RecipeCluster("a:1", "b:2", "c:3")

    return portal.call(make)


@pytest.fixture
def client(portal: VirtualPortal, cluster: RecipeCluster) -> Iterator[SyncClient]:
    with SyncClient(portal.call(cluster.connect, 5.0, ClientSettings())) as client:
        yield client


def test_a_block_whose_lock_was_deleted_raises_lock_lost_at_its_end(
    client: SyncClient, cluster: RecipeCluster
) -> None:
    with (
        pytest.raises(LockLost, match="its key was deleted"),
        recipes.locked(client, "a", "b") as locks,
    ):
        cluster.store.run(delete_range={"key": locks[0].key})
    assert not cluster.store.tokens(b"b")


def test_a_block_whose_locks_were_lost_raises_lock_lost_at_its_end(
    client: SyncClient, cluster: RecipeCluster, portal: VirtualPortal
) -> None:
    def hold() -> None:
        with recipes.locked(client, "a", "b"):
            cluster.go_down()
            portal.call(asyncio.sleep, 10.0)

    with pytest.raises(LockLost):
        hold()


def test_a_block_that_released_its_locks_or_failed_raises_no_lock_lost(client: SyncClient) -> None:
    with recipes.locked(client, "a", "b") as locks:
        assert locks.release()
    with pytest.raises(ZeroDivisionError), recipes.locked(client, "a", "b"):
        raise ZeroDivisionError
    with recipes.locked(client, "a", "b"):
        pass


def test_nothing_but_a_fence_stops_a_thread_that_has_lost_its_lock(
    client: SyncClient, cluster: RecipeCluster, portal: VirtualPortal
) -> None:
    def hold() -> None:
        with client.lock("n") as lock:
            cluster.go_down()
            portal.call(asyncio.sleep, 10.0)
            cluster.come_up()
            client.put("k", "unfenced")
            with pytest.raises(LockLost):
                client.put("k", "fenced", fence=lock)

    with pytest.raises(LockLost):
        hold()
    assert cluster.store.keys_of(b"k") == [b"k"]

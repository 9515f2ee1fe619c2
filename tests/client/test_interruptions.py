"""A signal handler that raises in a synchronous call leaves no lock, lease or watch behind.

The calls run on the real portal; the cluster is in memory, with the production state machine.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import pytest

from raftkv.client.settings import ClientSettings
from raftkv.client.sync.client import SyncClient
from raftkv.client.sync.portal import _Call, shared_portal
from tests.client.interruptions import (
    OPERATIONS,
    TTL_S,
    CountedInterrupter,
    Interrupter,
    Operation,
    bound,
    eventually,
)
from tests.recipes.recipe_cluster import RecipeCluster

SLOW = pytest.mark.slow


T = TypeVar("T")


class InterruptedClient:
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
def world() -> Iterator[InterruptedClient]:
    world = InterruptedClient()
    with world.client:
        yield world


def first(iterator: Iterable[T]) -> T | None:
    for item in iterator:
        return item
    return None


def interrupt_all(world: InterruptedClient, rounds: int, seed: int, signals: int) -> Interrupter:
    interrupter = Interrupter(seed, signals)
    with interrupter.installed():
        for number in range(rounds):
            for operation in OPERATIONS:
                name = f"i/{operation.__name__}/{number}"
                undo = interrupter.run(operation.__name__, bound(operation, world.client, name))
                if undo is not None:
                    undo()
    return interrupter


@pytest.mark.parametrize(
    ("rounds", "signals"), [(8, 1), (8, 3), *(pytest.param(200, n, marks=SLOW) for n in (1, 3))]
)
def test_an_interrupted_call_leaves_nothing_behind(
    world: InterruptedClient, rounds: int, signals: int
) -> None:
    world.client.put("session", "is open")
    with world.client.lock("the leases of locks", ttl=TTL_S):
        leases = world.leases()
    interrupter = interrupt_all(world, rounds, seed=signals, signals=signals)
    assert interrupter.interrupted > 5 * rounds
    assert interrupter.completed
    assert eventually(lambda: not world.members()), f"left: {world.members()}"
    assert eventually(lambda: world.leases() <= leases), "a lease without an owner is left"
    assert eventually(lambda: not world.watches())


def test_an_interrupt_in_a_callback_of_the_collector_ends_no_call() -> None:
    """CPython raises nothing out of such a callback; pytest would fail the test for it."""
    interrupter, began, ended = Interrupter(seed=7), 0, 0

    def measure(phase: str, info: dict[str, int]) -> None:
        nonlocal began, ended
        began += 1
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass
        ended += 1

    gc.callbacks.append(measure)
    try:
        with interrupter.installed():
            for _ in range(20):
                interrupter.run("collect", lambda: gc.collect(0))
    finally:
        gc.callbacks.remove(measure)
    assert ended < began, "no interrupt came while the callback ran"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_that_is_interrupted_when_it_has_just_succeeded_is_undone(
    world: InterruptedClient, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the operation's calls in turn."""
    world.client.put("session", "is open")
    with world.client.lock("the leases of locks", ttl=TTL_S):
        leases = world.leases()
    done, counted = _Call._done, CountedInterrupter()

    def ring_and_done(call: _Call[Any], *args: Any) -> None:
        # The signal is pending when the thread gets the result, so that can't return it.
        counted.count()
        done(call, *args)

    with counted.installed(), monkeypatch.context() as patched:
        patched.setattr(_Call, "_done", ring_and_done)
        for number in range(1, 100):
            undo = counted.run_until(number, bound(operation, world.client, f"i/{number}"))
            if not counted.interrupted:
                break
    assert number > 1
    if undo is not None:
        undo()
    assert eventually(lambda: not world.members()), f"left: {world.members()}"
    assert eventually(lambda: world.leases() <= leases), "a lease without an owner is left"
    assert eventually(lambda: not world.watches())


def test_an_interrupted_iteration_of_a_watch_loses_no_event(world: InterruptedClient) -> None:
    interrupter, seen, put = Interrupter(seed=5), [], 0
    with world.client.watch(prefix="w/") as watch, interrupter.installed():
        while interrupter.interrupted < 20 or len(seen) < put:
            if interrupter.interrupted < 20 and put < len(seen) + 10:
                world.client.put("w/a", str(put))
                put += 1
            event = interrupter.run("next", lambda: first(watch))
            if event is not None:
                assert event.kv is not None
                seen.append(int(event.kv.value))
    assert seen == list(range(put))


def test_an_interrupted_scan_loses_no_key(world: InterruptedClient) -> None:
    keys = [b"s/%03d" % number for number in range(60)]
    for key in keys:
        world.client.put(key, "")
    interrupter = Interrupter(seed=6)
    while interrupter.interrupted < 10:
        seen: list[bytes] = []
        scan = world.client.scan_prefix("s/", page_keys=1)
        with interrupter.installed():
            while len(seen) < len(keys):
                kv = interrupter.run("next", lambda: first(scan))  # noqa: B023 - called at once
                if kv is not None:
                    seen.append(kv.key)
        assert seen == keys

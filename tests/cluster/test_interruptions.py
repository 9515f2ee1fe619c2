"""Every public synchronous call is interrupted at random moments, on real processes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import raftkv
from raftkv.client.sync.client import SyncClient
from raftkv.client.sync.locks import SyncElection, SyncKeptLease, SyncLeadership, SyncLock
from raftkv.client.sync.pages import SyncPagedDeletion, SyncScan
from raftkv.client.sync.transactions import SyncTransaction
from raftkv.client.sync.watch import SyncWatch
from raftkv.errors import RaftkvError
from raftkv.recipes import sync as recipes
from tests.client.interruptions import (
    OPERATIONS,
    TTL_S,
    Interrupter,
    Operation,
    Undo,
    bound,
    eventually,
)
from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROUNDS = 30
UNKNOWN_NODE = 99

TWINS = (
    *(SyncClient, SyncLock, SyncElection, SyncLeadership, SyncKeptLease, SyncWatch, SyncScan),
    *(SyncPagedDeletion, recipes.ReadWriteLock, recipes.Semaphore, recipes.LockSet),
    *(recipes.Barrier, recipes.DoubleBarrier, recipes.Counter),
)


def simple(*calls: Callable[[SyncClient, str], object]) -> list[Operation]:
    """Calls that hand out nothing which would have to be given back."""

    def operation(call: Callable[[SyncClient, str], object]) -> Operation:
        def run(client: SyncClient, name: str) -> Undo:
            with suppress(RaftkvError):  # the members that some ask for do not exist
                call(client, name)
            return None

        run.__name__ = f"simple-{call.__code__.co_firstlineno}"
        return run

    return [operation(call) for call in calls]


def increment(transaction: SyncTransaction) -> None:
    transaction.get("p/t")
    transaction.range("p/", "p0")
    transaction.prefix("p/")
    transaction.put("p/t", "x")
    transaction.delete("p/u")


def lock_calls(client: SyncClient, name: str) -> Undo:
    lock = client.lock(name, ttl=TTL_S)
    lock.on_lost(increment)  # type: ignore[arg-type]  # never called
    with lock:
        lock.check()
        lock.remaining()
    return None


def leadership_calls(client: SyncClient, name: str) -> Undo:
    with client.election(name, ttl=TTL_S).campaign("me") as leadership:
        leadership.on_lost(increment)  # type: ignore[arg-type]  # never called
        leadership.check()
        leadership.remaining()
        leadership.proclaim("more")
    return None


def lease_calls(client: SyncClient, name: str) -> Undo:
    with client.lease(TTL_S) as kept:
        kept.on_lost(increment)  # type: ignore[arg-type]  # never called
        kept.check()
        kept.remaining()
        client.lease_renew(kept.id)
        client.lease_time_to_live(kept.id, keys=True)
        with client.keep(kept.id):
            pass
    return None


def watch_calls(client: SyncClient, name: str) -> Undo:
    revision = client.put("p/w", "x").revision
    with client.watch("p/w", from_revision=revision) as watch:
        watch.started()
        for _ in watch.batches():
            break
    return None


def recipe_calls(client: SyncClient, name: str) -> Undo:
    with recipes.ReadWriteLock(client, name + "/rw", ttl=TTL_S).write():
        pass
    locks = recipes.locked(client, name + "/1", name + "/2", ttl=TTL_S)
    locks.on_lost(increment)  # type: ignore[arg-type]  # never called
    with locks:
        locks.check()
        locks.remaining()
    with recipes.DoubleBarrier(client, name + "/double", 1, ttl=TTL_S) as inside:
        inside.check()
        inside.remaining()
    recipes.Barrier(client, "p/barrier").wait()
    counter = recipes.Counter(client, "p/counter")
    counter.add()
    counter.get()
    return None


SIMPLE = simple(
    lambda client, name: client.put("p/k", "v"),
    lambda client, name: client.get("p/k"),
    lambda client, name: client.read("p/k"),
    lambda client, name: client.range("p/", "p0"),
    lambda client, name: client.range_prefix("p/"),
    lambda client, name: client.delete("p/k"),
    lambda client, name: client.delete_range("p/x", "p/y"),
    lambda client, name: client.delete_prefix("p/x"),
    lambda client, name: list(client.scan("p/", "p0")),
    lambda client, name: client.scan_prefix("p/").count(),
    lambda client, name: client.scan_prefix("p/").next_page(),
    lambda client, name: client.delete_range_in_pages("p/x", "p/y").finish(),
    lambda client, name: list(client.delete_prefix_in_pages("p/x")),
    lambda client, name: client.compare_and_swap("p/c", None, "v"),
    lambda client, name: client.txn(success=[raftkv.op.put("p/k", "v")]),
    lambda client, name: client.transaction(increment),
    lambda client, name: client.read_txn(success=[raftkv.op.get("p/k")]),
    lambda client, name: client.compact(1),
    lambda client, name: client.lock_info(name),
    lambda client, name: client.renew(client.acquire("p/never", 1.0)),
    lambda client, name: client.election(name).leader(),
    lambda client, name: client.leases(),
    lambda client, name: recipes.Barrier(client, "p/held").hold(),
    lambda client, name: recipes.Barrier(client, "p/held").release(),
    lambda client, name: client.status(client.endpoints[0]),
    lambda client, name: client.status_all(),
    lambda client, name: client.member_list(),
    lambda client, name: client.member_add(1, "127.0.0.1:1", "127.0.0.1:2"),
    lambda client, name: client.member_promote(UNKNOWN_NODE),
    lambda client, name: client.member_remove(UNKNOWN_NODE),
    lambda client, name: client.member_replace(UNKNOWN_NODE, 98),
    lambda client, name: client.member_update(UNKNOWN_NODE, client_address="127.0.0.1:3"),
    lambda client, name: client.transfer_leader(UNKNOWN_NODE),
    lambda client, name: client.set_log_level("info", client.endpoints[0]),
    lambda client, name: client.reload_config(client.endpoints[0]),
)

ALL: tuple[Operation, ...] = (
    *OPERATIONS,
    *(lock_calls, leadership_calls, lease_calls, watch_calls, recipe_calls),
    *SIMPLE,
)


def test_the_table_below_has_every_public_method() -> None:
    source = inspect.getsource(inspect.getmodule(simple)) + inspect.getsource(  # type: ignore[arg-type]
        inspect.getmodule(bound)  # type: ignore[arg-type]
    )
    missing = [
        f"{twin.__name__}.{name}"
        for twin in TWINS
        for name, member in inspect.getmembers(twin, inspect.isfunction)
        if not name.startswith("_") and name in vars(twin) and f".{name}" not in source
    ]
    assert not missing


@pytest.mark.parametrize("signals", [1, 3])
async def test_no_interrupted_call_leaves_anything_behind(tmp_path: Path, signals: int) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as observer:
        await observer.put("p/session", "is open")
        before = set(await observer.leases())
        client = raftkv.connect_sync(cluster.endpoints)
        interrupter = Interrupter(seed=signals, signals=signals)
        with interrupter.installed():
            for number in range(ROUNDS):
                for operation in ALL:
                    name = f"i/{operation.__name__}/{number}"
                    undo = interrupter.run(operation.__name__, bound(operation, client, name))
                    if undo is not None:
                        undo()
        print(f"{interrupter.interrupted} interrupted, {interrupter.completed} not")
        assert interrupter.interrupted > ROUNDS * len(ALL) / 3

        def left() -> list[bytes]:
            keys = [kv.key for kv in client.range_prefix("i/", keys_only=True).kvs]
            return [key for key in keys if not key.endswith((b"/size", b"/round"))]

        assert eventually(lambda: not left()), f"keys are left that nobody owns: {left()}"
        # The client's session, one lease for its locks, and that which `renew` had to itself.
        assert eventually(lambda: len(set(client.leases()) - before) <= 2)
        assert eventually(lambda: not client.asynchronous._watches._watches)
        client.close()
        assert eventually(lambda: True)
        assert set(await observer.leases()) == before

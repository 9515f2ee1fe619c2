"""Every public call of a client and its objects, to be made where it must be refused."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from raftkv import op
from raftkv.client.api.transactions import Transaction
from raftkv.client.client import Client
from raftkv.client.coordination.election import Leadership
from raftkv.client.coordination.lease import KeptLease
from raftkv.client.coordination.lock import Lock
from raftkv.client.model.results import Grant
from raftkv.errors import UnusableHere
from raftkv.recipes import Barrier, Counter, DoubleBarrier, ReadWriteLock, Semaphore, locked

Call = Callable[[], Awaitable[object]]


class ClientObjects:
    """Objects of a client that were made, and are held, before anything is tried on them."""

    lock: Lock
    free: Lock
    leadership: Leadership
    grant: Grant
    kept: KeptLease

    @classmethod
    async def by(cls, client: Client) -> ClientObjects:
        """A lock and an election are held, a lease is kept."""
        self = cls()
        self.lock = await client.lock("lock").acquire()
        self.free = client.lock("free")
        self.leadership = await client.election("election").campaign("me")
        self.grant = await client.acquire("grant", 10.0)
        self._lease = client.lease(10.0)
        self.kept = await self._lease.__aenter__()
        return self

    async def give_back(self) -> None:
        """Nothing is kept from here on."""
        await self._lease.__aexit__(None, None, None)


def of_a_client(client: Client, grant: Grant) -> dict[str, Call]:
    """One call of each public method but `close`."""

    async def reading(transaction: Transaction) -> None:
        await transaction.get("k")

    async def watching() -> None:
        await client.watch("k").started()

    calls: dict[str, Call] = {
        "acquire": lambda: client.acquire("n", 10.0),
        "compact": lambda: client.compact(1),
        "compare_and_swap": lambda: client.compare_and_swap("k", None, "v"),
        "delete": lambda: client.delete("k"),
        "delete_prefix": lambda: client.delete_prefix("k"),
        "delete_prefix_in_pages": lambda: anext(aiter(client.delete_prefix_in_pages("k"))),
        "delete_range": lambda: client.delete_range("a", "b"),
        "delete_range_in_pages": lambda: anext(aiter(client.delete_range_in_pages("a", "b"))),
        "election": lambda: client.election("e").campaign("v", timeout=1.0),
        "get": lambda: client.get("k"),
        "keep": lambda: client.keep(7).__aenter__(),
        "lease": lambda: client.lease(10.0).__aenter__(),
        "lease_grant": lambda: client.lease_grant(10.0),
        "lease_renew": lambda: client.lease_renew(7),
        "lease_revoke": lambda: client.lease_revoke(7),
        "lease_time_to_live": lambda: client.lease_time_to_live(7),
        "leases": lambda: client.leases(),
        "lock": lambda: client.lock("n").acquire(timeout=1.0),
        "lock_info": lambda: client.lock_info("n"),
        "member_add": lambda: client.member_add(9, "h:1", "h:2"),
        "member_list": lambda: client.member_list(),
        "member_promote": lambda: client.member_promote(9),
        "member_remove": lambda: client.member_remove(9),
        "member_replace": lambda: client.member_replace(8, 9),
        "member_update": lambda: client.member_update(9, client_address="h:2"),
        "put": lambda: client.put("k", "v"),
        "range": lambda: client.range("a", "b"),
        "range_prefix": lambda: client.range_prefix("k"),
        "read": lambda: client.read("k"),
        "read_txn": lambda: client.read_txn(success=[op.get("k")]),
        "release": lambda: client.release(grant),
        "renew": lambda: client.renew(grant),
        "scan": lambda: anext(aiter(client.scan("a", "b"))),
        "scan_prefix": lambda: anext(aiter(client.scan_prefix("k"))),
        "reload_config": lambda: client.reload_config("a:1"),
        "set_log_level": lambda: client.set_log_level("info", "a:1"),
        "status": lambda: client.status("a:1"),
        "status_all": lambda: client.status_all(),
        "transaction": lambda: client.transaction(reading),
        "transfer_leader": lambda: client.transfer_leader(),
        "txn": lambda: client.txn(success=[op.put("k", "v")]),
        "watch": watching,
    }
    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_"}
    assert public == {*calls, "close"}, "each public method has a call here"
    return calls


def of_what_it_handed_out(client: Client, made: ClientObjects) -> dict[str, Call]:
    """Calls on locks, elections, leases and recipes that wait, or that change something."""
    return {
        "lock.acquire": lambda: made.lock.acquire(timeout=1.0),
        "lock.release": made.lock.release,
        "lock.enter": made.free.__aenter__,
        "lock.try_acquire": made.free.try_acquire,
        "leadership.proclaim": lambda: made.leadership.proclaim("v"),
        "leadership.resign": made.leadership.resign,
        "election.leader": lambda: client.election("e").leader(),
        "election.observe": lambda: anext(client.election("e").observe()),
        "barrier": lambda: Barrier(client, "b").wait(timeout=1.0),
        "counter": lambda: Counter(client, "c").add(1),
        "double_barrier": lambda: DoubleBarrier(client, "d", 1).enter(timeout=1.0),
        "locked": lambda: locked(client, "x", "y").acquire(timeout=1.0),
        "read_write_lock": lambda: ReadWriteLock(client, "rw").read().acquire(timeout=1.0),
        "semaphore": lambda: Semaphore(client, "s", 1).slot().acquire(timeout=1.0),
    }


def questions_to(made: ClientObjects) -> dict[str, Callable[[], object]]:
    """What is answered without waiting, from what the client knows itself."""
    return {
        "lock.token": lambda: made.lock.token,
        "lock.key": lambda: made.lock.key,
        "lock.check": made.lock.check,
        "lock.remaining": made.lock.remaining,
        "leadership.token": lambda: made.leadership.token,
        "leadership.remaining": made.leadership.remaining,
        "kept.check": made.kept.check,
        "kept.remaining": made.kept.remaining,
    }


def refused_at_once(call: Call) -> str:
    """The error that the call raises before it waits for anything, without any event loop."""
    try:
        made: Any = call()
        coroutine: Coroutine[object, None, object] = made
        coroutine.send(None)
    except UnusableHere as error:
        return type(error).__name__
    except BaseException as error:  # noqa: BLE001 - the test shows it
        return repr(error)
    return "it waits"

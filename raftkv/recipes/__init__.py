"""Recipes of coordination on the client: small protocols of keys, leases and watches.

    from raftkv.recipes import Counter, ReadWriteLock, Semaphore, locked

    async with raftkv.connect("127.0.0.1:7411") as client:
        async with ReadWriteLock(client, "report").write() as writer:
            await client.put("report", "new", fence=writer)
        async with Semaphore(client, "downloads", 5).slot():
            ...
        async with locked(client, "alice", "bob") as locks:
            await client.put("alice", "5", fence=locks)
        visits = await Counter(client, "visits").add(1)

`raftkv.recipes.sync` has the same recipes for code without an event loop.
"""

from raftkv.recipes._queues import SharedLock
from raftkv.recipes.barrier import Barrier
from raftkv.recipes.counter import Counter
from raftkv.recipes.double_barrier import DoubleBarrier
from raftkv.recipes.lock_set import LockSet, locked
from raftkv.recipes.read_write_lock import ReadWriteLock
from raftkv.recipes.semaphore import Semaphore

__all__ = [
    "Barrier",
    "Counter",
    "DoubleBarrier",
    "LockSet",
    "ReadWriteLock",
    "Semaphore",
    "SharedLock",
    "locked",
]

"""Locks, elections, leases, watches and recipes with the asynchronous client."""

from __future__ import annotations

import asyncio
import sys
from typing import assert_type

import raftkv
from raftkv.recipes import Counter, ReadWriteLock, Semaphore, locked


async def main(endpoints: str) -> None:
    async with raftkv.connect(endpoints, timeout=10) as client:
        async with client.lock("report", ttl=10) as lock:
            assert_type(lock, raftkv.Lock)
            assert_type(lock.token, int)
            await client.put("report/today", "42", fence=lock)
            guard = raftkv.FencingGuard()
            with guard.admitted("report.pdf", lock.token):
                pass
            assert guard.highest("report.pdf") == lock.token

        election = client.election("scheduler", ttl=5)
        assert_type(election, raftkv.Election)
        async with await election.campaign("host-7") as leadership:
            assert_type(leadership, raftkv.Leadership)
            await leadership.proclaim("host-7, busy")
            assert_type(await election.leader(), raftkv.LeaderInfo | None)

        async with client.lease(ttl=10) as lease:
            assert_type(lease, raftkv.KeptLease)
            await client.put("here", "host-7", lease=lease.id)

        async with client.watch(prefix="stock/", prev_kv=True) as changes:
            assert_type(changes, raftkv.Watch)
            await client.put("stock/pears", "7")
            async for event in changes:
                assert_type(event, raftkv.WatchEvent)
                assert_type(event.kind, raftkv.EventKind)
                assert event.key == b"stock/pears"
                break

        async with ReadWriteLock(client, "book").write() as writer:
            await client.put("book", "new", fence=writer)
        async with Semaphore(client, "downloads", 5).slot():
            pass
        async with locked(client, "alice", "bob") as locks:
            await client.put("alice", "5", fence=locks)
        assert_type(await Counter(client, "visits").add(1), int)

        statuses = await client.status_all()
        for address, status in statuses.items():
            assert_type(address, str)
            assert_type(status, raftkv.NodeStatus | raftkv.RaftkvError)
        assert_type(await client.member_list(), tuple[raftkv.Member, ...])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

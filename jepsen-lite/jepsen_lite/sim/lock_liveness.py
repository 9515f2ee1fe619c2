"""Liveness of locks and elections after healing: every client that queues for a name gets it.

The operations are recorded under the names of the workloads, so that their checkers judge them too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jepsen_lite.clients.protocol import LockHold
from jepsen_lite.history import Kind
from jepsen_lite.sim.clients import Clients
from jepsen_lite.sim.world import World
from jepsen_lite.workloads import elections, locks
from jepsen_lite.workloads.base import Invocation, Session, Workload
from jepsen_lite.workloads.elections import ElectionWorkload
from jepsen_lite.workloads.locks import LockWorkload

FIRST_S = 10.0
"""Holds of clients that were cut off or have lost their leases have ended by then."""
HANDOVER_S = 1.0
"""The time from one holder to the next. A waiting client asks again after 5 s by itself: the limit
is shorter, so that a missing notification is noticed.
"""
HELD_S = 0.05
QUEUED_S = 0.5
"""All waiting clients are in the queue by then."""
CLOCKS_DIFFER = 1.25
"""A dead holder's lease ends by the leader's clock, which may be slow."""


class QueueName(NamedTuple):
    """A lock or an election that clients queue for."""

    workload: QueueingWorkload
    key: str

    def __str__(self) -> str:
        return f"{self.workload.name} {self.key}"


class QueueingWorkload:
    """A workload's operations to acquire and to release, but without a timeout: a client that gives
    up and comes back gets a new queue entry, which would hide that the first one was forgotten.
    """

    def __init__(self, workload: LockWorkload | ElectionWorkload) -> None:
        self.name, self.reads, self.final = workload.name, workload.reads, workload.final
        self.next, self.check = workload.next, workload.check
        self.acquires, self.releases, self.ttl_s, self.keys = (
            ("campaign", "resign", elections.TTL_S, (workload.election,))
            if isinstance(workload, ElectionWorkload)
            else ("acquire", "release", locks.TTL_S, workload.names)
        )
        self._holds: dict[int, LockHold] = {}  # by worker
        self._record_facts: dict[int, Callable[[Invocation], None]] = {}

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        if invocation.function == self.releases:
            return await self._holds.pop(session.worker).release()
        hold = await self._acquire(session, invocation)
        self._holds[session.worker] = hold
        self._record_facts[session.worker] = session.record_fact
        return {"token": hold.token}

    async def _acquire(self, session: Session, invocation: Invocation) -> LockHold:
        if self.acquires == "campaign":
            election = session.client.locks.election(invocation.key, self.ttl_s)
            return await election.campaign(invocation.value)
        lock = session.client.locks.lock(invocation.key, self.ttl_s)
        await lock.acquire()
        return lock

    def died(self, worker: int, key: str) -> None:
        """The client of this worker was killed: its hold is lost."""
        if worker in self._holds:
            self._record_facts[worker](Invocation("lost", key))


@dataclass(slots=True)
class WaitingClients:
    """The numbers of the clients that queue for one name, and how often it was acquired."""

    waiting: list[int]
    acquired: int = 0


class LockLiveness:
    """Two rounds. First all clients queue for every name, and each holder releases it soon. Then
    one client holds every name, the others queue behind it, and it is killed. A client whose only
    node is no member any more takes no part.
    """

    def __init__(
        self,
        world: World,
        clients: Clients,
        workloads: Sequence[Workload],
        on_failure: Callable[[str, str], None],
    ) -> None:
        self._world = world
        self._clients = clients
        self._on_failure = on_failure
        queueing = [
            QueueingWorkload(each)
            for each in workloads
            if isinstance(each, LockWorkload | ElectionWorkload)
        ]
        self._queues = {
            QueueName(each, key): WaitingClients([]) for each in queueing for key in each.keys
        }
        self._last_holds: list[tuple[QueueName, int]] = []  # with the worker that is to be killed

    def begin_round(self) -> None:
        """Every client queues for every name."""
        for client in self._clients.served:
            for name in self._queues:
                self._enter(name, client)
        self._expect_all(FIRST_S)

    def begin_last_holds(self) -> None:
        """The last client acquires every name and keeps it, if there is another one."""
        if not self._others:
            return
        for name in self._queues:
            self._enter(name, self._last_client, keeps=True)
        self._expect_all(HANDOVER_S)

    def begin_succession(self) -> None:
        """The other clients queue behind the last one, and it is killed."""
        if not self._queues or not self._others:
            return
        for client in self._others:
            for name in self._queues:
                self._enter(name, client)
        self._world.after(QUEUED_S, self._kill)

    def over(self) -> bool:
        """No client waits."""
        return self._clients.idle() and not any(each.waiting for each in self._queues.values())

    @property
    def _last_client(self) -> int:
        return self._clients.served[-1]

    @property
    def _others(self) -> list[int]:
        return self._clients.served[:-1]

    def _kill(self) -> None:
        for name, worker in self._last_holds:
            name.workload.died(worker, name.key)
        self._clients.kill_client(self._last_client)
        for name in self._queues:
            self._expect(name, CLOCKS_DIFFER * name.workload.ttl_s + HANDOVER_S)

    def _enter(self, name: QueueName, client: int, *, keeps: bool = False) -> None:
        self._queues[name].waiting.append(client)
        self._clients.begin(client, lambda: self._wait(name, client, keeps))

    async def _wait(self, name: QueueName, client: int, keeps: bool) -> None:
        """In the client's process: wait, hold, release."""
        workload, queue = name.workload, self._queues[name]
        worker = self._clients.new_worker()
        elected = workload.acquires == "campaign"
        value = f"{self._clients.hosts[client]} at last" if elected else None
        acquire = Invocation(workload.acquires, name.key, value)
        ended = await self._clients.perform(client, worker, workload, acquire)
        if ended.kind is not Kind.OK:
            self._fail(f"{name} was not acquired: {ended.reason}")
            return
        queue.waiting.remove(client)
        queue.acquired += 1
        if keeps:
            self._last_holds.append((name, worker))
            return
        await asyncio.sleep(HELD_S)
        release = Invocation(workload.releases, name.key)
        ended = await self._clients.perform(client, worker, workload, release)
        if ended.kind is not Kind.OK:
            self._fail(f"{name} was not released: {ended.reason}")
        self._expect(name, HANDOVER_S)

    def _expect_all(self, within_s: float) -> None:
        for name in self._queues:
            self._expect(name, within_s)

    def _expect(self, name: QueueName, within_s: float) -> None:
        """The name is free, or will be: a waiting client must acquire it in time."""
        queue = self._queues[name]
        acquired = queue.acquired

        def check() -> None:
            if queue.waiting and queue.acquired == acquired:
                waiting = " and ".join(self._waiting_for(name))
                self._fail(f"{name} was not acquired within {within_s:g} s; {waiting} waited")

        self._world.after(within_s, check)

    def _waiting_for(self, name: QueueName) -> Iterator[str]:
        return (self._clients.hosts[each] for each in self._queues[name].waiting)

    def _fail(self, problem: str) -> None:
        self._on_failure(f"liveness: {problem}", "liveness")

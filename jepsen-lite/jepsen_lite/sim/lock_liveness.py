"""Whether locks and elections go on once all is well: whoever waits for a name comes to hold it.

Knows names, who waits for them and since when they are free. What it does is written down under the
workload's own name, so that its checkers judge that as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jepsen_lite.history import Kind
from jepsen_lite.sim.clients import Clients
from jepsen_lite.sim.world import World
from jepsen_lite.workloads import elections, locks
from jepsen_lite.workloads.base import Invocation, Session, Workload
from jepsen_lite.workloads.elections import ElectionWorkload
from jepsen_lite.workloads.locks import LockWorkload
from raftkv.client.coordination.election import Leadership
from raftkv.client.coordination.lock import Lock

FIRST_S = 10.0
"""What is left of holders that were cut off or have lost their leases ends on its own by then."""
HANDOVER_S = 1.0
"""From one holder to the next. A client asks again after 5 s: that must not hide that it was not
told.
"""
HELD_S = 0.05
QUEUED_S = 0.5
"""By then all who wait have their places."""
CLOCKS_DIFFER = 1.25
"""A dead holder's lease ends by the leader's clock, which may be slow."""


class QueueName(NamedTuple):
    """What is waited for."""

    workload: QueueingWorkload
    key: str

    def __str__(self) -> str:
        return f"{self.workload.name} {self.key}"


class QueueingWorkload:
    """A workload's own way to take and to give back, but that a taker waits for as long as it
    takes: who gives up and comes back is looked at anew, and may have been forgotten before.
    """

    def __init__(self, workload: LockWorkload | ElectionWorkload) -> None:
        self.name, self.reads, self.final = workload.name, workload.reads, workload.final
        self.next, self.check = workload.next, workload.check
        self.takes, self.gives_back, self.ttl_s, self.keys = (
            ("campaign", "resign", elections.TTL_S, (elections.NAME,))
            if isinstance(workload, ElectionWorkload)
            else ("acquire", "release", locks.TTL_S, workload.names)
        )
        self._held: dict[int, Lock | Leadership] = {}  # by seat
        self._tells: dict[int, Callable[[Invocation], None]] = {}

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        if invocation.function == self.gives_back:
            return await self._held.pop(session.seat).release()
        taken = await self._take(session, invocation)
        self._held[session.seat], self._tells[session.seat] = taken, session.tell
        return {"token": taken.token}

    async def _take(self, session: Session, invocation: Invocation) -> Lock | Leadership:
        if self.takes == "campaign":
            election = session.client.election(invocation.key, ttl=self.ttl_s)
            return await election.campaign(invocation.value)
        return await session.client.lock(invocation.key, ttl=self.ttl_s).acquire()

    def died(self, seat: int, key: str) -> None:
        """Whoever sits there is dead, and with it its hold."""
        if seat in self._held:
            self._tells[seat](Invocation("lost", key))


@dataclass(slots=True)
class WaitingClients:
    """Who waits for one name, by their numbers among the clients, and how often it was taken."""

    waiting: list[int]
    taken: int = 0


class LockLiveness:
    """Two rounds. First all clients queue for every name, and each gives it back soon. Then one
    client holds every name, the others queue behind it, and it dies.
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
        waiting = [
            QueueingWorkload(each)
            for each in workloads
            if isinstance(each, LockWorkload | ElectionWorkload)
        ]
        self._queues = {
            QueueName(each, key): WaitingClients([]) for each in waiting for key in each.keys
        }
        self._last_holds: list[tuple[QueueName, int]] = []  # (name, seat) of who is to die

    def begin_round(self) -> None:
        """Every client queues for every name."""
        for client in range(len(self._clients.hosts)):
            for name in self._queues:
                self._enter(name, client)
        self._expect_all(FIRST_S)

    def begin_last_holds(self) -> None:
        """The last client takes every name and keeps it."""
        for name in self._queues:
            self._enter(name, self._doomed, keeps=True)
        self._expect_all(HANDOVER_S)

    def begin_succession(self) -> None:
        """The others queue behind it, and it dies."""
        if not self._queues:
            return
        for client in range(self._doomed):
            for name in self._queues:
                self._enter(name, client)
        self._world.after(QUEUED_S, self._kill)

    def over(self) -> bool:
        """Nobody waits."""
        return self._clients.idle() and not any(each.waiting for each in self._queues.values())

    @property
    def _doomed(self) -> int:
        return len(self._clients.hosts) - 1

    def _kill(self) -> None:
        for name, seat in self._last_holds:
            name.workload.died(seat, name.key)
        self._clients.kill_client(self._doomed)
        for name in self._queues:
            self._expect(name, CLOCKS_DIFFER * name.workload.ttl_s + HANDOVER_S)

    def _enter(self, name: QueueName, client: int, *, keeps: bool = False) -> None:
        self._queues[name].waiting.append(client)
        self._clients.begin(client, lambda: self._wait(name, client, keeps))

    async def _wait(self, name: QueueName, client: int, keeps: bool) -> None:
        """In the client's process: wait, hold, give back."""
        workload, queue = name.workload, self._queues[name]
        seat = self._clients.new_seat()
        value = f"{self._clients.hosts[client]} at last" if workload.takes == "campaign" else None
        take = Invocation(workload.takes, name.key, value)
        kind, reason = await self._clients.perform(client, seat, workload, take)
        if kind is not Kind.OK:
            self._fail(f"{name} could not be waited for: {reason}")
            return
        queue.waiting.remove(client)
        queue.taken += 1
        if keeps:
            self._last_holds.append((name, seat))
            return
        await asyncio.sleep(HELD_S)
        back = Invocation(workload.gives_back, name.key)
        kind, reason = await self._clients.perform(client, seat, workload, back)
        if kind is not Kind.OK:
            self._fail(f"{name} could not be given back: {reason}")
        self._expect(name, HANDOVER_S)

    def _expect_all(self, within_s: float) -> None:
        for name in self._queues:
            self._expect(name, within_s)

    def _expect(self, name: QueueName, within_s: float) -> None:
        """The name is free, or will be: somebody who waits for it holds it in time."""
        queue = self._queues[name]
        taken = queue.taken

        def look() -> None:
            if queue.waiting and queue.taken == taken:
                waiting = " and ".join(self._waiting_for(name))
                self._fail(f"{name} was not to be had within {within_s:g} s; {waiting} waited")

        self._world.after(within_s, look)

    def _waiting_for(self, name: QueueName) -> Iterator[str]:
        return (self._clients.hosts[each] for each in self._queues[name].waiting)

    def _fail(self, problem: str) -> None:
        self._on_failure(f"liveness: {problem}", "liveness")

"""Nodes that are killed, and nodes that are paused."""

from __future__ import annotations

from random import Random

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.faults.kinds import Fault, Kill, Pause
from jepsen_lite.nemesis.base import (
    ActiveFault,
    Nemesis,
    one_node,
    positions,
    resolve,
    some_nodes,
)


class KillNemesis(Nemesis):
    name = "kill"
    summary = "SIGKILL some nodes, often the leader; start them again later"

    def draw(self, rng: Random, size: int) -> Fault:
        return Kill(0.0, 0.0, some_nodes(rng, size), power=False)

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(fault, Kill)
        return await _kill(db, await resolve(db, *fault.nodes))


class RestartNemesis(Nemesis):
    name = "restart"
    summary = "SIGKILL all nodes at once, and start them again"

    def draw(self, rng: Random, size: int) -> Fault:
        return Kill(0.0, 0.0, positions(range(size)), power=False)

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        return await _kill(db, list(db.nodes))


class PauseNemesis(Nemesis):
    name = "pause"
    summary = "SIGSTOP a node, often the leader; SIGCONT later"

    def draw(self, rng: Random, size: int) -> Fault:
        return Pause(0.0, 0.0, one_node(rng, size))

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(fault, Pause)
        (node,) = await resolve(db, fault.node)
        if not await db.machines[node].pause():
            raise NoEffect(f"{node} did not run")

        async def undo() -> str:
            if node in db.machines:
                await db.machines[node].resume()
            return ""

        return ActiveFault(node, "paused", undo)


async def _kill(db: Database, names: list[str]) -> ActiveFault:
    killed = [name for name in names if await db.machines[name].kill()]
    if not killed:
        raise NoEffect(f"{', '.join(names)} did not run")

    async def undo() -> str:
        for name in killed:
            if name in db.machines:
                await db.machines[name].start()
        return ""

    return ActiveFault(", ".join(killed), "killed", undo)

"""Nodes that die and nodes that stand still."""

from __future__ import annotations

from random import Random

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.nemesis.base import ActiveFault, Fault, Kind, one_node, resolve, some_nodes


class KillNemesis(Kind):
    name = "kill"
    summary = "SIGKILL some nodes, often the leader; start them again later"

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, some_nodes(rng, size))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        return await _kill(system, await resolve(system, fault))


class RestartNemesis(Kind):
    name = "restart"
    summary = "SIGKILL all nodes at once, and start them again"

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, tuple(range(size)))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        return await _kill(system, list(system.nodes))


class PauseNemesis(Kind):
    name = "pause"
    summary = "SIGSTOP a node, often the leader; it goes on as if nothing had happened"

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, one_node(rng, size))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        chosen = await resolve(system, fault)
        paused = [name for name in chosen if await system.machines[name].pause()]
        if not paused:
            raise NoEffect(f"{', '.join(chosen)} did not run")

        async def undo() -> str:
            for name in paused:
                if name in system.machines:
                    await system.machines[name].resume()
            return ""

        return ActiveFault(", ".join(paused), "stands still", undo)


async def _kill(system: Database, names: list[str]) -> ActiveFault:
    killed = [name for name in names if await system.machines[name].kill()]
    if not killed:
        raise NoEffect(f"{', '.join(names)} did not run")

    async def undo() -> str:
        for name in killed:
            if name in system.machines:
                await system.machines[name].start()
        return ""

    return ActiveFault(", ".join(killed), "killed", undo)

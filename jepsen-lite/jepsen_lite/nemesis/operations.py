"""What operators do to a healthy cluster, at the worst time."""

from __future__ import annotations

import asyncio
from random import Random

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.db.raftkv import RaftkvCluster
from jepsen_lite.nemesis.base import (
    ActiveFault,
    Fault,
    Kind,
    nothing_to_undo,
    one_node,
    resolve,
)
from raftkv.errors import RaftkvError

LOG_COMPACTION_BYTES = 1 << 20
BULK_VALUE_BYTES = 20_000
BULK_TIMEOUT_S = 10.0
INSTALL_TIMEOUT_S = 20.0
LOOK_AGAIN_S = 0.1
SNAPSHOT_EVENT = "snapshot_installed"


class TransferNemesis(Kind):
    name = "transfer"
    summary = "hand leadership to another node"

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, (rng.randrange(size),))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        (to,) = await resolve(system, fault)
        if to == await system.leader():
            nodes = system.nodes
            to = nodes[(nodes.index(to) + 1) % len(nodes)]
        leader = await system.transfer_leader(to)
        return ActiveFault(to, f"{leader} leads", nothing_to_undo)


class CompactionNemesis(Kind):
    name = "compaction"
    summary = "forget the history of all keys but for the last revisions"

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name)

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        return ActiveFault("", await system.compact(), nothing_to_undo)


class MemberNemesis(Kind):
    name = "member"
    summary = "add a new node, give it a vote, and remove an old one, often the leader"

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, one_node(rng, size))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        (old,) = await resolve(system, fault)
        new = await system.replace(old)

        async def undo() -> str:
            if not await system.finish_replacements():
                raise NoEffect("another fault has finished it")
            return f"{new} votes, {old} has left"

        return ActiveFault(old, f"{new} is added", undo)


class SnapshotNemesis(Kind):
    """Nodes keep little of their logs, so that who was away for some megabytes needs a snapshot."""

    name = "snapshot"
    summary = "a node is away until the others have compacted their logs: it needs a snapshot"

    def prepare(self, system: Database) -> None:
        if isinstance(system, RaftkvCluster):
            system.equip(
                lambda server: server.command.extend(
                    f"--set=log_{what}"
                    for what in (f"compaction_bytes={LOG_COMPACTION_BYTES}", "retained_bytes=0")
                )
            )

    def draw(self, rng: Random, size: int) -> Fault:
        return Fault(self.name, (rng.randrange(size),), amount=rng.choice((1.5, 3.0)))

    async def strike(self, system: Database, fault: Fault) -> ActiveFault:
        assert isinstance(system, RaftkvCluster)
        (node,) = await resolve(system, fault)
        server = system.servers[node]
        if not await server.kill():
            raise NoEffect(f"{node} did not run")
        seen_bytes = server.log_bytes()
        written = await _write_bulk(system, round(LOG_COMPACTION_BYTES * fault.amount))

        async def undo() -> str:
            if node not in system.servers:
                raise NoEffect(f"{node} was replaced meanwhile")
            await server.start()
            until_s = asyncio.get_running_loop().time() + INSTALL_TIMEOUT_S
            while SNAPSHOT_EVENT not in server.log(seen_bytes):
                if asyncio.get_running_loop().time() > until_s:
                    raise NoEffect("it needed no snapshot")
                await asyncio.sleep(LOOK_AGAIN_S)
            return "it was brought up by a snapshot"

        return ActiveFault(node, f"killed, then {written >> 10} KiB were written", undo)


async def _write_bulk(system: RaftkvCluster, total_bytes: int) -> int:
    """Fill the log with values of no interest; returns how much was acknowledged."""
    operator = await system.operator()

    async def write(number: int) -> int:
        value = b"%d" % number * (BULK_VALUE_BYTES // len(b"%d" % number))
        try:
            await operator.put(f"bulk/{number % 20}", value, timeout=BULK_TIMEOUT_S)
        except RaftkvError:
            return 0  # another fault is in the way
        return len(value)

    count = total_bytes // BULK_VALUE_BYTES + 1
    return sum(await asyncio.gather(*map(write, range(count))))

"""What operators do to a healthy cluster, at the worst time."""

from __future__ import annotations

import asyncio
from random import Random

from jepsen_lite.db.base import Database, NoEffect
from jepsen_lite.db.raftkv import RaftkvCluster
from jepsen_lite.faults.kinds import Compaction, Fault, MemberChange, SnapshotLag, Transfer
from jepsen_lite.nemesis.base import ActiveFault, Nemesis, nothing_to_undo, one_node, resolve

LOG_COMPACTION_BYTES = 1 << 20
INSTALL_TIMEOUT_S = 20.0
POLL_S = 0.1
SNAPSHOT_EVENT = "snapshot_installed"


class TransferNemesis(Nemesis):
    name = "transfer"
    summary = "transfer leadership to another node"

    def draw(self, rng: Random, size: int) -> Fault:
        return Transfer(0.0, 0.0, str(rng.randrange(size)))

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(fault, Transfer)
        (to,) = await resolve(db, fault.to)
        if to == await db.leader():
            nodes = db.nodes
            to = nodes[(nodes.index(to) + 1) % len(nodes)]
        leader = await db.transfer_leader(to)
        return ActiveFault(to, f"{leader} leads", nothing_to_undo)


class CompactionNemesis(Nemesis):
    name = "compaction"
    summary = "compact the history of all keys, except for the last revisions"

    def draw(self, rng: Random, size: int) -> Fault:
        return Compaction(0.0, 0.0)

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        return ActiveFault("", await db.compact(), nothing_to_undo)


class MemberNemesis(Nemesis):
    name = "member"
    summary = "add a new node, promote it to a voter, and remove an old one, often the leader"

    def draw(self, rng: Random, size: int) -> Fault:
        return MemberChange(0.0, 0.0, one_node(rng, size), add=True, add_first=True)

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(fault, MemberChange)
        (old,) = await resolve(db, fault.remove)
        new = await db.replace(old)

        async def undo() -> str:
            if not await db.finish_replacements():
                raise NoEffect("another fault has finished it")
            return f"{new} votes, {old} was removed"

        return ActiveFault(old, f"{new} is added", undo)


class SnapshotNemesis(Nemesis):
    """Nodes keep short logs, so that a node that misses some megabytes needs a snapshot."""

    name = "snapshot"
    summary = "a node is down until the others have compacted their logs: it needs a snapshot"

    def prepare(self, db: Database) -> None:
        if isinstance(db, RaftkvCluster):
            db.equip(
                lambda server: server.command.extend(
                    f"--set=log_{what}"
                    for what in (f"compaction_bytes={LOG_COMPACTION_BYTES}", "retained_bytes=0")
                )
            )

    def draw(self, rng: Random, size: int) -> Fault:
        return SnapshotLag(0.0, 0.0, str(rng.randrange(size)), rng.choice((1.5, 3.0)))

    async def inject(self, db: Database, fault: Fault) -> ActiveFault:
        assert isinstance(db, RaftkvCluster)
        assert isinstance(fault, SnapshotLag)
        (node,) = await resolve(db, fault.node)
        server = db.servers[node]
        if not await server.kill():
            raise NoEffect(f"{node} did not run")
        seen_bytes = server.log_bytes()
        written = await db.write_bulk(round(LOG_COMPACTION_BYTES * fault.compactions))

        async def undo() -> str:
            if node not in db.servers:
                raise NoEffect(f"{node} was replaced meanwhile")
            await server.start()
            until_s = asyncio.get_running_loop().time() + INSTALL_TIMEOUT_S
            while SNAPSHOT_EVENT not in server.log(seen_bytes):
                if asyncio.get_running_loop().time() > until_s:
                    raise NoEffect("it needed no snapshot")
                await asyncio.sleep(POLL_S)
            return "it has installed a snapshot"

        return ActiveFault(node, f"killed, then {written >> 10} KiB were written", undo)

"""Founders that call each other in memory, crash, and lose their disks, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from raftkv.errors import RaftkvError, StorageError, Unavailable
from raftkv.node.founding import Founder
from raftkv.peer.codec import decode_founding, encode_founding
from raftkv.peer.ports import Founding
from raftkv.raft.entry import Address, Membership
from raftkv.rpc.v1 import peer_pb2
from raftkv.storage.identity import DirectoryIdentity, MemoryIdentityStore, Stage
from raftkv.versions import SUPPORTED, VersionRange
from raftkv.wire.membership import decode_membership

LATENCY_S = 0.002
PATIENCE_S = 60.0
CLUSTER = 7


def addresses_of(*node_ids: int) -> dict[int, Address]:
    return {id: Address(f"n{id}:1", f"n{id}:2") for id in node_ids}


class Disk(MemoryIdentityStore):
    """An identity that outlives its process. A `full` disk takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def save(self, identity: DirectoryIdentity) -> None:
        if self.full:
            raise StorageError("no space left")
        super().save(identity)


class Process:
    """One life of a founder. `founded` is its membership once it has begun to take part."""

    def __init__(self, world: World, node_id: int) -> None:
        self.world = world
        self.node_id = node_id
        self.founder = world.founder_of(node_id)
        self.started = False
        self.failed: RaftkvError | None = None
        self.task = asyncio.create_task(self._run())

    @property
    def up(self) -> bool:
        return not self.task.done() or self.started

    async def _run(self) -> None:
        disk = self.world.disks[self.node_id]
        try:
            identity = self.founder.identity
            if identity.stage is Stage.FOUNDING:
                identity = await self.founder.found(self._ask)
                disk.save(replace(identity, stage=Stage.MEMBER))
            self.world.begins(self.node_id, identity)
        except RaftkvError as error:
            self.failed = error
            return
        membership = decode_membership(identity.membership)
        self.founder.started(replace(identity, stage=Stage.MEMBER), lambda: membership)
        self.started = True

    async def _ask(self, to: int, said: Founding) -> Founding:
        return await self.world.carry(self, to, said)


class World:
    """`settings` are the initial members of each node, `without` whom its operator gave up."""

    def __init__(self, *node_ids: int, seed: int = 1) -> None:
        self.rng = Random(seed)
        self.disks = {id: Disk() for id in node_ids}
        self.processes: dict[int, Process] = {}
        self.settings: dict[int, Mapping[int, Address]] = {
            id: addresses_of(*node_ids) for id in node_ids
        }
        self.without: dict[int, frozenset[int]] = {}
        self.versions: dict[int, VersionRange] = {}
        self.cut: set[frozenset[int]] = set()
        self.calls = 0
        self.incarnations: dict[int, Membership] = {}
        """All that were ever begun, with the membership that they began with."""

    def founder_of(self, node_id: int) -> Founder:
        disk = self.disks[node_id]
        identity = disk.load()
        if identity is None:
            identity = DirectoryIdentity(CLUSTER, node_id, self.rng.getrandbits(64) or 1)
            disk.save(identity)
        return Founder(
            disk,
            identity,
            self.settings[node_id],
            self.without.get(node_id, frozenset()),
            Random(self.rng.getrandbits(64)),
            self.versions.get(node_id, SUPPORTED),
        )

    def start(self, *node_ids: int) -> None:
        for node_id in node_ids:
            self.processes[node_id] = Process(self, node_id)

    async def crash(self, *node_ids: int) -> None:
        for node_id in node_ids:
            process = self.processes.pop(node_id)
            process.task.cancel()
            await asyncio.wait({process.task})
            if not process.task.cancelled():
                process.task.result()  # what `begins` has found

    def empty(self, node_id: int) -> None:
        """Its operator gives a node that is down a new disk."""
        assert node_id not in self.processes
        self.disks[node_id] = Disk()

    def cut_between(self, one: int, other: int) -> None:
        self.cut.add(frozenset({one, other}))

    async def carry(self, caller: Process, to: int, said: Founding) -> Founding:
        """As over the wire, so every word is one that can be said there."""
        self.calls += 1
        wire = encode_founding(said).SerializeToString()
        await asyncio.sleep(LATENCY_S * self.rng.uniform(0.5, 1.5))
        process = self._reached(caller, to)
        answer = process.founder.answer(caller.node_id, _read(wire, caller.node_id))
        wire = encode_founding(answer).SerializeToString()
        await asyncio.sleep(LATENCY_S * self.rng.uniform(0.5, 1.5))
        self._reached(caller, to)
        return _read(wire, to)

    def _reached(self, caller: Process, to: int) -> Process:
        process = self.processes.get(to)
        cut = frozenset({caller.node_id, to}) in self.cut
        if process is None or not process.up or cut or self.disks[to].full:
            raise Unavailable(f"node {to} does not answer")
        return process

    def begins(self, node_id: int, identity: DirectoryIdentity) -> None:
        """A node is about to take part: what founding promises."""
        membership = decode_membership(identity.membership)
        stored = {id: self.disks[id].load() for id in membership.voters}
        if identity.incarnation not in self.incarnations:
            assert all(
                each is not None and each.incarnation == identity.incarnation
                for each in stored.values()
            ), f"node {node_id} began before all had stored"
            assert {id: each.disk_id for id, each in stored.items() if each} == membership.disk_ids
            lives = [known for known in self.incarnations.values() if known != membership]
            for other in lives:  # of an earlier one no disk may be left
                assert not any(
                    each is not None and each.disk_id == other.disk_ids[id]
                    for id, each in stored.items()
                ), "two incarnations"
            self.incarnations[identity.incarnation] = membership
        assert self.incarnations[identity.incarnation] == membership, "two first memberships"
        assert identity.disk_id == membership.disk_ids[node_id], "an emptied disk has founded"

    def all_started(self) -> bool:
        return all(id in self.processes and self.processes[id].started for id in self.disks)

    async def until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(LATENCY_S / 4)
                for process in self.processes.values():
                    if process.task.done():
                        process.task.result()

    async def close(self) -> None:
        await self.crash(*self.processes)

    def waiting_for(self, node_id: int) -> dict[int, str]:
        return self.processes[node_id].founder.waiting_for


def _read(wire: bytes, sender: int) -> Founding:
    return decode_founding(peer_pb2.Founding.FromString(wire), sender)

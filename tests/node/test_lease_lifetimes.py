"""Three nodes on virtual time: the lifetime of a lease in a store without writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from raftkv.node.clocks import STAMP_EVERY_MS
from raftkv.node.node import Node
from raftkv.rpc.v1 import kv_pb2
from tests.node.wire import STEP_S, Wire, cluster_of, leaders, soon, until

LEASE = 77


async def grant(node: Node, ttl_ms: int) -> None:
    command = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(lease=LEASE, ttl_ms=ttl_ms))
    await node.submit(kv_pb2.CommandBatch(commands=[command]).SerializeToString(), soon())


async def depose(wire: Wire, leader: Node) -> tuple[Node, float]:
    """The next leader, and how long cluster time stood still without one."""
    began = asyncio.get_running_loop().time()
    wire.cut_off = {leader.node_id}
    await until(lambda: any(node.core.established for node in leaders(wire, but=leader)))
    vacant_s = asyncio.get_running_loop().time() - began
    (new,) = leaders(wire, but=leader)
    wire.cut_off.clear()
    await until(lambda: not leader.core.leads)
    return new, vacant_s


async def test_a_lease_does_not_begin_anew_with_each_leader(tmp_path: Path) -> None:
    """Without writes, only the leader's own stamps advance cluster time."""
    ttl_s, changes = 8.0, 3
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        granted = asyncio.get_running_loop().time()
        await grant(leader, int(ttl_s * 1000))
        vacant_s = 0.0
        for _ in range(changes):
            await asyncio.sleep(2.0)
            leader, more_s = await depose(wire, leader)
            vacant_s += more_s
        await until(lambda: LEASE not in leader.machine.leases())
        lived_s = asyncio.get_running_loop().time() - granted
        lost_s = changes * STAMP_EVERY_MS / 1000
        assert ttl_s <= lived_s <= ttl_s + vacant_s + lost_s + 0.5


async def test_a_store_without_leases_is_left_alone(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (_, leader):
        before = leader.core.commit_index
        for _ in range(300):
            await asyncio.sleep(STEP_S)
        assert leader.core.commit_index == before

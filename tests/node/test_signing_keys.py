"""Three nodes on virtual time: the keys that sign tokens, and the time by which tokens expire."""

from __future__ import annotations

import asyncio
from pathlib import Path

from raftkv.kv.auth import SECRET_BYTES_MIN
from raftkv.node.leader_maintenance import signing_key_is_due
from raftkv.node.node import Node
from raftkv.rpc.v1 import auth_pb2, kv_pb2
from raftkv.versions import AUTHENTICATED
from tests.node.wire import Wire, cluster_of, leaders, raise_version, soon, until

MINUTE_S = 60.0
AGE_MS_MAX = 24 * 3_600_000


async def add_user(node: Node, name: str) -> None:
    change = auth_pb2.AuthCommand(user_add=auth_pb2.UserAdd(name=name))
    batch = kv_pb2.CommandBatch(commands=[kv_pb2.Command(auth=change)])
    results = kv_pb2.BatchResult.FromString(await node.submit(batch.SerializeToString(), soon()))
    assert not results.results[0].HasField("failure"), results


def followers(wire: Wire, leader: Node) -> list[Node]:
    return [node for node in wire.nodes.values() if node is not leader]


def key_ids(node: Node) -> list[int]:
    return [key.id for key in node.machine.rights.signing_keys]


async def test_a_cluster_gets_a_signing_key_with_its_first_user(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        await raise_version(wire, leader, AUTHENTICATED)
        await asyncio.sleep(5.0)
        assert key_ids(leader) == []
        # A follower forwards the command, which its leader checks as that of a node.
        await add_user(followers(wire, leader)[0], "app")
        await until(lambda: all(key_ids(node) == [1] for node in wire.nodes.values()))
        (key,) = leader.machine.rights.signing_keys
        assert len(key.secret) == SECRET_BYTES_MIN
        before = leader.core.commit_index
        await asyncio.sleep(5.0)
        assert leader.core.commit_index == before, "an idle cluster stays idle"


async def test_a_new_leader_makes_no_key_that_is_there_and_other_clusters_have_others(
    tmp_path: Path,
) -> None:
    secrets = []
    for seed in (1, 2):
        async with cluster_of(tmp_path / str(seed), seed, leader_lease=False) as (wire, leader):
            await raise_version(wire, leader, AUTHENTICATED)
            await add_user(leader, "app")
            await until(lambda: all(key_ids(node) == [1] for node in wire.nodes.values()))
            wire.cut_off = {leader.node_id}
            await until(lambda: any(node.core.established for node in leaders(wire, but=leader)))
            (new,) = leaders(wire, but=leader)
            await asyncio.sleep(2.0)
            assert key_ids(new) == [1]
            secrets.append(new.machine.rights.signing_keys[0].secret)
            wire.cut_off.clear()
    assert secrets[0] != secrets[1]


async def test_an_old_signing_key_is_replaced_and_verifies_once_more(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        await raise_version(wire, leader, AUTHENTICATED)
        await add_user(leader, "app")
        await until(lambda: key_ids(leader) == [1])
        rights = leader.machine.rights
        created_ms = rights.signing_keys[0].created_ms
        assert not signing_key_is_due(rights, created_ms + AGE_MS_MAX - 1, AGE_MS_MAX)
        assert signing_key_is_due(rights, created_ms + AGE_MS_MAX, AGE_MS_MAX)
        # A day of this cluster would be millions of ticks. So its leader's clock begins later.
        for expected in ([2, 1], [3, 2]):
            now_s = asyncio.get_running_loop().time()
            late_ms = leader.cluster_time_ms + AGE_MS_MAX
            leader.driver._clock.start(late_ms, now_s)
            await until(lambda: all(key_ids(each) == expected for each in wire.nodes.values()))  # noqa: B023


async def test_a_leader_without_a_majority_proposes_one_signing_key(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        await raise_version(wire, leader, AUTHENTICATED)
        await add_user(leader, "app")
        await until(lambda: key_ids(leader) == [1])
        before = leader.core.log.last_index
        wire.cut_off = {leader.node_id}
        now_s = asyncio.get_running_loop().time()
        leader.driver._clock.start(leader.cluster_time_ms + AGE_MS_MAX, now_s)
        await until(lambda: not leader.core.leads)
        assert leader.core.log.last_index == before + 1


async def test_the_time_of_tokens_goes_on_where_cluster_time_stands_still(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1, leader_lease=False) as (wire, leader):
        await asyncio.sleep(2.0)
        stamps = {node.node_id: node.machine.time_ms for node in wire.nodes.values()}
        before = {node.node_id: node.auth_time_ms for node in wire.nodes.values()}
        await asyncio.sleep(MINUTE_S)
        for node in wire.nodes.values():
            assert node.machine.time_ms == stamps[node.node_id]
            assert abs(node.auth_time_ms - before[node.node_id] - MINUTE_S * 1000) <= 1
        # A batch without commands is an entry with a stamp, also from a follower.
        behind = followers(wire, leader)[0]
        nothing = kv_pb2.CommandBatch().SerializeToString()
        assert await behind.submit(nothing, soon()) == b""
        await until(lambda: len({node.machine.time_ms for node in wire.nodes.values()}) == 1)
        assert leader.machine.time_ms > stamps[leader.node_id] + MINUTE_S * 900
        times = [node.auth_time_ms for node in wire.nodes.values()]
        assert max(times) - min(times) < 1000

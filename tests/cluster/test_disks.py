"""Disks that lie, fill up or are emptied under real nodes; what was acknowledged stays."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import grpc
import pytest

import raftkv
from raftkv.cli.exit_codes import ExitCode
from raftkv.errors import DamagedData
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.wire.grpc_status import error_of_call
from tests.cluster.cluster import Cluster, NodeProcess, eventually, free_ports
from tests.cluster.disk_faults import (
    fill_up,
    flip_bit,
    flip_bit_of,
    spoil_tables,
    tear_tail,
    write_ahead_log,
)
from tests.cluster.test_faults import Writers, lost, stored
from tests.cluster.test_lost_disks import not_serving
from tests.cluster.test_membership import promote

pytestmark = pytest.mark.cluster


def refused(node: NodeProcess, reason: str, *advice: str) -> None:
    """The process ended by itself, said why and what to do, and left the right exit code."""
    assert node.wait() == ExitCode.STORAGE, node.log()[-2000:]
    said = node.log().splitlines()[-1]
    for each in (reason, *advice):
        assert each in said


async def left_service(cluster: Cluster, node_id: int) -> None:
    """The node has found damage of its own, says so to all who ask, and how it is rebuilt."""
    await not_serving(cluster, node_id, f"`raftkv member replace {node_id} NEW`")
    said = (await cluster.status(node_id)).not_serving
    assert said.startswith("it is out of service: ")
    assert "is damaged" in said
    log = cluster.nodes[node_id].log()
    assert '"event": "damage_found"' in log
    assert '"event": "out_of_service"' in log


@pytest.mark.slow
async def test_a_node_with_a_damaged_log_refuses_to_start_and_is_replaced(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        writers = Writers(client)
        await writers.more(200)
        damaged = 1 + await cluster.leader() % 3
        cluster.nodes[damaged].kill()
        await writers.more()
        log = write_ahead_log(cluster.nodes[damaged].data_dir / "log")
        flip_bit(log, log.stat().st_size // 2)

        cluster.start(damaged)
        refused(cluster.nodes[damaged], "DAMAGED_DATA", "member replace OLD NEW")

        await writers.more()
        await client.member_remove(damaged, timeout=10)
        await cluster.join(4)
        await promote(client, 4)
        await writers.more()
        await writers.stop()
        assert not writers.unknown
        async with cluster.client(4) as direct:
            assert not lost(writers, await stored(direct))


async def test_a_node_serves_no_byte_of_a_damaged_state(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        for number in range(200):
            await client.put(f"key/{number}", f"<value {number}>" * 50)
        damaged = 1 + await cluster.leader() % 3
        node = cluster.nodes[damaged]
        await caught_up(cluster, damaged)
        node.send(signal.SIGTERM)  # the state is flushed to table files on the way out
        assert node.wait() == 0
        flip_bit_of(b"<value 123>" * 50, node.data_dir / "state" / "state-1")

        cluster.start(damaged)
        await cluster.ready(damaged)
        request = api_pb2.RangeRequest(
            range=kv_pb2.Range(key=b"key/123"), level=api_pb2.READ_LEVEL_STALE
        )
        async with grpc.aio.insecure_channel(node.client_address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await api_pb2_grpc.KVStub(channel).Range(request, timeout=10)
        assert failed.value.code() is grpc.StatusCode.DATA_LOSS
        error = error_of_call(failed.value)
        assert isinstance(error, DamagedData)
        assert error.outcome is raftkv.Outcome.SAFE_TO_RETRY

        await left_service(cluster, damaged)
        for number in range(200):
            item = await client.get(f"key/{number}")
            assert item is not None
            assert item.value == f"<value {number}>".encode() * 50


async def join_when_settled(cluster: Cluster, node_id: int) -> NodeProcess:
    """Add the node as soon as the leader has committed something in its term."""

    async def joined() -> bool:
        try:
            await cluster.join(node_id)
        except raftkv.MembershipRefused:
            return False
        return True

    await eventually(joined, f"node {node_id} is added")
    return cluster.nodes[node_id]


async def caught_up(cluster: Cluster, node_id: int) -> None:
    """Wait until the node has applied everything: what it applied after damage was done to it would
    read that, and give it away.
    """

    async def has_all() -> bool:
        leader = await cluster.status(await cluster.leader())
        return (await cluster.status(node_id)).applied_index == leader.commit_index

    await eventually(has_all, f"node {node_id} has applied everything")


async def written(client: raftkv.Client, key: str, value: bytes) -> int:
    """The revision that the put made."""
    return (await client.put(key, value, timeout=30)).revision


@pytest.mark.slow
async def test_damaged_tables_are_no_new_node_s_beginning(tmp_path: Path) -> None:
    """Whoever leads with them gives that up instead of sending them, and another one sends his."""
    settings = "--set log_compaction_bytes=65536 --set log_retained_bytes=0"
    async with Cluster(tmp_path, 3, settings=settings) as cluster, cluster.client() as client:
        rounds = [{f"key/{number}": os.urandom(1500) for number in range(500)} for _ in range(3)]
        revisions = [
            max(await asyncio.gather(*(written(client, key, each[key]) for key in each)))
            for each in rounds
        ]
        damaged = max({1, 2, 3} - {await cluster.leader()})  # others find the cluster at the first
        node = cluster.nodes[damaged]
        await caught_up(cluster, damaged)
        node.send(signal.SIGTERM)  # the state is flushed to table files on the way out
        assert node.wait() == 0
        assert spoil_tables(node.data_dir / "state" / "state-1")
        cluster.start(damaged)
        await cluster.ready(damaged)
        await client.transfer_leader(damaged, timeout=10)

        newcomer = await join_when_settled(cluster, 4)
        await left_service(cluster, damaged)
        await promote(client, 4)
        assert "snapshot_send" not in node.log()
        assert "leadership_transfer" in node.log()
        assert "snapshot_installed" in newcomer.log()
        async with cluster.client(4) as direct:
            for revision, each in zip(revisions, rounds, strict=True):
                for key, value in each.items():
                    item = await direct.get(key, revision=revision)
                    assert item is not None
                    assert item.value == value


async def test_a_leader_whose_disk_is_full_steps_aside_and_returns_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        writers = Writers(client)
        await writers.more()
        full = await cluster.leader()
        node = cluster.nodes[full]
        assert node.process is not None
        fill_up(node.process.pid, node.data_dir)
        for number in range(40):
            await client.put(f"bulk/{number}", b"x" * 20_000, timeout=20)

        refused(node, "DISK_FULL", "free space on this disk, then restart")
        await writers.more()
        cluster.start(full)
        await cluster.ready(full)
        await writers.more()
        await writers.stop()
        async with cluster.client(full) as direct:
            assert not lost(writers, await stored(direct))
            bulk = await direct.range_prefix("bulk/", keys_only=True)
            assert bulk.count == 40


async def test_a_log_that_ends_in_half_a_record_recovers(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        writers = Writers(client)
        await writers.more(200)
        for node in cluster.nodes.values():
            node.kill()
            tear_tail(node.data_dir / "log")
        for node_id in cluster.nodes:
            cluster.start(node_id)
        await cluster.ready()
        await writers.more()
        await writers.stop()
        assert not lost(writers, await stored(client))


async def test_a_node_that_lost_its_promises_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster, cluster.client() as client:
        await client.put("before", "kept")
        emptied = 1 + await cluster.leader() % 3
        node = cluster.nodes[emptied]
        node.kill()
        shutil.rmtree(node.data_dir / "log")
        cluster.start(emptied)
        refused(node, "DAMAGED_DATA", "the log in", "is gone", "member replace OLD NEW")

        shutil.rmtree(node.data_dir)
        for _ in range(2):  # the refusal leaves nothing behind that a second try could stand on
            cluster.start(emptied)
            refused(node, "DAMAGED_DATA", f"`raftkv member replace {emptied} NEW", "a new id")
        await client.put("after", "goes on")


async def test_a_directory_serves_one_process_of_one_node_of_one_cluster(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        owner = cluster.nodes[1]

        def start_another(node_id: int, cluster_name: str) -> NodeProcess:
            client_port, peer_port = free_ports(2)
            other = NodeProcess(node_id, tmp_path / "other", client_port, peer_port, peer_port)
            other.start("--data-dir", str(owner.data_dir), "--cluster-name", cluster_name)
            return other

        assert owner.process is not None
        refused(
            start_another(1, "raftkv"), "DIRECTORY_IN_USE", f"process {owner.process.pid}", "stop"
        )
        async with cluster.client() as client:
            await client.put("still", "served")
        owner.kill()
        refused(start_another(1, "another"), "DIRECTORY_MISMATCH", "cluster name")
        cluster.start(1)
        await cluster.ready()
        owner.kill()
        own = ("--initial-members", f"2={owner.peer_address}/{owner.client_address}")
        stranger = NodeProcess(2, owner.directory, *ports_of(owner))
        stranger.start(*own)
        refused(stranger, "DIRECTORY_MISMATCH")


def ports_of(node: NodeProcess) -> tuple[int, int, int]:
    client, peer = (
        int(each.rsplit(":", 1)[1]) for each in (node.client_address, node.peer_address)
    )
    return client, peer, peer

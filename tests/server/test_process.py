"""A whole node, from its settings to its end: real disk, real ports, no peers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S, get, open_server, put

from jepsen_lite.ports import free_ports
from raftkv.config import Settings
from raftkv.errors import (
    AddressInUse,
    ConfigurationError,
    DirectoryInUse,
    DirectoryMismatch,
    Unavailable,
)
from raftkv.raft.entry import Address
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc
from raftkv.server.process import NodeProcess
from raftkv.storage.directory import read_identity


def free_addresses(count: int) -> list[str]:
    """Free addresses on loopback."""
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


def settings_of(data_dir: Path, **changes: Any) -> Settings:
    client, peer = free_addresses(2)
    chosen = {"client_listen": client, "peer_listen": peer, "tick_ms": 10, **changes}
    chosen.setdefault("disk_reserve_bytes", 0)
    chosen.setdefault("http_listen", "off")
    return Settings(data_dir=data_dir, **chosen)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[NodeProcess]:
    process = NodeProcess(settings)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()


@asynccontextmanager
async def kv_of(settings: Settings) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(settings.client_listen) as channel:
        yield api_pb2_grpc.KVStub(channel)  # type: ignore[no-untyped-call]


async def test_a_node_keeps_what_it_acknowledged_over_a_restart(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings), kv_of(settings) as kv:
        await kv.Execute(api_pb2.ExecuteRequest(command=put("a", b"1")), timeout=PATIENCE_S)

    async with running(settings), kv_of(settings) as kv:
        reply = await kv.Range(api_pb2.RangeRequest(range=get("a")), timeout=PATIENCE_S)

    assert reply.result.kvs[0].value == b"1"


async def test_a_requested_stop_has_no_reason(tmp_path: Path) -> None:
    async with running(settings_of(tmp_path / "node")) as process:
        stopped = asyncio.create_task(process.wait_stopped())

    assert await stopped is None


@pytest.mark.parametrize("port", ["client_listen", "peer_listen", "http_listen"])
async def test_a_port_in_use_is_reported_and_nothing_stays_open(tmp_path: Path, port: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "{}:{}".format(*taken.getsockname())
        settings = settings_of(tmp_path / "node", **{port: address})
        with pytest.raises(AddressInUse, match=address):
            await NodeProcess(settings).start()

    async with running(settings):
        pass


async def test_a_directory_in_use_or_of_another_cluster_is_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "node")
    async with running(settings):
        with pytest.raises(DirectoryInUse):
            await NodeProcess(settings).start()

    with pytest.raises(DirectoryMismatch, match="cluster"):
        await NodeProcess(settings_of(tmp_path / "node", cluster_name="another")).start()


async def test_a_joining_node_learns_its_cluster_once(tmp_path: Path) -> None:
    async with open_server(tmp_path) as member:
        settings = settings_of(tmp_path / "node", node_id=4, join=f"127.0.0.1:{member.port}")
        address = Address(settings.peer_advertise, settings.client_advertise)
        await member.node.member_add(4, address, 0.0)
        async with running(settings):
            identity = read_identity(settings.data_dir)

    assert identity is not None
    assert (identity.cluster_id, identity.node_id) == (0xC0FFEE, 4)
    # The member that was asked has gone; the directory knows.
    async with running(settings):
        pass


async def test_a_node_joins_by_any_of_the_addresses_that_it_is_given(tmp_path: Path) -> None:
    (nobody,) = free_addresses(1)
    async with open_server(tmp_path) as member:
        join = f"{nobody}, 127.0.0.1:{member.port}"
        settings = settings_of(tmp_path / "node", node_id=4, join=join)
        address = Address(settings.peer_advertise, settings.client_advertise)
        await member.node.member_add(4, address, 0.0)
        async with running(settings):
            assert member.node.membership.members >= {4}


async def test_the_error_of_a_node_that_was_not_added_names_the_command_that_adds_it(
    tmp_path: Path,
) -> None:
    async with open_server(tmp_path) as member:
        settings = settings_of(tmp_path / "node", node_id=4, join=f"127.0.0.1:{member.port}")
        with pytest.raises(ConfigurationError, match=f"raftkv member add 4 .* -e {settings.join}`"):
            await NodeProcess(settings).start()

    assert read_identity(settings.data_dir) is None


async def test_a_joining_node_corrects_the_addresses_with_which_it_was_added(
    tmp_path: Path,
) -> None:
    async with open_server(tmp_path) as member:
        settings = settings_of(tmp_path / "node", node_id=4, join=f"127.0.0.1:{member.port}")
        await member.node.member_add(4, Address("127.0.0.1:1", "127.0.0.1:2"), 0.0)
        async with running(settings):
            address = member.node.membership.addresses[4]
    assert address == Address(settings.peer_advertise, settings.client_advertise)


async def test_joining_a_cluster_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    (nobody,) = free_addresses(1)
    with pytest.raises(Unavailable, match=nobody):
        await NodeProcess(settings_of(tmp_path / "node", node_id=4, join=nobody)).start()


async def status_at(address: str) -> api_pb2.StatusReply:
    async with grpc.aio.insecure_channel(address) as channel:
        cluster = api_pb2_grpc.ClusterStub(channel)  # type: ignore[no-untyped-call]
        reply: api_pb2.StatusReply = await cluster.Status(
            api_pb2.StatusRequest(), timeout=PATIENCE_S, wait_for_ready=True
        )
        return reply


async def test_a_first_start_waits_for_a_silent_founder_and_names_it(tmp_path: Path) -> None:
    own_peer, own_client, peer, client = free_addresses(4)
    members = {1: Address(own_peer, own_client), 2: Address(peer, client)}
    settings = Settings(data_dir=tmp_path / "node", initial_members=members, disk_reserve_bytes=0)
    starting = asyncio.create_task(NodeProcess(settings).start())
    async with asyncio.timeout(PATIENCE_S):
        while (
            f"node 2: it takes no connection at {peer}"
            not in (await status_at(own_client)).not_serving
        ):
            assert not starting.done()
    starting.cancel()
    await asyncio.wait({starting})
    for address in (own_peer, own_client):  # nothing is left open
        host, port = address.split(":")
        socket.create_server((host, int(port))).close()
    # Its directory is no member's: it can be started as one of others, too.
    identity = read_identity(settings.data_dir)
    assert identity is not None
    assert not identity.incarnation

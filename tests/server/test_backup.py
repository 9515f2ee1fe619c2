"""A backup as a node streams it: whole, at one revision, no faster than it is asked for."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import grpc
import pytest
import zstandard
from fake_node import PATIENCE_S, FakeServer, open_server, put
from users import Users

from raftkv.client.backup_stream import backup_parts, node_for_backup
from raftkv.client.client import connect
from raftkv.errors import (
    DamagedData,
    DeadlineExceeded,
    Overloaded,
    PermissionDenied,
    RaftkvError,
    ShuttingDown,
    Unauthenticated,
)
from raftkv.kv.restoration import backup_rows
from raftkv.kv.rights import ROOT, AdminRight
from raftkv.kv.store import Family
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.server.services import maintenance
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.wire.grpc_status import error_of_call

ASK = api_pb2.BackupRequest()


def open_stream(server: FakeServer, metadata: Any = ()) -> Any:
    stub = api_pb2_grpc.MaintenanceStub(server.channel)  # type: ignore[no-untyped-call]
    return stub.Backup(metadata=metadata)


async def part_of(stream: Any) -> Any:
    await stream.write(ASK)
    async with asyncio.timeout(PATIENCE_S):
        return await stream.read()


async def end_of(stream: Any) -> RaftkvError:
    async def ask_on() -> None:
        while await stream.read() is not grpc.aio.EOF:
            await stream.write(ASK)

    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(ask_on(), PATIENCE_S)
    error = error_of_call(ended.value)
    assert error is not None, ended.value
    return error


def fill(server: FakeServer, keys: int = 40) -> None:
    for number in range(keys):
        server.node.run(put(f"k{number:03}", b"v" * 20_000))


async def test_all_rows_of_one_revision_arrive_in_parts_with_their_digest(
    server: FakeServer,
) -> None:
    fill(server)
    expected = list(backup_rows(server.node.machine.view))
    async with connect(f"127.0.0.1:{server.port}") as client:
        address = await node_for_backup(client)
        parts = []
        async for part in backup_parts(client, address):
            parts.append(part)
            server.node.run(put("k039", b"later"), put("z", b"later"))
    first, *of_rows, last = parts
    assert first.backup.revision == first.header.revision == 41
    assert first.backup.cluster_id == server.node.cluster_id
    assert len(of_rows) == 3
    unpacked = [
        row
        for part in of_rows
        for row in api_pb2.BackupRows.FromString(zstandard.decompress(part.rows)).rows
    ]
    assert [(Family(row.family), row.key, row.value) for row in unpacked] == expected
    whole = b"".join(part.rows for part in of_rows)
    assert last.end == api_pb2.BackupEnd(
        rows=len(expected), rows_bytes=len(whole), rows_sha256=hashlib.sha256(whole).digest()
    )


async def test_no_part_is_sent_before_it_is_asked_for(server: FakeServer) -> None:
    fill(server)
    stream = open_stream(server)
    assert (await part_of(stream)).HasField("backup")
    reading = asyncio.ensure_future(stream.read())
    done, _ = await asyncio.wait([reading], timeout=0.2)
    assert not done
    await stream.write(ASK)
    assert (await reading).rows
    stream.cancel()


async def test_a_second_backup_at_a_time_is_refused(server: FakeServer) -> None:
    fill(server, 1)
    stream = open_stream(server)
    await part_of(stream)
    second = open_stream(server)
    await second.write(ASK)
    assert isinstance(await end_of(second), Overloaded)
    stream.cancel()


async def test_only_root_saves_a_backup_and_only_while_it_is_root(server: FakeServer) -> None:
    users = Users(server.node)
    fill(server)
    users.change(role_add=auth.RoleAdd(name="all"))
    users.change(
        role_grant=auth.RoleGrant(role="all", permission=auth.Permission(access=3, range_end=b"\0"))
    )
    users.change(user_grant_role=auth.UserGrantRole(name="app", role="all"))
    for right in AdminRight:
        users.change(role_grant=auth.RoleGrant(role="all", admin_right=right.value))
    denied = open_stream(server, users.of("app"))
    await denied.write(ASK)
    error = await end_of(denied)
    assert isinstance(error, PermissionDenied)
    assert error.facts["missing"] == "the role root"
    users.add("other", ROOT)
    stream = open_stream(server, users.of("other"))
    assert (await part_of(stream)).HasField("backup")
    users.change(user_revoke_role=auth.UserRevokeRole(name="other", role=ROOT))
    await stream.write(ASK)
    assert isinstance(await end_of(stream), PermissionDenied)
    stream = open_stream(server, users.of("app"))
    users.change(user_delete=auth.UserDelete(name="app"))
    await stream.write(ASK)
    assert isinstance(await end_of(stream), Unauthenticated)


async def test_the_command_gets_the_reason_for_which_a_node_refuses(server: FakeServer) -> None:
    users = Users(server.node)
    address = f"127.0.0.1:{server.port}"
    async with connect(address, token=users.tokens["app"]) as client:
        with pytest.raises(PermissionDenied):
            await anext(backup_parts(client, address))
    fill(server, 1)
    async with connect(address, token=users.tokens[ROOT]) as client:
        first, second = backup_parts(client, address), backup_parts(client, address)
        await anext(first)
        with pytest.raises(Overloaded):
            await anext(second)
        await first.aclose()


async def test_a_stopping_node_and_a_silent_client_end_a_backup(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(server)
    stream = open_stream(server)
    await part_of(stream)
    monkeypatch.setattr(maintenance, "REQUEST_S_MAX", 0.05)
    await part_of(stream)
    assert isinstance(await end_of(stream), DeadlineExceeded)
    monkeypatch.setattr(maintenance, "REQUEST_S_MAX", 30.0)
    stream = open_stream(server)
    await part_of(stream)
    await server.client_server.drain(0)
    error = await end_of(stream)
    assert isinstance(error, ShuttingDown)


async def test_damage_in_a_row_ends_the_backup_and_the_node(tmp_path: Path) -> None:
    store = MemoryStateStore()
    async with open_server(tmp_path, store) as server:
        fill(server, 3)
        store.damage(Family.CURRENT, b"k001", 7)
        stream = open_stream(server)
        assert (await part_of(stream)).HasField("backup")
        await stream.write(ASK)
        assert isinstance(await end_of(stream), DamagedData)
        assert [type(error) for error in server.broken] == [DamagedData]


async def test_rows_are_read_at_a_bounded_share_of_the_loop(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(server)
    paused_s = 0.0
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        nonlocal paused_s
        paused_s += seconds
        await sleep(0)

    monkeypatch.setattr(maintenance.asyncio, "sleep", counted)
    monkeypatch.setattr(maintenance, "BYTES_PER_S_MAX", 1 << 20)
    parts = maintenance.BackupParts(backup_rows(server.node.machine.view))
    while await parts.next() is not None:
        pass
    assert 0.6 < paused_s < 2.0  # 800 KB

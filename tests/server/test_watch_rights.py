"""Rights of watches: at their creation, and when they are withdrawn while a watch lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S, FakeServer, put
from users import Metadata, Users

from raftkv.errors import Unauthenticated
from raftkv.kv.changes import changes_since
from raftkv.kv.machine import StateMachine
from raftkv.kv.rights import ROOT
from raftkv.kv.store import Family
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.server.watch import synced, unsynced
from raftkv.storage.memory_state import MemoryStateStore
from raftkv.wire.grpc_status import error_of_call


@pytest.fixture
def users(server: FakeServer) -> Users:
    return Users(server.node)


class Watching:
    """A client's end of a watch stream."""

    def __init__(self, server: FakeServer, metadata: Metadata) -> None:
        self.call = server.channel.stream_stream("/raftkv.rpc.v1.Watch/Open")(metadata=metadata)
        self._news: list[api_pb2.WatchNews] = []

    async def create(self, watch_id: int, start_revision: int = 0, **fields: Any) -> None:
        create = api_pb2.WatchCreate(
            watch_id=watch_id,
            start_revision=start_revision,
            **{"key": b"a", "range_end": b"b", **fields},
        )
        await self.send(creates=[create])

    async def send(self, **fields: Any) -> None:
        await self.call.write(api_pb2.WatchRequest(**fields).SerializeToString())

    async def news(self) -> api_pb2.WatchNews:
        """The next one."""
        while not self._news:
            async with asyncio.timeout(PATIENCE_S):
                message = await self.call.read()
            assert isinstance(message, bytes), "the stream has ended"
            self._news += api_pb2.WatchReply.FromString(message).news
        return self._news.pop(0)

    async def created(self, *watch_ids: int) -> None:
        for _ in watch_ids:
            assert (await self.news()).created

    async def keys(self) -> list[bytes]:
        """Those of the next events."""
        return [event.kv.key for event in (await self.news()).events]

    async def ended(self) -> str:
        """The reason why the next watch has ended."""
        return (await self.news()).ended.reason


def withdraw(name: str) -> kv_pb2.Command:
    return Users.command(user_revoke_role=auth.UserRevokeRole(name=name, role=name))


async def test_a_watch_needs_read_access_to_all_of_its_range(
    server: FakeServer, users: Users
) -> None:
    watching = Watching(server, users.of("reader"))
    await watching.create(1, range_end=b"c")
    assert await watching.ended() == "PERMISSION_DENIED"
    await watching.create(2, range_end=b"\0", start_revision=1)
    assert await watching.ended() == "PERMISSION_DENIED"
    await watching.create(3)
    await watching.created(3)


@pytest.mark.parametrize("start_revision", [0, 1])
async def test_a_node_that_lags_refuses_no_watch_that_was_granted_before(
    server: FakeServer, users: Users, start_revision: int
) -> None:
    users.withdraw("reader")
    server.node.on_barrier = lambda: users.restore("reader")
    watching = Watching(server, users.of("reader"))
    await watching.create(1, start_revision)
    await watching.created(1)


@pytest.mark.parametrize("entries", [1, 2])
async def test_a_withdrawal_ends_the_watch_before_any_later_event_even_of_the_same_run(
    server: FakeServer, users: Users, entries: int
) -> None:
    reader, app = Watching(server, users.of("reader")), Watching(server, users.of("app"))
    for watching in (reader, app):
        await watching.create(1)
        await watching.created(1)
    node, commands = server.node, [withdraw("reader"), put("a1")]
    batches = [commands] if entries == 1 else [[each] for each in commands]
    node.machine.apply(
        [
            node.entry(
                node.machine.applied_index + 1 + number,
                kv_pb2.CommandBatch(commands=batch).SerializeToString(),
                users.author(ROOT),
            )
            for number, batch in enumerate(batches)
        ]
    )
    assert await reader.ended() == "PERMISSION_DENIED"
    assert await app.keys() == [b"a1"]
    users.restore("reader")
    await reader.create(2)
    await reader.created(2)
    node.run(put("a2"), author=users.author(ROOT))
    assert await reader.keys() == [b"a2"]


async def test_a_change_that_leaves_the_range_readable_ends_no_watch(
    server: FakeServer, users: Users
) -> None:
    watching = Watching(server, users.of("app"))
    await watching.create(1)
    await watching.created(1)
    users.change(role_delete=auth.RoleDelete(name="reader"))
    users.change(user_grant_role=auth.UserGrantRole(name="app", role=ROOT))
    users.withdraw("app")
    server.node.run(put("a1"), author=users.author(ROOT))
    assert await watching.keys() == [b"a1"]


async def test_a_watch_that_reads_history_ends_with_the_withdrawal_as_well(
    server: FakeServer, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        server.node.run(put(f"a{number}"), author=users.author(ROOT))

    def interrupted(*args: Any) -> Iterator[Any]:
        for number, change in enumerate(changes_since(*args)):
            if number == 10:
                users.withdraw("reader")
            yield change

    monkeypatch.setattr(unsynced, "CHANGES_PER_TURN", 1)
    monkeypatch.setattr(unsynced, "changes_since", interrupted)
    watching = Watching(server, users.of("reader"))
    await watching.create(1, start_revision=1)
    await watching.created(1)
    assert await watching.ended() == "PERMISSION_DENIED"


async def test_a_snapshot_with_the_withdrawal_ends_the_watch_before_its_events(
    server: FakeServer, users: Users
) -> None:
    watching = Watching(server, users.of("reader"))
    await watching.create(1)
    await watching.created(1)
    node, store = server.node, MemoryStateStore()
    store.write({family: dict(node.machine.view.scan(family, b"", None)) for family in Family})
    other = StateMachine(store, node.settings.limits)
    batch = kv_pb2.CommandBatch(commands=[withdraw("reader"), put("a1")]).SerializeToString()
    other.apply([node.entry(other.applied_index + 1, batch, users.author(ROOT))])
    node.machine = other
    node.changes.replace(other)
    assert await watching.ended() == "PERMISSION_DENIED"


async def error_at_end(watching: Watching) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        try:
            while isinstance(await watching.call.read(), bytes):
                pass
        except grpc.aio.AioRpcError as ended:
            return error_of_call(ended)
    return None


async def test_the_streams_of_a_deleted_user_end_as_not_authenticated(
    server: FakeServer, users: Users
) -> None:
    watching = Watching(server, users.of("reader"))
    await watching.create(1)
    await watching.created(1)
    users.change(user_delete=auth.UserDelete(name="reader"))
    server.node.run(put("a1"), author=users.author(ROOT))
    error = await error_at_end(watching)
    assert isinstance(error, Unauthenticated)
    assert not server.client_server._watches._synced.watcher_count


async def test_a_stream_ends_with_its_token_unless_it_was_renewed(
    server: FakeServer, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synced, "CREDENTIALS_INTERVAL_S", 0.01)
    lasting = users.tokens["reader"]
    users.add_token("reader", ttl_ms=3)  # a fake node's time advances with its entries
    ending, renewed = (Watching(server, users.of("reader")) for _ in range(2))
    await renewed.send(token=lasting)
    for watching in (ending, renewed):
        await watching.create(1)
        await watching.created(1)
    for _ in range(3):
        server.node.run(put("b"), author=users.author(ROOT))
    assert isinstance(await error_at_end(ending), Unauthenticated)
    server.node.run(put("a1"), author=users.author(ROOT))
    assert await renewed.keys() == [b"a1"]

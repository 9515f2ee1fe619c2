"""Watches over gRPC, as a generic client sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S, FakeServer, put

from raftkv.errors import DamagedData
from raftkv.kv.store import Family
from raftkv.rpc.v1 import api_pb2
from raftkv.server.watch import synced


class WatchCall:
    """A client's end of a watch stream."""

    def __init__(self, server: FakeServer) -> None:
        self.call: Any = server.channel.stream_stream("/raftkv.rpc.v1.Watch/Open")()

    async def create(self, watch_id: int, key: bytes, **fields: Any) -> None:
        create = api_pb2.WatchCreate(watch_id=watch_id, key=key, **fields)
        await self.call.write(api_pb2.WatchRequest(creates=[create]).SerializeToString())

    async def reply(self) -> api_pb2.WatchReply:
        async with asyncio.timeout(PATIENCE_S):
            return api_pb2.WatchReply.FromString(await self.call.read())

    async def end(self) -> grpc.StatusCode:
        async with asyncio.timeout(PATIENCE_S):
            code: grpc.StatusCode = await self.call.code()
        return code


async def test_changes_of_one_turn_share_a_message_for_all_watches(server: FakeServer) -> None:
    call = WatchCall(server)
    for watch_id, key in ((1, b"a"), (2, b"b"), (3, b"a")):
        await call.create(watch_id, key)
        assert (await call.reply()).news[0].created
    server.node.run(put("a", b"1"), put("b", b"2"))
    reply = await call.reply()
    assert reply.header.revision == 3
    told = {tuple(news.watch_ids): [e.kv.value for e in news.events] for news in reply.news}
    assert told == {(1, 3): [b"1"], (2,): [b"2"]}
    call.call.cancel()


async def test_a_draining_node_sends_queued_responses_and_ends_its_watches(
    server: FakeServer,
) -> None:
    call = WatchCall(server)
    await call.create(1, b"a")
    await call.reply()
    server.node.run(put("a"))
    await server.client_server.drain(0)
    assert len((await call.reply()).news[0].events) == 1
    assert await call.end() is grpc.StatusCode.UNAVAILABLE
    late = WatchCall(server)
    assert await late.end() is grpc.StatusCode.UNAVAILABLE


async def test_a_malformed_request_ends_the_stream(server: FakeServer) -> None:
    call = WatchCall(server)
    await call.call.write(b"\xff\xff")
    assert await call.end() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_watches_of_a_disconnected_client_are_removed(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = WatchCall(server)
    await call.create(1, b"a")
    await call.reply()
    left = asyncio.Event()
    leave = server.node.changes.leave
    monkeypatch.setattr(server.node.changes, "leave", lambda who: (leave(who), left.set()))
    call.call.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await left.wait()


async def test_a_disk_that_returns_bad_bytes_stops_the_node_and_moves_the_client(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.node.run(put("a"))
    scan = server.node.machine.view.scan

    def damaged(family: Family, *arguments: Any, **options: Any) -> Any:
        if family is Family.CHANGES:
            raise DamagedData("a block does not match its checksum")
        return scan(family, *arguments, **options)

    monkeypatch.setattr(server.node.machine.view, "scan", damaged)
    call = WatchCall(server)
    await call.create(1, b"a", start_revision=1)
    assert (await call.reply()).news[0].created
    assert await call.end() is not grpc.StatusCode.OK
    assert isinstance(server.broken[0], DamagedData)


async def test_more_changes_than_fit_one_turn_are_all_sent_in_order(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synced, "CHANGES_AT_ONCE_MAX", 10)
    call = WatchCall(server)
    await call.create(1, b"k", range_end=b"l")
    await call.reply()
    server.node.run(*(put(f"k{number:03}") for number in range(200)))
    server.node.run(put("k-last"))
    revisions: list[int] = []
    while len(revisions) < 201:
        reply = await call.reply()
        revisions += [event.kv.mod_revision for news in reply.news for event in news.events]
    assert revisions == list(range(2, 203))
    server.node.run(put("k-live"))
    assert (await call.reply()).news[0].events[0].kv.mod_revision == 203
    call.call.cancel()

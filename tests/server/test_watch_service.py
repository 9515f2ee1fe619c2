"""Watches over gRPC, as a generic client sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S, Door, put

from raftkv.errors import DamagedData
from raftkv.kv.store import Family
from raftkv.rpc.v1 import api_pb2
from raftkv.server.watch import synced


class WatchCall:
    """A client's end of a watch stream."""

    def __init__(self, door: Door) -> None:
        self.call: Any = door.channel.stream_stream("/raftkv.rpc.v1.Watch/Open")()

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


async def test_changes_of_one_turn_share_a_message_for_all_watches(door: Door) -> None:
    call = WatchCall(door)
    for watch_id, key in ((1, b"a"), (2, b"b"), (3, b"a")):
        await call.create(watch_id, key)
        assert (await call.reply()).news[0].created
    door.node.run(put("a", b"1"), put("b", b"2"))
    reply = await call.reply()
    assert reply.header.revision == 3
    told = {tuple(news.watch_ids): [e.kv.value for e in news.events] for news in reply.news}
    assert told == {(1, 3): [b"1"], (2,): [b"2"]}
    call.call.cancel()


async def test_a_node_that_drains_sends_what_is_queued_and_ends_its_watches(door: Door) -> None:
    call = WatchCall(door)
    await call.create(1, b"a")
    await call.reply()
    door.node.run(put("a"))
    await door.front.drain(0)
    assert len((await call.reply()).news[0].events) == 1
    assert await call.end() is grpc.StatusCode.UNAVAILABLE
    late = WatchCall(door)
    assert await late.end() is grpc.StatusCode.UNAVAILABLE


async def test_what_is_no_request_ends_the_stream(door: Door) -> None:
    call = WatchCall(door)
    await call.call.write(b"\xff\xff")
    assert await call.end() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_client_that_has_gone_leaves_nothing_behind(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = WatchCall(door)
    await call.create(1, b"a")
    await call.reply()
    left = asyncio.Event()
    leave = door.node.changes.leave
    monkeypatch.setattr(door.node.changes, "leave", lambda who: (leave(who), left.set()))
    call.call.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await left.wait()


async def test_a_disk_that_returns_bad_bytes_stops_the_node_and_moves_the_client(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.node.run(put("a"))
    scan = door.node.machine.view.scan

    def damaged(family: Family, *arguments: Any, **options: Any) -> Any:
        if family is Family.CHANGES:
            raise DamagedData("a block does not match its checksum")
        return scan(family, *arguments, **options)

    monkeypatch.setattr(door.node.machine.view, "scan", damaged)
    call = WatchCall(door)
    await call.create(1, b"a", start_revision=1)
    assert (await call.reply()).news[0].created
    assert await call.end() is not grpc.StatusCode.OK
    assert isinstance(door.broken[0], DamagedData)


async def test_more_changes_than_a_turn_has_time_for_are_all_told_in_order(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synced, "CHANGES_AT_ONCE_MAX", 10)
    call = WatchCall(door)
    await call.create(1, b"k", range_end=b"l")
    await call.reply()
    door.node.run(*(put(f"k{number:03}") for number in range(200)))
    door.node.run(put("k-last"))
    revisions: list[int] = []
    while len(revisions) < 201:
        reply = await call.reply()
        revisions += [event.kv.mod_revision for news in reply.news for event in news.events]
    assert revisions == list(range(2, 203))
    door.node.run(put("k-live"))
    assert (await call.reply()).news[0].events[0].kv.mod_revision == 203
    call.call.cancel()

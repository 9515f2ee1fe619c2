"""The stream that keeps leases alive, as a generic gRPC client uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S, Door, open_door

from raftkv.errors import InvalidRequest, ShuttingDown
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server.call_intake import KEEP_ALIVE
from raftkv.server.services.lease import LEASES_PER_REQUEST_MAX
from raftkv.wire.grpc_status import error_of_call


def grant(door: Door) -> int:
    command = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=60_000))
    return door.node.run(command).results[0].lease.lease


def renewals(door: Door) -> list[list[int]]:
    """The leases of each renewal that was submitted."""
    batches = [kv_pb2.CommandBatch.FromString(commands) for commands in door.node.submitted]
    return [list(batch.commands[0].lease_keep_alive.leases) for batch in batches]


async def renew(stream: Any, *leases: int) -> api_pb2.LeaseKeepAliveReply:
    await stream.write(api_pb2.LeaseKeepAliveRequest(leases=leases))
    reply = await stream.read()
    assert isinstance(reply, api_pb2.LeaseKeepAliveReply)
    return reply


async def read_to_the_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_a_reply_tells_the_renewed_from_those_that_have_ended(door: Door) -> None:
    lease = grant(door)
    reply = await renew(door.lease.KeepAlive(), lease, 99)
    assert (list(reply.leases), list(reply.ended)) == ([lease], [99])
    assert reply.header.node_id == 1


async def test_requests_of_one_turn_share_a_command_whatever_stream_they_come_on(
    door: Door,
) -> None:
    leases = [grant(door) for _ in range(3)]
    service = door.front._leases
    told = await asyncio.gather(*(service._renewals.renew([lease, 99]) for lease in leases))
    assert renewals(door) == [[leases[0], 99, *leases[1:]]]
    assert told == [frozenset({99})] * 3


async def test_too_many_leases_at_once_are_refused(door: Door) -> None:
    stream = door.lease.KeepAlive()
    await stream.write(api_pb2.LeaseKeepAliveRequest(leases=range(1, LEASES_PER_REQUEST_MAX + 2)))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    assert isinstance(error_of_call(ended.value), InvalidRequest)


async def test_a_node_that_stops_sends_its_streams_elsewhere(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        stream = door.lease.KeepAlive()
        await renew(stream, 99)
        await door.front.drain(0)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert isinstance(error_of_call(ended.value), ShuttingDown)


async def test_a_stream_whose_reply_is_just_being_written_is_sent_elsewhere_too(
    tmp_path: Path,
) -> None:
    async with open_door(tmp_path) as door:
        door.node.hold = True
        streams = [door.lease.KeepAlive() for _ in range(KEEP_ALIVE.per_connection_max)]
        for stream in streams:
            await stream.write(api_pb2.LeaseKeepAliveRequest(leases=[99]))
        await door.node.submissions(1)
        door.node.release()
        for _ in range(3):
            await asyncio.sleep(0)
        await door.front.drain(0)
        for stream in streams:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(read_to_the_end(stream), PATIENCE_S)
            assert isinstance(error_of_call(ended.value), ShuttingDown)

"""The stream that keeps leases alive, as a generic gRPC client uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_node import PATIENCE_S, FakeServer, open_server

from raftkv.errors import InvalidRequest, ShuttingDown
from raftkv.peer.ports import NO_AUTHOR
from raftkv.rpc.v1 import api_pb2, kv_pb2
from raftkv.server.call_intake import KEEP_ALIVE
from raftkv.server.services.lease import LEASES_PER_REQUEST_MAX
from raftkv.wire.grpc_status import error_of_call


def grant(server: FakeServer) -> int:
    command = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=60_000))
    return server.node.run(command).results[0].lease.lease


def renewals(server: FakeServer) -> list[list[int]]:
    """The leases of each renewal that was submitted."""
    batches = [kv_pb2.CommandBatch.FromString(commands) for commands in server.node.submitted]
    return [list(batch.commands[0].lease_keep_alive.leases) for batch in batches]


async def renew(stream: Any, *leases: int) -> api_pb2.LeaseKeepAliveReply:
    await stream.write(api_pb2.LeaseKeepAliveRequest(leases=leases))
    reply = await stream.read()
    assert isinstance(reply, api_pb2.LeaseKeepAliveReply)
    return reply


async def read_to_the_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_a_reply_distinguishes_renewed_leases_from_ended_ones(server: FakeServer) -> None:
    lease = grant(server)
    reply = await renew(server.lease.KeepAlive(), lease, 99)
    assert (list(reply.leases), list(reply.ended)) == ([lease], [99])
    assert reply.header.node_id == 1


async def test_renewals_of_all_streams_in_one_turn_share_a_command(
    server: FakeServer,
) -> None:
    leases = [grant(server) for _ in range(3)]
    service = server.client_server._leases
    told = await asyncio.gather(
        *(service._renewals.renew([lease, 99], NO_AUTHOR) for lease in leases)
    )
    assert renewals(server) == [[leases[0], 99, *leases[1:]]]
    assert told == [frozenset({99})] * 3


async def test_too_many_leases_at_once_are_refused(server: FakeServer) -> None:
    stream = server.lease.KeepAlive()
    await stream.write(api_pb2.LeaseKeepAliveRequest(leases=range(1, LEASES_PER_REQUEST_MAX + 2)))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    assert isinstance(error_of_call(ended.value), InvalidRequest)


async def test_a_stopping_node_ends_its_keep_alive_streams_with_shutting_down(
    tmp_path: Path,
) -> None:
    async with open_server(tmp_path) as server:
        stream = server.lease.KeepAlive()
        await renew(stream, 99)
        await server.client_server.drain(0)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert isinstance(error_of_call(ended.value), ShuttingDown)


async def test_a_stopping_node_ends_a_stream_during_a_write_as_well(
    tmp_path: Path,
) -> None:
    async with open_server(tmp_path) as server:
        server.node.hold = True
        streams = [server.lease.KeepAlive() for _ in range(KEEP_ALIVE.per_connection_max)]
        for stream in streams:
            await stream.write(api_pb2.LeaseKeepAliveRequest(leases=[99]))
        await server.node.submissions(1)
        server.node.release()
        for _ in range(3):
            await asyncio.sleep(0)
        await server.client_server.drain(0)
        for stream in streams:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(read_to_the_end(stream), PATIENCE_S)
            assert isinstance(error_of_call(ended.value), ShuttingDown)

"""Every reply and error names the cluster, its incarnation, and the node that answered."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from fake_node import FakeServer, get, put
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import status_pb2

from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2

METHODS = [
    method for service in api_pb2.DESCRIPTOR.services_by_name.values() for method in service.methods
]
UNARY = [method for method in METHODS if not method.client_streaming]
WELL_FORMED = {
    "Execute": api_pb2.ExecuteRequest(command=put("a")),
    "Range": api_pb2.RangeRequest(range=get("a")),
    "Info": api_pb2.LockInfoRequest(name=b"n"),
    "SetLogLevel": api_pb2.SetLogLevelRequest(level="info"),
}


def who(header: api_pb2.ReplyHeader) -> tuple[int, int, int]:
    return header.cluster_id, header.incarnation, header.node_id


def own(server: FakeServer) -> tuple[int, int, int]:
    return server.node.cluster_id, server.node.incarnation, server.node.node_id


async def header_of(call: Any) -> api_pb2.ReplyHeader:
    """Of the reply, or among the details of the error, with which the call has ended."""
    if await call.code() is grpc.StatusCode.OK:
        return (await call).header
    header = api_pb2.ReplyHeader()
    for name, value in await call.trailing_metadata():
        if name == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            assert any(detail.Unpack(header) for detail in status.details), status
    return header


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_every_reply_has_a_header(method: MethodDescriptor) -> None:
    header = method.output_type.fields_by_name["header"]
    assert header.message_type is api_pb2.ReplyHeader.DESCRIPTOR


@pytest.mark.parametrize("well_formed", [True, False])
@pytest.mark.parametrize("method", UNARY, ids=lambda method: method.full_name)
async def test_every_reply_names_the_node_that_answered(
    server: FakeServer, method: MethodDescriptor, well_formed: bool
) -> None:
    stub = getattr(api_pb2_grpc, f"{method.containing_service.name}Stub")(server.channel)
    request = getattr(api_pb2, method.input_type.name)()
    if well_formed:
        request = WELL_FORMED.get(method.name, request)
    call = getattr(stub, method.name)(request)
    if await call.code() is grpc.StatusCode.UNIMPLEMENTED:
        pytest.skip("nobody answers this")
    assert who(await header_of(call)) == own(server)


async def test_a_pipeline_names_its_node_in_results_reads_and_failures(server: FakeServer) -> None:
    pipeline = server.pipeline()
    await pipeline.send_commands(1, put("a"))
    assert who((await pipeline.reply()).header) == own(server)
    await pipeline.send_reads(2, get("a"))
    assert who((await pipeline.reply()).header) == own(server)
    await pipeline.send_commands(3, put(""))
    refused = await pipeline.reply()
    assert refused.HasField("failure")
    assert who(refused.header) == own(server)


async def test_an_empty_stale_read_only_returns_the_header(server: FakeServer) -> None:
    server.node.majority = False
    pipeline = server.pipeline()
    await pipeline.send_reads(0, level=api_pb2.READ_LEVEL_STALE)
    reply = await pipeline.reply()
    assert (reply.number, reply.HasField("failure")) == (0, False)
    assert who(reply.header) == own(server)


async def test_a_watch_stream_names_its_node_in_its_first_message(server: FakeServer) -> None:
    call: Any = server.channel.stream_stream("/raftkv.rpc.v1.Watch/Open")()
    create = api_pb2.WatchCreate(watch_id=1, key=b"a")
    await call.write(api_pb2.WatchRequest(creates=[create]).SerializeToString())
    assert who(api_pb2.WatchReply.FromString(await call.read()).header) == own(server)
    call.cancel()


async def test_a_keep_alive_stream_names_its_node_in_replies_and_in_its_end(
    server: FakeServer,
) -> None:
    lease = server.node.run(kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=60_000)))
    stream = server.lease.KeepAlive()
    renewed = api_pb2.LeaseKeepAliveRequest(leases=[lease.results[0].lease.lease])
    await stream.write(renewed)
    assert who((await stream.read()).header) == own(server)
    await server.client_server.drain(0)
    assert await stream.code() is grpc.StatusCode.UNAVAILABLE
    assert who(await header_of(stream)) == own(server)

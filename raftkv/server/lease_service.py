"""What is asked of leases without changing them. Grant, renew and revoke are commands."""

# ruff: noqa: N802 (gRPC finds a method by its name in the proto)

from __future__ import annotations

from raftkv.rpc import api_pb2, api_pb2_grpc
from raftkv.server.calls import Call, UnaryCalls, data_call
from raftkv.server.header import header_of
from raftkv.server.ports import Node
from raftkv.server.reads import Reader


class LeaseService(api_pb2_grpc.LeaseServicer):
    """`raftkv.rpc.Lease`; both calls are linearizable."""

    def __init__(self, node: Node, reader: Reader, calls: UnaryCalls) -> None:
        self.calls = calls
        self._node = node
        self._reader = reader

    @data_call("lease.time_to_live")
    async def TimeToLive(
        self, request: api_pb2.LeaseTimeToLiveRequest, call: Call
    ) -> api_pb2.LeaseTimeToLiveReply:
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)
        machine = self._node.machine
        times = machine.lease_time_to_live(request.lease)
        reply = api_pb2.LeaseTimeToLiveReply(
            header=header_of(self._node), lease=request.lease, ttl_ms=-1
        )
        if times is not None:
            reply.ttl_ms, reply.granted_ttl_ms = times
            if request.keys:
                reply.keys.extend(machine.lease_keys(request.lease))
        return reply

    @data_call("lease.list")
    async def List(self, _: api_pb2.LeaseListRequest, call: Call) -> api_pb2.LeaseListReply:
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)
        return api_pb2.LeaseListReply(
            header=header_of(self._node), leases=self._node.machine.leases()
        )

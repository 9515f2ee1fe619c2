"""What is asked of leases, and the stream that renews them. Grant and revoke are commands."""

# ruff: noqa: N802 (gRPC finds a method by its name in the proto)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from raftkv.errors import InvalidRequest, RaftkvError, ShuttingDown
from raftkv.kv.machine import StateMachine
from raftkv.kv.steps import Steps
from raftkv.rpc import api_pb2, api_pb2_grpc
from raftkv.server.calls import Call, Context, UnaryCalls, data_call
from raftkv.server.deadlines import Deadlines
from raftkv.server.failures import abort
from raftkv.server.header import header_of
from raftkv.server.lease_renewals import LeaseRenewals
from raftkv.server.listing import fill
from raftkv.server.ports import Node
from raftkv.server.reads import Reader
from raftkv.server.traffic import CallTraffic

LEASE_ID_BYTES_MAX: Final = 10


class LeaseService(api_pb2_grpc.LeaseServicer):
    """`raftkv.rpc.Lease`; both unary calls are linearizable."""

    def __init__(self, node: Node, reader: Reader, calls: UnaryCalls, deadlines: Deadlines) -> None:
        self.calls = calls
        self._node = node
        self._reader = reader
        self._renewals = LeaseRenewals(node, deadlines.default_s)
        self._reading: dict[asyncio.Task[object], None] = {}
        self._ending = False

    def end_streams(self) -> None:
        """The node stops: whoever keeps leases alive has to ask another one."""
        self._ending = True
        # Only those that wait for a request. Cancelled while a reply is being written, gRPC would
        # end the call without telling its client, who would wait for ever.
        for stream in self._reading:
            stream.cancel()

    async def keep_alive(
        self, _requests: AsyncIterator[bytes], context: Context, traffic: CallTraffic
    ) -> None:
        """One request at a time: the requests of many streams are what share a command."""
        try:
            while (request := await self._next_request(context, traffic)) is not None:
                ended = await self._renewals.renew(request.leases)
                reply = api_pb2.LeaseKeepAliveReply(
                    header=header_of(self._node),
                    leases=[lease for lease in request.leases if lease not in ended],
                    ended=[lease for lease in request.leases if lease in ended],
                )
                await traffic.write(context, reply.SerializeToString())
        except RaftkvError as error:
            await abort(context, error, header_of(self._node))

    async def _next_request(
        self, context: Context, traffic: CallTraffic
    ) -> api_pb2.LeaseKeepAliveRequest | None:
        """None once the client has sent its last; raises `ShuttingDown`."""
        stream = asyncio.current_task()
        assert stream is not None
        self._reading[stream] = None
        try:
            if not self._ending:
                message = await context.read()
                if not isinstance(message, bytes):
                    return None
                traffic.connection.received += len(message)
                return _keep_alive_of(message)
        except asyncio.CancelledError:
            if not self._ending:  # the client has gone
                raise
        finally:
            del self._reading[stream]
        raise ShuttingDown("this node is stopping; ask another one")

    @data_call("lease.time_to_live")
    async def TimeToLive(
        self, request: api_pb2.LeaseTimeToLiveRequest, call: Call
    ) -> api_pb2.LeaseTimeToLiveReply:
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)
        return await self._reader.in_steps(partial(self._time_to_live, request), call.deadline)

    def _time_to_live(
        self, request: api_pb2.LeaseTimeToLiveRequest, machine: StateMachine
    ) -> Steps[api_pb2.LeaseTimeToLiveReply]:
        times = machine.lease_time_to_live(request.lease)
        reply = api_pb2.LeaseTimeToLiveReply(
            header=header_of(self._node), lease=request.lease, ttl_ms=-1
        )
        if times is not None:
            reply.ttl_ms, reply.granted_ttl_ms = times
            if request.keys:
                keys = machine.lease_keys(request.lease, request.keys_after)
                reply.more_keys = yield from fill(
                    keys, reply.keys.append, len, self._reader.reply_bytes_max
                )
        return reply

    @data_call("lease.list")
    async def List(self, request: api_pb2.LeaseListRequest, call: Call) -> api_pb2.LeaseListReply:
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)
        return await self._reader.in_steps(partial(self._list, request.after), call.deadline)

    def _list(self, after: int, machine: StateMachine) -> Steps[api_pb2.LeaseListReply]:
        reply = api_pb2.LeaseListReply(header=header_of(self._node))
        leases = machine.leases(after)
        reply.more = yield from fill(
            leases, reply.leases.append, lambda _: LEASE_ID_BYTES_MAX, self._reader.reply_bytes_max
        )
        return reply


def _keep_alive_of(message: bytes) -> api_pb2.LeaseKeepAliveRequest:
    try:
        return api_pb2.LeaseKeepAliveRequest.FromString(message)
    except DecodeError as error:
        raise InvalidRequest(f"not a LeaseKeepAliveRequest: {error}") from error

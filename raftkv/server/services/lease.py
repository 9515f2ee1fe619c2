"""`raftkv.rpc.v1.Lease`: reads of leases, and the keep-alive stream that renews them."""

# ruff: noqa: N802 (gRPC finds a method by its name in the proto)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from raftkv.errors import InvalidRequest, PermissionDenied, RaftkvError, ShuttingDown
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import Steps
from raftkv.kv.rights import AdminRight
from raftkv.peer.ports import Author
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.server.access import rpc_path
from raftkv.server.authorization import Requester
from raftkv.server.calls import Context, Deadlines, UnaryCall, UnaryCalls, data_call, header_of
from raftkv.server.failures import abort, of_write
from raftkv.server.node_port import NodePort
from raftkv.server.reads import ReadHandler, fill_reply
from raftkv.server.traffic import CallTraffic
from raftkv.wire.failures import only_result

LEASE_ID_BYTES_MAX: Final = 10

KEEP_ALIVE: Final = rpc_path("Lease", "KeepAlive")


class LeaseService(api_pb2_grpc.LeaseServicer):
    """Both unary calls are linearizable. Grant and revoke are commands of `KV` and `Pipeline`."""

    def __init__(
        self, node: NodePort, reader: ReadHandler, calls: UnaryCalls, deadlines: Deadlines
    ) -> None:
        self.calls = calls
        self._node = node
        self._reader = reader
        self._renewals = LeaseRenewals(node, deadlines)
        self._reading: dict[asyncio.Task[object], None] = {}
        self._ending = False

    def end_streams(self) -> None:
        """The node is stopping: end the keep-alive streams, so that clients use another node."""
        self._ending = True
        # Only streams that wait for a request: if a stream were cancelled during a write, gRPC
        # would end the call without a status, and the client would wait for ever.
        for stream in self._reading:
            stream.cancel()

    async def keep_alive(
        self, _requests: AsyncIterator[bytes], context: Context, traffic: CallTraffic
    ) -> None:
        """Serve one request at a time; requests of different streams of a user share a command."""
        requester = await self.calls.authorizer.requester_of_stream(KEEP_ALIVE, context)
        if requester is None:
            return
        try:
            while (request := await self._next_request(context, traffic)) is not None:
                if request.token:
                    requester.renew(request.token)
                ended = await self._renewals.renew(request.leases, requester.author())
                reply = api_pb2.LeaseKeepAliveReply(
                    header=header_of(self._node),
                    leases=[lease for lease in request.leases if lease not in ended],
                    ended=[lease for lease in request.leases if lease in ended],
                )
                await traffic.write(context, reply.SerializeToString())
        except RaftkvError as error:
            requester.report(error)
            await abort(context, error, header_of(self._node))

    async def _next_request(
        self, context: Context, traffic: CallTraffic
    ) -> api_pb2.LeaseKeepAliveRequest | None:
        """The next request; None after the last. Raises `ShuttingDown`."""
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
            if not self._ending:  # the client has disconnected
                raise
        finally:
            del self._reading[stream]
        raise ShuttingDown("this node is stopping; ask another one")

    @data_call("lease.time_to_live")
    async def TimeToLive(
        self, request: api_pb2.LeaseTimeToLiveRequest, call: UnaryCall
    ) -> api_pb2.LeaseTimeToLiveReply:
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)
        return await self._reader.in_steps(
            partial(self._time_to_live, request, call.requester), call.deadline
        )

    def _time_to_live(
        self,
        request: api_pb2.LeaseTimeToLiveRequest,
        requester: Requester,
        machine: StateMachine,
    ) -> Steps[api_pb2.LeaseTimeToLiveReply]:
        times = machine.lease_time_to_live(request.lease)
        if machine.lease_owner(request.lease) not in (0, requester.author().user):
            requester.require(AdminRight.SESSIONS)
        reply = api_pb2.LeaseTimeToLiveReply(
            header=header_of(self._node), lease=request.lease, ttl_ms=-1
        )
        if times is not None:
            reply.ttl_ms, reply.granted_ttl_ms = times
            if request.keys:
                keys = machine.lease_keys(request.lease, request.keys_after)
                grants = requester.grants
                readable = (
                    key if grants is None or grants.read.contains_key(key) else None for key in keys
                )
                reply.more_keys = yield from fill_reply(
                    readable, reply.keys.append, len, self._reader.reply_bytes_max
                )
        return reply

    @data_call("lease.list")
    async def List(
        self, request: api_pb2.LeaseListRequest, call: UnaryCall
    ) -> api_pb2.LeaseListReply:
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)
        return await self._reader.in_steps(
            partial(self._list, request.after, call.requester), call.deadline
        )

    def _list(
        self, after: int, requester: Requester, machine: StateMachine
    ) -> Steps[api_pb2.LeaseListReply]:
        reply = api_pb2.LeaseListReply(header=header_of(self._node))
        user, grants = requester.author().user, requester.grants
        sees_all = grants is None or AdminRight.SESSIONS in grants.admin_rights
        leases = (
            lease if sees_all or owner in (0, user) else None
            for lease, owner in machine.owned_leases(after)
        )
        reply.more = yield from fill_reply(
            leases, reply.leases.append, lambda _: LEASE_ID_BYTES_MAX, self._reader.reply_bytes_max
        )
        return reply


def _keep_alive_of(message: bytes) -> api_pb2.LeaseKeepAliveRequest:
    try:
        return api_pb2.LeaseKeepAliveRequest.FromString(message)
    except DecodeError as error:
        raise InvalidRequest(f"not a LeaseKeepAliveRequest: {error}") from error


LEASES_PER_REQUEST_MAX = 10_000
# Keeps a command of gathered renewals well below the limit of a command's size.
LEASES_PER_COMMAND_MAX = 50_000


class _Renewal(NamedTuple):
    """The leases of one request, and the future that its stream waits for."""

    leases: Sequence[int]
    renewed: asyncio.Future[frozenset[int]]


class _Gathering:
    """The renewals of one user that share the next command."""

    def __init__(self) -> None:
        self.renewals: list[_Renewal] = []
        self.leases = 0

    def add(self, renewal: _Renewal) -> None:
        self.renewals.append(renewal)
        self.leases += len(renewal.leases)


class LeaseRenewals:
    """Batches lease renewals: all of a user that arrive in one turn of the event loop share one
    command.

    A client renews every few seconds for as long as it lives, with all its leases in one request. A
    command per client would fill the log with renewals.
    """

    def __init__(self, node: NodePort, deadlines: Deadlines) -> None:
        self._node = node
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._gathered: dict[Author, _Gathering] = {}

    def renew(self, leases: Sequence[int], author: Author) -> asyncio.Future[frozenset[int]]:
        """Renew these leases; the future has the leases of the whole command that have ended.

        The future fails with `PermissionDenied` if one of these leases belongs to another user.
        Raises `InvalidRequest` for too many leases.
        """
        if len(leases) > LEASES_PER_REQUEST_MAX:
            raise InvalidRequest(
                f"leases has {len(leases)} entries, the limit is {LEASES_PER_REQUEST_MAX}; send"
                " several requests",
                field="leases",
                limit=LEASES_PER_REQUEST_MAX,
            )
        if not self._gathered:
            self._loop.call_soon(self._send_all)
        renewed: asyncio.Future[frozenset[int]] = self._loop.create_future()
        gathering = self._gathered.setdefault(author, _Gathering())
        gathering.add(_Renewal(leases, renewed))
        if gathering.leases >= LEASES_PER_COMMAND_MAX:
            del self._gathered[author]
            self._send(author, gathering.renewals)
        return renewed

    def _send_all(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for author, gathering in gathered.items():
            self._send(author, gathering.renewals)

    def _send(self, author: Author, renewals: list[_Renewal]) -> None:
        leases = dict.fromkeys(lease for each in renewals for lease in each.leases)
        renewal = kv_pb2.Command(lease_keep_alive=kv_pb2.LeaseKeepAlive(leases=leases))
        commands = kv_pb2.CommandBatch(commands=[renewal]).SerializeToString()
        deadline = self._loop.time() + self._deadlines.default_s
        results = self._node.submit(commands, deadline, author=author)
        results.add_done_callback(partial(self._sent, author, renewals))

    def _sent(
        self, author: Author, renewals: list[_Renewal], results: asyncio.Future[bytes]
    ) -> None:
        error = asyncio.CancelledError() if results.cancelled() else results.exception()
        ended: frozenset[int] = frozenset()
        if error is None:
            try:
                ended = frozenset(only_result(results.result()).lease_keep_alive.ended)
            except RaftkvError as failed:
                error = failed
        if isinstance(error, PermissionDenied) and len(renewals) > 1:
            # One stream has asked for a lease of another user; the others must not lose theirs.
            for each in renewals:
                self._send(author, [each])
        else:
            _resolve([each.renewed for each in renewals], ended, error)


def _resolve(
    waiting: list[asyncio.Future[frozenset[int]]],
    ended: frozenset[int],
    error: BaseException | None,
) -> None:
    for renewed in waiting:
        if renewed.done():
            continue
        if error is None:
            renewed.set_result(ended)
        else:
            renewed.set_exception(of_write(error))

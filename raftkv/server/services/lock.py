"""`raftkv.rpc.v1.Lock`: waits for a lock, and reads of its queue."""

# ruff: noqa: N802 (gRPC finds a method by its name in the proto)

from __future__ import annotations

import asyncio
from functools import partial

from raftkv.errors import DeadlineExceeded, InvalidRequest
from raftkv.kv.limits import Limits
from raftkv.kv.locks import LockEntry
from raftkv.kv.machine import StateMachine
from raftkv.kv.pace import Steps
from raftkv.kv.records import fill_key_value
from raftkv.kv.rights import needs_of_lock
from raftkv.rpc.v1 import api_pb2, api_pb2_grpc, kv_pb2
from raftkv.server.authorization import Requester
from raftkv.server.calls import UnaryCall, UnaryCalls, admin_call, data_call, header_of
from raftkv.server.node_port import NodePort
from raftkv.server.reads import ReadHandler, fill_reply
from raftkv.server.services.lock_waits import LockWaits


class LockService(api_pb2_grpc.LockServicer):
    """Joining and leaving a lock's queue are commands of `KV` and `Pipeline`."""

    def __init__(
        self, node: NodePort, reader: ReadHandler, calls: UnaryCalls, limits: Limits
    ) -> None:
        self.calls = calls
        self._node = node
        self._reader = reader
        self._limits = limits
        self._waits = LockWaits(node)

    @property
    def waits(self) -> int:
        """How many calls wait for a lock."""
        return self._waits.count

    def end_waits(self) -> None:
        """The node is stopping: end all waits, so that clients wait at another node."""
        self._waits.close()

    # Not a data call: a wait causes no work, and has a bound of its own.
    @admin_call("lock.wait")
    async def Wait(
        self, request: api_pb2.LockWaitRequest, call: UnaryCall
    ) -> api_pb2.LockWaitReply:
        name, token = self._name(request.name), request.token
        if token <= 0:
            raise InvalidRequest(f"token is {token}; give the token of an entry in the queue")
        turn = self._waits.wait(name, token, lambda: call.requester.require_for(request))
        try:
            async with asyncio.timeout_at(call.deadline):
                await turn
        except TimeoutError:
            raise DeadlineExceeded("another client still holds the lock; wait again") from None
        finally:
            self._waits.leave(name, token, turn)
        return api_pb2.LockWaitReply(header=header_of(self._node))

    @data_call("lock.info")
    async def Info(
        self, request: api_pb2.LockInfoRequest, call: UnaryCall
    ) -> api_pb2.LockInfoReply:
        name = self._name(request.name)
        await self._reader.confirm(api_pb2.READ_LEVEL_LINEARIZABLE, call.deadline)
        return await self._reader.in_steps(
            partial(self._info, name, request.after_token, call.requester), call.deadline
        )

    def _info(
        self, name: bytes, after_token: int, requester: Requester, machine: StateMachine
    ) -> Steps[api_pb2.LockInfoReply]:
        requester.require(needs_of_lock(name))
        reply = api_pb2.LockInfoReply(header=header_of(self._node))
        reply.more = yield from fill_reply(
            (row and _lock_member(row, machine) for row in machine.lock_rows(name, after_token)),
            reply.members.append,
            api_pb2.LockMember.ByteSize,
            self._reader.reply_bytes_max,
        )
        return reply

    def _name(self, name: bytes) -> bytes:
        if not 0 < len(name) <= self._limits.key_bytes_max:
            raise InvalidRequest(
                f"name has {len(name)} bytes; give 1 to {self._limits.key_bytes_max}", field="name"
            )
        return name


def _lock_member(member: LockEntry, machine: StateMachine) -> api_pb2.LockMember:
    kv = kv_pb2.KeyValue()
    fill_key_value(kv, member.key, member.record)
    times = machine.lease_time_to_live(kv.lease)
    return api_pb2.LockMember(
        token=member.token, lease=kv.lease, value=kv.value, ttl_ms=times[0] if times else 0
    )

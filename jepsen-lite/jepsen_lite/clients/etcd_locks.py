"""etcd's lock service as a `Lock` of the client protocol.

A lock is a key under a lease, and its token is the revision at which that key was created: etcd
grants a lock in the order of these revisions. Each acquisition has a lease of its own, so that the
rest of a failed attempt ends with that lease. The client does not ask whether the lock is still
held: it gives the lock up, and reports it as lost, before the lease can have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import grpc
from aetcd import Client as Connection
from aetcd import rpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from jepsen_lite.clients.protocol import LOCK_NOT_ACQUIRED, KeyValue, OperationError

T = TypeVar("T")
OPERATE_TIMEOUT_S = 1.0
ACQUIRE_TIMEOUT_S_MAX = 3600.0
# Shares of a lease's time to live: the interval of renewals, and the margin before its end at
# which the lock is given up.
RENEW_SHARE, MARGIN_SHARE = 0.25, 0.1

_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
# The package aetcd lacks these messages of etcd. Unused fields are left out.
_MESSAGES = {
    "LockRequest": [("name", 1, _BYTES), ("lease", 2, _INT64)],
    "LockResponse": [("key", 2, _BYTES)],
    "UnlockRequest": [("key", 1, _BYTES)],
    "UnlockResponse": [],
}


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name="jepsen_lite/v3lock.proto", package="v3lockpb", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"v3lockpb.{name}"))


async def _ask(connection: Connection, what: str, timeout_s: float, **fields: object) -> Any:
    call = connection.channel.unary_unary(
        f"/v3lockpb.Lock/{what}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=_message(f"{what}Response").FromString,
    )
    return await call(_message(f"{what}Request")(**fields), timeout=timeout_s)


class Caller(Protocol):
    """The client that the locks belong to."""

    async def call(self, call: Callable[[Connection], Awaitable[T]], *, changes: bool) -> T:
        """Send to a node; if that fails, the next call goes to the next node."""

    async def get(self, key: str, *, timeout_s: float) -> KeyValue | None: ...

    def in_background(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Run it until it is done or the client is closed."""


class EtcdLock:
    """One lock for one task at a time."""

    def __init__(self, client: Caller, name: str, ttl_s: float) -> None:
        self.name = name
        self._client = client
        self._ttl_s = math.ceil(ttl_s)
        self._listeners: list[Callable[[], None]] = []
        self._held: _Hold | None = None

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    @property
    def token(self) -> int:
        if self._held is None:
            raise OperationError(f"{self.name} is not held", reason="LOCK_LOST", refused=True)
        return self._held.token

    def remaining_s(self) -> float:
        until = self._held.until if self._held is not None else 0.0
        return max(0.0, until - asyncio.get_running_loop().time())

    async def acquire(self, timeout_s: float | None = None) -> None:
        """Raises with reason `LOCK_NOT_ACQUIRED` if others held the lock all the time."""
        timeout_s = ACQUIRE_TIMEOUT_S_MAX if timeout_s is None else timeout_s
        loop = asyncio.get_running_loop()
        began = loop.time()
        lease = await self._granted(timeout_s)
        try:
            left_s = max(0.001, began + timeout_s - loop.time())
            reply = await self._client.call(
                lambda to: _ask(to, "Lock", left_s, name=self.name.encode(), lease=lease.ID),
                changes=True,
            )
            found = await self._client.get(reply.key.decode(), timeout_s=OPERATE_TIMEOUT_S)
        except BaseException as error:
            self._client.in_background(self._revoke(lease.ID))
            if isinstance(error.__cause__, grpc.aio.AioRpcError) and is_late(error.__cause__):
                text = f"{self.name} was not acquired within {timeout_s} s"
                raise OperationError(text, reason=LOCK_NOT_ACQUIRED, refused=True) from error
            raise
        if found is None or found.lease != lease.ID:
            text = f"the lease of {self.name} has ended"
            raise OperationError(text, reason=LOCK_NOT_ACQUIRED, refused=True)
        hold = self._held = _Hold(found, began, lease.TTL)
        hold.renewing = self._client.in_background(self._keep(hold))
        hold.ending = loop.call_at(hold.until, self._end_if_due, hold)

    async def release(self) -> bool:
        """Release it; returns False if it was lost before."""
        hold, self._held = self._held, None
        if hold is None:
            return False
        hold.stop()
        try:
            await self._client.call(
                lambda to: _ask(to, "Unlock", OPERATE_TIMEOUT_S, key=hold.key),
                changes=True,
            )
        finally:
            self._client.in_background(self._revoke(hold.lease))
        return True

    async def _granted(self, timeout_s: float) -> Any:
        request = rpc.LeaseGrantRequest(TTL=self._ttl_s)
        return await self._client.call(
            lambda to: to.leasestub.LeaseGrant(request, timeout=timeout_s),
            changes=False,  # a lease without keys holds nothing
        )

    async def _revoke(self, lease: int) -> None:
        """A failed revocation does no harm: the lease expires."""
        request = rpc.LeaseRevokeRequest(ID=lease)
        with contextlib.suppress(OperationError):
            await self._client.call(
                lambda to: to.leasestub.LeaseRevoke(request, timeout=OPERATE_TIMEOUT_S),
                changes=True,
            )

    async def _keep(self, hold: _Hold) -> None:
        """Renew the lease until it has ended; cancelled when the lock is released."""
        loop = asyncio.get_running_loop()
        pause_s = hold.ttl_s * RENEW_SHARE
        while True:
            await asyncio.sleep(pause_s)
            asked = loop.time()
            try:
                left_s = await self._client.call(
                    lambda to: _renewed(to, hold.lease, pause_s), changes=True
                )
            except OperationError:
                continue  # the next renewal goes to the next node
            if left_s <= 0:
                return self._lost(hold)
            hold.until = hold.end(asked)

    def _end_if_due(self, hold: _Hold) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < hold.until:
            hold.ending = loop.call_at(hold.until, self._end_if_due, hold)
        else:
            self._lost(hold)

    def _lost(self, hold: _Hold) -> None:
        if self._held is hold:
            self._held = None
            hold.stop()
            for listener in self._listeners:
                listener()


class _Hold:
    """A lock while it is held: at least until `until`, by the loop's clock."""

    def __init__(self, found: KeyValue, asked: float, ttl_s: int) -> None:
        self.key = found.key.encode()
        self.token = found.create_revision
        self.lease = found.lease
        self.ttl_s = ttl_s
        self.until = self.end(asked)
        self.renewing: asyncio.Task[object] | None = None
        self.ending: asyncio.TimerHandle | None = None

    def end(self, asked: float) -> float:
        """The lease lives for its time to live from the request on, at least."""
        return asked + self.ttl_s * (1 - MARGIN_SHARE)

    def stop(self) -> None:
        if self.renewing is not None:
            self.renewing.cancel()
        if self.ending is not None:
            self.ending.cancel()


async def _renewed(connection: Connection, lease: int, timeout_s: float) -> int:
    """Renew the lease; returns its seconds left, 0 if it has ended."""
    requests = [rpc.LeaseKeepAliveRequest(ID=lease)]
    async for reply in connection.leasestub.LeaseKeepAlive(requests, timeout=timeout_s):
        left_s: int = reply.TTL
        return left_s
    return 0


def is_late(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call timed out. If etcd notices first, only its message says so."""
    by_message = "context deadline exceeded" in (error.details() or "")
    return by_message or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED

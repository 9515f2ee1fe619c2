"""etcd's lock service through the part of raftkv's `Lock` that workloads use.

A lock is a key under a lease, and its token the revision at which that key was made: etcd grants a
lock in the order of these. Each time it is taken under a lease of its own, so that whatever is left
of a try that failed ends with that lease. Nobody is asked whether the lock is still held: it is
given up, and said to be lost, before the lease can have ended.
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

from raftkv.client.model.results import KeyValue
from raftkv.errors import LockLost, LockNotAcquired, RaftkvError

T = TypeVar("T")
OPERATE_TIMEOUT_S = 1.0
# Of its time to live: how often a lease is renewed, and how long before its end it is given up.
RENEW_SHARE, MARGIN_SHARE = 0.25, 0.1

_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
# The package aetcd has all of etcd's messages but these. Fields that nobody reads are left out.
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
        """Ask a node. Raises `RaftkvError`; the next call asks the next node then."""

    async def get(self, key: bytes, *, timeout: float) -> KeyValue | None: ...

    def in_background(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Go on with it until it is done or the client is closed."""


class EtcdLock:
    """One lock for one task at a time."""

    def __init__(self, client: Caller, name: bytes, ttl_s: float) -> None:
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
            raise LockLost(f"{self.name!r} is not held", name=self.name)
        return self._held.token

    async def acquire(self, *, timeout: float) -> None:
        """Raises `LockNotAcquired` if others had it all the time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        lease = await self._granted(timeout)
        try:
            left_s = max(0.001, began + timeout - loop.time())
            reply = await self._client.call(
                lambda to: _ask(to, "Lock", left_s, name=self.name, lease=lease.ID),
                changes=True,
            )
            found = await self._client.get(reply.key, timeout=OPERATE_TIMEOUT_S)
        except BaseException as error:
            self._client.in_background(self._revoke(lease.ID))
            if isinstance(error.__cause__, grpc.aio.AioRpcError) and is_late(error.__cause__):
                text = f"{self.name!r} was not to be had within {timeout} s"
                raise LockNotAcquired(text, name=self.name) from error
            raise
        if found is None or found.lease != lease.ID:
            raise LockNotAcquired(f"the lease of {self.name!r} has ended", name=self.name)
        hold = self._held = _Hold(found, began, lease.TTL)
        hold.renewing = self._client.in_background(self._keep(hold))
        hold.ending = loop.call_at(hold.until, self._end_if_due, hold)

    async def release(self) -> bool:
        """Let the next one have it; False if it was lost before."""
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
            changes=False,  # a lease by itself holds nothing
        )

    async def _revoke(self, lease: int) -> None:
        """If nobody hears it, the lease ends by itself."""
        request = rpc.LeaseRevokeRequest(ID=lease)
        with contextlib.suppress(RaftkvError):
            await self._client.call(
                lambda to: to.leasestub.LeaseRevoke(request, timeout=OPERATE_TIMEOUT_S),
                changes=True,
            )

    async def _keep(self, hold: _Hold) -> None:
        """Renew its lease, until that has ended or is not wanted any more."""
        loop = asyncio.get_running_loop()
        pause_s = hold.ttl_s * RENEW_SHARE
        while True:
            await asyncio.sleep(pause_s)
            asked = loop.time()
            try:
                left_s = await self._client.call(
                    lambda to: _renewed(to, hold.lease, pause_s), changes=True
                )
            except RaftkvError:
                continue  # the next node may know better
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
    """A lock that is held, until `until` by the loop's clock at least."""

    def __init__(self, found: KeyValue, asked: float, ttl_s: int) -> None:
        self.key = found.key
        self.token = found.create_revision
        self.lease = found.lease
        self.ttl_s = ttl_s
        self.until = self.end(asked)
        self.renewing: asyncio.Task[object] | None = None
        self.ending: asyncio.TimerHandle | None = None

    def end(self, asked: float) -> float:
        """A lease lives for its time from when it was asked for, at least."""
        return asked + self.ttl_s * (1 - MARGIN_SHARE)

    def stop(self) -> None:
        if self.renewing is not None:
            self.renewing.cancel()
        if self.ending is not None:
            self.ending.cancel()


async def _renewed(connection: Connection, lease: int, timeout_s: float) -> int:
    """For how many seconds it lives from now on; 0 if it has ended."""
    requests = [rpc.LeaseKeepAliveRequest(ID=lease)]
    async for reply in connection.leasestub.LeaseKeepAlive(requests, timeout=timeout_s):
        left_s: int = reply.TTL
        return left_s
    return 0


def is_late(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call's time ran out. If etcd notices first, it has words and no code for it."""
    of_etcd = "context deadline exceeded" in (error.details() or "")
    return of_etcd or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED

"""The client's methods for locks, grants and elections."""

from __future__ import annotations

import asyncio

from raftkv.arguments import milliseconds, to_instance
from raftkv.client.api.kv import KvMethods
from raftkv.client.api.watches import WatchMethods
from raftkv.client.coordination.election import Election
from raftkv.client.coordination.lock import Lock
from raftkv.client.coordination.queue import LockQueues
from raftkv.client.core import Core
from raftkv.client.model.results import (
    Grant,
    LockInfo,
    acquire_result,
    delete_result,
    lease_result,
    lock_info_of,
)
from raftkv.client.requests import WriteOptions, command_piece, to_key, to_value
from raftkv.errors import FencedOff, LeaseNotFound, LockLost, LockNotAcquired, printable
from raftkv.rpc.v1 import api_pb2, kv_pb2


class LockMethods(Core):
    """Locks: names that one client at a time holds, each time under a greater token.

    `lock` waits, renews its lease and reports its loss. `acquire`, `renew` and `release` are the
    bare compare-and-swap, for callers that keep the time themselves. Both compete for a name.
    """

    @property
    def queues(self) -> LockQueues:
        """The queues of this client's locks, for recipes that admit by other rules."""
        return self._queues

    def lock(self, name: str | bytes, *, ttl: float = 10.0, value: str | bytes = b"") -> Lock:
        """A lock on `name`, not acquired yet.

            async with client.lock("report") as lock:
                await client.put("report", data, fence=lock)

        - `name`: 1 to 8,192 bytes, `str` or `bytes`.
        - `ttl`: seconds after which the lock is free if its holder dies; within the server's
          bounds.
        - `value`: at most 1 MiB, shown to others by `lock_info`.

        Raises `InvalidRequest` or `TooLarge` for a wrong argument. Sends nothing. All locks of a
        client with equal `ttl` share one lease, which the client renews in the background.
        """
        return Lock(
            self._queues,
            to_key(name, self._settings, "name"),
            milliseconds(ttl, "ttl"),
            to_value(value, self._settings),
        )

    async def lock_info(self, name: str | bytes, *, timeout: float | None = None) -> LockInfo:
        """The holder of the lock `name` and the clients that wait for it, with tokens and what is
        left of their leases.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        An answer that needs several replies may be of several moments. Raises `InvalidRequest`,
        `DeadlineExceeded` and `WrongCluster`. Costs one request for each reply.
        """
        request = api_pb2.LockInfoRequest(name=to_key(name, self._settings, "name"))
        members: list[api_pb2.LockMember] = []
        ask = self._asking(timeout)
        while True:
            reply = await ask("/raftkv.rpc.v1.Lock/Info", request, api_pb2.LockInfoReply)
            members.extend(reply.members)
            if not reply.more:
                return lock_info_of(members)
            request.after_token = members[-1].token

    async def acquire(
        self,
        name: str | bytes,
        ttl: float,
        *,
        value: str | bytes = b"",
        timeout: float | None = None,
    ) -> Grant:
        """Take the lock `name` for `ttl` seconds if no client holds it or waits for it.

        - `name`: 1 to 8,192 bytes, `str` or `bytes`.
        - `ttl`: seconds, within the server's bounds. Nothing renews it: call `renew` in time.
        - `value`: at most 1 MiB, shown to others by `lock_info`.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `LockNotAcquired`, whose `facts["holder_token"]` is the holder's token;
        `InvalidRequest` or `TooLarge`; `DeadlineExceeded` if nothing was changed; `OutcomeUnknown`
        if the lock may be taken, until its lease ends; `WrongCluster`. Costs one write. A call that
        is cancelled or interrupted gives the lock back.
        """
        held_name = to_key(name, self._settings, "name")
        acquire = kv_pb2.Acquire(
            name=held_name,
            ttl_ms=milliseconds(ttl, "ttl"),
            value=to_value(value, self._settings),
            only_if_free=True,
        )
        result = await self._run_grant(kv_pb2.Command(acquire=acquire), acquire_result, timeout)
        if not result.held:
            token = result.holder.create_revision if result.holder else 0
            raise LockNotAcquired(
                f"{printable(held_name)} is held under token {token}; try again later, or wait for"
                " it with client.lock",
                holder_token=token,
            )
        return Grant(held_name, result.token, result.lease, result.ttl_s, result.key)

    async def renew(self, grant: Grant, *, timeout: float | None = None) -> Grant:
        """Keep a grant for its whole time again, from now on; returns the grant.

        - `grant`: what `acquire` returned.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `LockLost` if the grant has ended; `InvalidRequest` for what is no grant;
        `DeadlineExceeded`; `OutcomeUnknown`; `WrongCluster`. Costs one write.
        """
        _to_grant(grant)
        renewal = kv_pb2.Command(lease_renew=kv_pb2.LeaseRenew(lease=grant.lease))
        try:
            await self._run(renewal, lease_result, timeout, WriteOptions(grant))
        except (FencedOff, LeaseNotFound) as error:
            raise LockLost(
                f"token {grant.token} does not hold {printable(grant.name)} any more; stop what is"
                f" done under it ({error})",
                name=grant.name,
            ) from None
        return grant

    async def release(self, grant: Grant, *, timeout: float | None = None) -> bool:
        """Give a grant back, and end its lease; False if it had ended before.

        - `grant`: what `acquire` returned.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `InvalidRequest` for what is no grant; `DeadlineExceeded` and `OutcomeUnknown` if the
        grant may still be held, until its lease ends; `WrongCluster`. Costs two writes, which
        travel together.
        """
        _to_grant(grant)
        deletion = kv_pb2.Command(delete_range=kv_pb2.DeleteRange(key=grant.key))
        revocation = kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=grant.lease))
        timeout_s = self._timeout(timeout)
        submit, writes = self._pipeline.submit, self._pipeline.writes
        piece = command_piece(self._settings, deletion)
        deleted = submit(writes, piece, delete_result, timeout_s)
        piece = command_piece(self._settings, revocation)
        ended = submit(writes, piece, lease_result, timeout_s)
        results = await asyncio.gather(deleted, ended, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, LeaseNotFound):
                raise result
        return bool(deleted.result().deleted)


def _to_grant(grant: Grant) -> Grant:
    return to_instance(grant, Grant, "grant", "what client.acquire returned")


class ElectionMethods(KvMethods, WatchMethods):
    """Elections: one leader at a time for each name."""

    def election(self, name: str | bytes, *, ttl: float = 10.0) -> Election:
        """The election for `name`.

            async with await client.election("scheduler").campaign("host-7") as leadership:
                ...

        - `name`: 1 to 8,192 bytes, `str` or `bytes`.
        - `ttl`: seconds after which the next candidate leads if the leader dies; within the
          server's bounds.

        Raises `InvalidRequest` or `TooLarge` for a wrong argument. Sends nothing. Elections and
        locks are the same queues: do not use one name for both.
        """
        return Election(
            self._queues,
            self,
            self._settings,
            to_key(name, self._settings, "name"),
            milliseconds(ttl, "ttl"),
        )

"""Leases: keys that vanish when their owner stops renewing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from raftkv.arguments import milliseconds, to_flag, to_int64
from raftkv.client.coordination.lease import KeptLease
from raftkv.client.core import Core
from raftkv.client.model.results import LeaseResult, LeaseTimeToLive, lease_result
from raftkv.client.requests import Fences, WriteOptions
from raftkv.errors import LeaseNotFound
from raftkv.rpc.v1 import api_pb2, kv_pb2


class LeaseMethods(Core):
    """Leases. Times are seconds of the cluster's clock, which stands still during an outage."""

    @asynccontextmanager
    async def lease(self, ttl: float, *, timeout: float | None = None) -> AsyncIterator[KeptLease]:
        """A lease that is renewed in the background until the block ends, and then revoked.

        Only where a block of `keep` still keeps it, it lives until that ends, and then is revoked.

            async with client.lease(10.0) as lease:
                await client.put("here", "I am", lease=lease.id)

        `lease.lost` is set, and `lease.on_lost` called, once it can't be trusted any more.
        """
        kept = await self._leases.grant(milliseconds(ttl, "ttl"), self._timeout(timeout))
        try:
            yield kept
        finally:
            kept.abandon("it was given back")
            await self._leases.wait_revoked()

    @asynccontextmanager
    async def keep(self, lease: int, *, timeout: float | None = None) -> AsyncIterator[KeptLease]:
        """Renew a lease that was granted before until the block ends, and leave it to its TTL.

        One that this client keeps anyway is left to whoever else keeps it. Raises `LeaseNotFound`.
        """
        sent_at = self._loop.time()
        renewed = await self.lease_renew(lease, timeout=timeout)
        kept = self._leases.keep(renewed.lease, renewed.ttl_s, sent_at)
        try:
            yield kept
        finally:
            kept.abandon("it is kept no more")

    async def lease_grant(
        self, ttl: float, *, lease: int = 0, fence: Fences = None, timeout: float | None = None
    ) -> LeaseResult:
        """A new lease that lives for `ttl` seconds; `lease` picks its id (0: the store does).

        Raises `LeaseExists`, and `InvalidRequest` for a `ttl` out of the server's bounds.
        """
        grant = kv_pb2.LeaseGrant(lease=to_int64(lease, "lease"), ttl_ms=milliseconds(ttl, "ttl"))
        command, options = kv_pb2.Command(lease_grant=grant), WriteOptions(fence)
        if lease:  # the caller knows it whatever happens, and may ask for it again
            return await self._run(command, lease_result, timeout, WriteOptions(fence))
        return await self._run_grant(command, lease_result, timeout, options)

    async def lease_renew(
        self, lease: int, *, fence: Fences = None, timeout: float | None = None
    ) -> LeaseResult:
        """The lease lives for its whole TTL again. Raises `LeaseNotFound`."""
        command = kv_pb2.Command(lease_renew=kv_pb2.LeaseRenew(lease=to_int64(lease, "lease")))
        return await self._run(command, lease_result, timeout, WriteOptions(fence))

    async def lease_revoke(
        self, lease: int, *, fence: Fences = None, timeout: float | None = None
    ) -> None:
        """End the lease and delete its keys. Raises `LeaseNotFound`."""
        command = kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=to_int64(lease, "lease")))
        await self._run(command, lease_result, timeout, WriteOptions(fence))

    async def lease_time_to_live(
        self, lease: int, *, keys: bool = False, timeout: float | None = None
    ) -> LeaseTimeToLive:
        """What is left of the lease; `keys` asks for those attached to it.

        Keys that do not fit into one reply are asked for in several, so they may be of several
        moments. Raises `LeaseNotFound`.
        """
        request = api_pb2.LeaseTimeToLiveRequest(
            lease=to_int64(lease, "lease"), keys=to_flag(keys, "keys")
        )
        attached: list[bytes] = []
        ask = self._asking(timeout)
        while True:
            reply = await ask(
                "/raftkv.rpc.v1.Lease/TimeToLive", request, api_pb2.LeaseTimeToLiveReply
            )
            if reply.ttl_ms < 0:
                raise LeaseNotFound(f"there is no lease {lease}; it was revoked or has expired")
            attached.extend(reply.keys)
            if not reply.more_keys:
                return LeaseTimeToLive(
                    reply.lease, reply.ttl_ms / 1000, reply.granted_ttl_ms / 1000, tuple(attached)
                )
            request.keys_after = attached[-1]

    async def leases(self, *, timeout: float | None = None) -> tuple[int, ...]:
        """The ids of all leases in their order, those of clients' sessions among them.

        More than fit into one reply may be of several moments.
        """
        request = api_pb2.LeaseListRequest()
        leases: list[int] = []
        ask = self._asking(timeout)
        while True:
            reply = await ask("/raftkv.rpc.v1.Lease/List", request, api_pb2.LeaseListReply)
            leases.extend(reply.leases)
            if not reply.more:
                return tuple(leases)
            request.after = leases[-1]

"""The client's methods for leases."""

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
    """Leases: keys that are deleted when their owner stops renewing. Times are seconds of the
    cluster's clock, which stands still during an outage.
    """

    @asynccontextmanager
    async def lease(self, ttl: float, *, timeout: float | None = None) -> AsyncIterator[KeptLease]:
        """A lease that is renewed in the background until the block ends, and then revoked.

            async with client.lease(10.0) as lease:
                await client.put("here", "I am", lease=lease.id)

        - `ttl`: seconds, within the server's bounds. The lease ends so long after the last renewal.
        - `timeout`: seconds for the grant; None: the client's default, 0: one attempt.

        `lease.lost` is set, and the callbacks of `lease.on_lost` are called, once the lease can't
        be trusted any more. If a block of `keep` still keeps the lease when this block ends, it is
        revoked at the end of that. Entering raises `InvalidRequest`, `DeadlineExceeded`,
        `OutcomeUnknown` and `WrongCluster`. Costs a write to begin and to end, and one every third
        of `ttl`; the renewals of a client's leases travel together.
        """
        kept = await self._leases.grant(milliseconds(ttl, "ttl"), self._timeout(timeout))
        try:
            yield kept
        finally:
            kept.remove_user("it was given back")
            await self._leases.wait_revoked()

    @asynccontextmanager
    async def keep(self, lease: int, *, timeout: float | None = None) -> AsyncIterator[KeptLease]:
        """Renew a lease that was granted before until the block ends, and then leave it to its TTL.

        - `lease`: the id of a lease, any 64-bit integer but 0.
        - `timeout`: seconds for the first renewal; None: the client's default, 0: one attempt.

        If another block of this client keeps the lease, too, it is renewed until the last of them
        ends. Entering raises `LeaseNotFound`, `InvalidRequest`, `DeadlineExceeded`,
        `OutcomeUnknown` and `WrongCluster`. Costs a write to begin, and one every third of the
        lease's TTL.
        """
        sent_at = self._loop.time()
        renewed = await self.lease_renew(lease, timeout=timeout)
        kept = self._leases.keep(renewed.lease, renewed.ttl_s, sent_at)
        try:
            yield kept
        finally:
            kept.remove_user("it is kept no more")

    async def lease_grant(
        self, ttl: float, *, lease: int = 0, fence: Fences = None, timeout: float | None = None
    ) -> LeaseResult:
        """A new lease, which nothing renews: call `lease_renew` in time, or use `lease` or `keep`.

        - `ttl`: seconds, within the server's bounds.
        - `lease`: the id, a 64-bit integer; 0: the store picks one.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The command
          is applied only while each token is that of its name's present holder.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `LeaseExists`; `InvalidRequest` for a wrong argument; `DeadlineExceeded` if nothing
        was changed; `OutcomeUnknown`; `FencedOff`; `WrongCluster`. Costs one write.
        """
        grant = kv_pb2.LeaseGrant(lease=to_int64(lease, "lease"), ttl_ms=milliseconds(ttl, "ttl"))
        command, options = kv_pb2.Command(lease_grant=grant), WriteOptions(fence)
        if lease:  # the caller knows it whatever happens, and may ask for it again
            return await self._run(command, lease_result, timeout, options)
        return await self._run_grant(command, lease_result, timeout, options)

    async def lease_renew(
        self, lease: int, *, fence: Fences = None, timeout: float | None = None
    ) -> LeaseResult:
        """Let the lease live for its whole TTL again, from now on.

        - `lease`: the id of a lease, any 64-bit integer but 0.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The command
          is applied only while each token is that of its name's present holder.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `LeaseNotFound`; `InvalidRequest` for a wrong argument; `DeadlineExceeded` if nothing
        was changed; `OutcomeUnknown`; `FencedOff`; `WrongCluster`. Costs one write.
        """
        command = kv_pb2.Command(lease_renew=kv_pb2.LeaseRenew(lease=to_int64(lease, "lease")))
        return await self._run(command, lease_result, timeout, WriteOptions(fence))

    async def lease_revoke(
        self, lease: int, *, fence: Fences = None, timeout: float | None = None
    ) -> None:
        """End the lease and delete its keys.

        - `lease`: the id of a lease, any 64-bit integer but 0.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these. The command
          is applied only while each token is that of its name's present holder.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Raises `LeaseNotFound`; `InvalidRequest` for a wrong argument; `DeadlineExceeded` if nothing
        was changed; `OutcomeUnknown`; `FencedOff`; `WrongCluster`. Costs one write.
        """
        command = kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=to_int64(lease, "lease")))
        await self._run(command, lease_result, timeout, WriteOptions(fence))

    async def lease_time_to_live(
        self, lease: int, *, keys: bool = False, timeout: float | None = None
    ) -> LeaseTimeToLive:
        """The TTL of a lease, and what is left of it.

        - `lease`: the id of a lease, any 64-bit integer but 0.
        - `keys`: also the keys that are attached to it.
        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        Keys that need several replies may be of several moments. Raises `LeaseNotFound`,
        `InvalidRequest`, `DeadlineExceeded` and `WrongCluster`. Costs one request for each reply.
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
        """The ids of all leases in their order, with those of the clients' sessions.

        - `timeout`: seconds; None: the client's default, 0: one attempt, at most
          `ClientSettings.timeout_s_max` (60).

        An answer that needs several replies may be of several moments. Raises `DeadlineExceeded`
        and `WrongCluster`. Costs one request for each reply.
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

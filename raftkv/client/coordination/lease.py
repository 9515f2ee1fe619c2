"""Leases that a client keeps alive by renewals, and for how long each can be trusted.

A lease is trusted by this client's own clock: from the moment at which the command that granted or
renewed it was *sent*, for its TTL less what the rates of clocks may differ. Then it is lost for its
owner, whatever the store says, and the owner's callbacks run at once. Before that moment the store
can't have ended it: the store counts from when it applied the command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.coordination.loss import LossNotifier, loss_message
from raftkv.client.model.results import ended_leases, lease_result
from raftkv.client.settings import CLOSE_GRACE_S, TIMER_TOLERANCE_S
from raftkv.errors import LockLost, Unavailable
from raftkv.rpc.v1 import kv_pb2

LEASE_TRUST: Final = 0.9
"""Of a lease's TTL: the rates of two clocks are assumed to differ by less than a tenth."""

RENEWAL_SHARE: Final = 1 / 3
"""Of a lease's TTL, after which it is renewed: leaves time for two renewals that fail."""

EARLY_SHARE: Final = 0.5
"""Of the time to its renewal, after which a lease is renewed along with others that are due: so
leases come to share commands.
"""

RETRY_SHARE: Final = 0.1
"""Of a renewal's timeout: the pause after a renewal that failed at once."""

LEASES_PER_COMMAND: Final = 10_000

NOT_RENEWED: Final = "the lease was not renewed in time"

T = TypeVar("T")


class _Granted(Protocol):
    """A result that says which lease was granted; 0: none."""

    @property
    def lease(self) -> int: ...
    @property
    def ttl_s(self) -> float: ...


GrantResult = TypeVar("GrantResult", bound=_Granted)


class KeptLease(LossNotifier):
    """A lease that its client renews in the background, until its block ends or it is lost.

    `lost` is set when the lease can't be trusted any more: its owner must stop then what it does
    under the lease. A revocation by another client shows at the next renewal, within a third of the
    TTL, because the end of a lease can't be watched. A lock shows it sooner, by its key.
    """

    def __init__(self, leases: KeptLeases, lease: int, ttl_s: float, sent_at: float) -> None:
        super().__init__(leases.loop)
        self.id = lease
        self.ttl = ttl_s
        self.lost = asyncio.Event()
        self.renewed_at = sent_at
        self._leases = leases
        self._end_reason = ""  # why it is over; empty while it is kept
        self._users = 0
        self._trusted_until = sent_at + ttl_s * LEASE_TRUST
        self._timer = self.loop.call_at(self._trusted_until, self._check_trust)

    def remaining(self) -> float:
        """For how many seconds the lease can be trusted if no renewal succeeds; 0: it is over."""
        self._leases.home.check_process()
        return 0.0 if self._end_reason else max(0.0, self._trusted_until - self.loop.time())

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` at once when the lease is lost, or now if it is. It runs on the client's
        loop.
        """
        self.add_loss_callback(callback)

    def check(self, what: str = "") -> None:
        """Raise `LockLost` if the lease can't be trusted now. Sends nothing."""
        if not self.remaining():
            raise self.error(what)

    def error(self, what: str = "") -> LockLost:
        """The error of an owner that has lost it; `what` names that which depended on it."""
        message = loss_message(what or f"lease {self.id}", self._end_reason or NOT_RENEWED)
        return LockLost(message, lease=self.id)

    # ---- for the library -------------------------------------------------------------

    def add_user(self) -> None:
        """It is kept for one more user, until `remove_user`."""
        self._users += 1

    def trust_from(self, sent_at: float) -> None:
        """A command that granted or renewed it was sent then, and has been applied."""
        self.renewed_at = max(self.renewed_at, sent_at)
        self._trusted_until = self.renewed_at + self.ttl * LEASE_TRUST

    def remove_user(self, reason: str) -> None:
        """One user needs it no longer. After the last one it is over, which is no loss."""
        if self._leases.home.inherited:
            return  # the parent process keeps it
        self._users -= 1
        if not self._users and not self._end_reason:
            self._end(reason)
            self._leases.revoke(self)

    def mark_lost(self, reason: str) -> None:
        """Renew and trust it no longer, and run the callbacks of all owners."""
        if self._end_reason:
            return
        self._end(reason)
        self.lost.set()
        self._report_loss()
        self._leases.revoke(self)

    def _end(self, reason: str) -> None:
        self._end_reason = reason
        self._timer.cancel()

    def _check_trust(self) -> None:
        # One timer per TTL, not one per renewal: it checks how long the lease is trusted by now.
        if self._trusted_until - self.loop.time() > TIMER_TOLERANCE_S:
            self._timer = self.loop.call_at(self._trusted_until, self._check_trust)
        else:
            self.mark_lost(NOT_RENEWED)


def _due_at(kept: KeptLease, share: float = 1.0) -> float:
    """When it is to be renewed; with a `share`, after that share of the time until then."""
    return kept.renewed_at + kept.ttl * RENEWAL_SHARE * share


class KeptLeases:
    """All leases that one client keeps. Those due at about the same time share one command.

    Its commands run outside any session: a grant that was run twice leaves a lease that expires,
    and a repeated renewal or revocation does no harm.
    """

    def __init__(self, pipeline: Pipeline, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.home = pipeline.home
        self._pipeline = pipeline
        self._kept: dict[int, KeptLease] = {}
        self._granted: set[int] = set()  # by this client for itself, so that it may revoke them
        self._renewing: set[int] = set()
        self._revocations: set[asyncio.Future[Any]] = set()
        self._renewal: asyncio.Handle | None = None
        # Stored here, because uvloop's handle of a timer due within a millisecond does not know it.
        self._renewal_at = 0.0

    async def grant(self, ttl_ms: int, timeout_s: float) -> KeptLease:
        """A new lease, kept alive from now on and revoked when it is over."""
        sent_at = self.loop.time()
        grant = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=ttl_ms))
        result = await self.revoked_if_cancelled(self._submit(grant, lease_result, timeout_s))
        self._granted.add(result.lease)
        return self.keep(result.lease, result.ttl_s, sent_at)

    def keep(self, lease: int, ttl_s: float, sent_at: float) -> KeptLease:
        """Keep a lease that a command sent at `sent_at` has granted or renewed.

        The caller must call `remove_user` of the result, which may have other users as well.
        """
        kept = self._kept.get(lease)
        if kept is None:
            kept = self._kept[lease] = KeptLease(self, lease, ttl_s, sent_at)
            self._renew_at(_due_at(kept))
        else:
            kept.trust_from(sent_at)
        kept.add_user()
        return kept

    async def revoked_if_cancelled(self, submitted: asyncio.Future[GrantResult]) -> GrantResult:
        """The result of a command that grants a lease to its caller.

        If the caller is cancelled, the command goes on, and the lease that it grants is revoked:
        nothing else knows its id.
        """
        try:
            return await asyncio.shield(submitted)
        except asyncio.CancelledError:
            self._pipeline.unattended(submitted)
            self._revocations.add(submitted)
            submitted.add_done_callback(self._revoke_granted)
            raise

    def revoke(self, kept: KeptLease) -> None:
        """Renew it no longer; revoke it if this client has granted it, so that waiters need not
        wait for its TTL.
        """
        self._kept.pop(kept.id, None)
        if kept.id in self._granted:
            self._granted.remove(kept.id)
            self._send_revocation(kept.id, kept.ttl)

    async def wait_revoked(self) -> None:
        """Wait until all revocations are answered, at most for `CLOSE_GRACE_S`."""
        if self.home.inherited:
            return
        until = self.loop.time() + CLOSE_GRACE_S
        # An answer to the grant of a cancelled caller adds a revocation.
        while self._revocations and (left_s := until - self.loop.time()) > TIMER_TOLERANCE_S:
            await asyncio.wait(list(self._revocations), timeout=left_s)

    def mark_all_lost(self, reason: str) -> None:
        """Every lease is lost: none is renewed from here on, and the owners stop."""
        for kept in list(self._kept.values()):
            kept.mark_lost(reason)
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    # ---- renewals --------------------------------------------------------------------

    def _renew_at(self, when: float) -> None:
        if self._renewal is None or when < self._renewal_at:
            if self._renewal is not None:
                self._renewal.cancel()
            self._renewal = self.loop.call_at(when, self._renew)
            self._renewal_at = when

    def _renew(self) -> None:
        self._renewal = None
        now = self.loop.time()
        due = [kept for kept in self._idle() if _due_at(kept, EARLY_SHARE) <= now]
        for begin in range(0, len(due), LEASES_PER_COMMAND):
            self._send_renewal(due[begin : begin + LEASES_PER_COMMAND], now)
        self._schedule_renewal()

    def _schedule_renewal(self) -> None:
        times = [_due_at(kept) for kept in self._idle()]
        if times:
            self._renew_at(min(times))

    def _idle(self) -> list[KeptLease]:
        """The leases without a renewal in flight."""
        return [kept for lease, kept in self._kept.items() if lease not in self._renewing]

    def _send_renewal(self, due: list[KeptLease], now: float) -> None:
        leases = [kept.id for kept in due]
        self._renewing.update(leases)
        timeout_s = min(kept.ttl for kept in due) * RENEWAL_SHARE
        renewal = kv_pb2.Command(lease_keep_alive=kv_pb2.LeaseKeepAlive(leases=leases))
        answer = self._submit(renewal, ended_leases, timeout_s)
        answer.add_done_callback(partial(self._renewed, due, now, timeout_s))

    def _renewed(
        self,
        due: list[KeptLease],
        sent_at: float,
        timeout_s: float,
        answer: asyncio.Future[frozenset[int]],
    ) -> None:
        self._renewing.difference_update(kept.id for kept in due)
        if answer.cancelled():
            return
        if answer.exception() is not None:
            # It has taken its whole timeout, unless the error came at once.
            if self._kept:
                self._renew_at(max(self.loop.time(), sent_at + timeout_s * RETRY_SHARE))
            return
        ended = answer.result()
        for kept in due:
            if kept.id in ended:
                self._granted.discard(kept.id)
                kept.mark_lost("the store has ended the lease")
            else:
                kept.trust_from(sent_at)
        self._schedule_renewal()

    # ---- revocations -----------------------------------------------------------------

    def _send_revocation(self, lease: int, timeout_s: float) -> None:
        revoke = kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=lease))
        revoked = self._submit(revoke, lease_result, timeout_s)
        self._revocations.add(revoked)
        revoked.add_done_callback(self._revoked)

    def _revoke_granted(self, submitted: asyncio.Future[GrantResult]) -> None:
        self._revoked(submitted)
        if not submitted.cancelled() and submitted.exception() is None:
            result = submitted.result()
            if result.lease:
                self._send_revocation(result.lease, result.ttl_s)

    def _revoked(self, revocation: asyncio.Future[Any]) -> None:
        self._revocations.discard(revocation)
        if not revocation.cancelled():
            revocation.exception()

    def _submit(
        self, command: kv_pb2.Command, decode: Callable[[kv_pb2.Result], T], timeout_s: float
    ) -> asyncio.Future[T]:
        piece = kv_pb2.CommandBatch(commands=[command]).SerializeToString()
        try:
            return self._pipeline.submit(self._pipeline.control, piece, decode, timeout_s)
        except Unavailable as closed:
            # Most callers are timers and losses, in which an exception would reach no caller.
            failed: asyncio.Future[T] = self.loop.create_future()
            failed.set_exception(closed)
            return failed

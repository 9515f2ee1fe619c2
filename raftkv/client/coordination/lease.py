"""Leases that are kept alive, and for how long they can be trusted. Knows no locks.

A lease is trusted by this client's own clock: from the moment at which the command that granted or
renewed it was *sent*, for its TTL less what clocks may differ. Then it is lost for its owner,
whatever the store still says, and the owner is told at once. Before that moment the store can't
have ended it: it counts from when it applied the command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from raftkv.arguments import to_callable
from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.model.results import LeaseResult, ended_leases, lease_result
from raftkv.client.settings import CLOSE_GRACE_S, TIMER_TOLERANCE_S
from raftkv.errors import LockLost, Unavailable
from raftkv.rpc.v1 import kv_pb2

LEASE_TRUST: Final = 0.9


"""Of a lease's TTL: the rates of two clocks are assumed to differ by less than a tenth."""


# Renewed after a third of the TTL, which leaves time for two renewals to go wrong.
RENEWAL_SHARE: Final = 1 / 3


# What is due soon is renewed along with what is due now: so leases come to share commands.
EARLY_SHARE: Final = 0.5


PAUSE_SHARE: Final = 0.1  # between two renewals that fail at once


LEASES_PER_COMMAND: Final = 10_000


NOT_RENEWED: Final = "the lease was not renewed in time"


def _due_at(kept: KeptLease, share: float = 1.0) -> float:
    return kept.renewed_at + kept.ttl * RENEWAL_SHARE * share


class Losable:
    """A lease, or a place that stands on one: its loss calls whoever listens."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._loss_was_reported = False
        # By registration: two locks may well have one callback, and each its own end.
        self._listeners: dict[object, Callable[[], None]] = {}

    def listen(self, callback: Callable[[], None]) -> object:
        """Call this at the loss, or now if it is lost; returns what `forget` ends it by."""
        to_callable(callback, "callback")
        registration = object()
        if self._loss_was_reported:
            callback()
        else:
            self._listeners[registration] = callback
        return registration

    def forget(self, registration: object) -> None:
        """Call no more what was registered then."""
        self._listeners.pop(registration, None)

    def error(self, what: str = "") -> LockLost:
        """What its owner gets once it is lost; `what` stood on it, if that has a name."""
        raise NotImplementedError

    def _report_loss(self) -> None:
        self._loss_was_reported = True
        listeners, self._listeners = self._listeners, {}
        for callback in listeners.values():
            # One owner's mistake must not keep the others from being stopped.
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is not ours
                message = f"a callback on a loss failed ({self.error()})"
                self.loop.call_exception_handler({"message": message, "exception": error})


def loss_message(what: str, why: str) -> str:
    """What the owner of `what` reads once it is lost."""
    return f"{what} is lost: {why}; stop what is done under it"


class CancelOnLoss:
    """Cancels the task within the block at the loss, as `asyncio.timeout` would.

    The cancellation ends at the block's end as `LockLost`, unless the task was cancelled by
    somebody else as well: that goes on.
    """

    def __init__(self, losable: Losable, what: str) -> None:
        self._losable = losable
        self._what = what  # stands on it
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._fired = False
        self._firing: asyncio.Handle | None = None
        self._registration: object = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("only a task can be told of a loss")
        self._cancelling = self._task.cancelling()
        self._registration = self._losable.listen(self._cancel)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.disarm()
        if not self._fired or self._task is None:
            return
        cancelled_again = self._task.uncancel() > self._cancelling
        if kind is asyncio.CancelledError and not cancelled_again:
            raise self._losable.error(self._what) from error

    def disarm(self) -> None:
        """A loss from here on cancels nothing."""
        self._losable.forget(self._registration)
        if self._firing is not None:
            self._firing.cancel()

    def _cancel(self) -> None:
        if self._task is asyncio.current_task():
            # The loss was noticed by the task itself. Cancelled now, it would meet that at its next
            # await; if the block has ended by then, `uncancel` has not taken it back (Python 3.11).
            self._firing = asyncio.get_running_loop().call_soon(self._fire)
        else:
            self._fire()

    def _fire(self) -> None:
        self._fired = True
        if self._task is not None:
            self._task.cancel()


class _Granted(Protocol):
    """A result that says which lease was granted; 0: none."""

    @property
    def lease(self) -> int: ...
    @property
    def ttl_s(self) -> float: ...


GrantResult = TypeVar("GrantResult", bound=_Granted)


class KeptLease(Losable):
    """A lease that its client renews in the background, until it is let go or lost.

    `lost` is set when it can't be trusted any more: what its owner does under it must stop then.
    That somebody else has revoked it shows at the next renewal, within a third of its TTL: the
    end of a lease is no event that could be watched. A lock shows it sooner, by its key.
    """

    def __init__(self, keeper: KeptLeases, lease: int, ttl_s: float, sent_at: float) -> None:
        super().__init__(keeper.loop)
        self.id = lease
        self.ttl = ttl_s
        self.lost = asyncio.Event()
        self.renewed_at = sent_at
        self._keeper = keeper
        self._why = ""
        self._kept_by = 0
        self._trusted_until = sent_at + ttl_s * LEASE_TRUST
        self._timer = self.loop.call_at(self._trusted_until, self._look)

    def remaining(self) -> float:
        """For how many seconds it can be trusted if no renewal succeeds; 0 once it is over."""
        self._keeper.home.check_process()
        return 0.0 if self._why else max(0.0, self._trusted_until - self.loop.time())

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call this at once when the lease is lost, or now if it is. Runs on the client's loop."""
        self.listen(callback)

    def check(self, what: str = "") -> None:
        """Raise `LockLost`, as `error` makes it, if it can't be trusted now."""
        if not self.remaining():
            raise self.error(what)

    def error(self, what: str = "") -> LockLost:
        """What to tell an owner that has lost it; `what` stood on it, if that has a name."""
        message = loss_message(what or f"lease {self.id}", self._why or NOT_RENEWED)
        return LockLost(message, lease=self.id)

    # ---- for its keeper --------------------------------------------------------------

    def keep_too(self) -> None:
        """One more wants it to live, until that one calls `let_go`."""
        self._kept_by += 1

    def trust_from(self, sent_at: float) -> None:
        """A command that granted or renewed it was sent then, and has been applied."""
        self.renewed_at = max(self.renewed_at, sent_at)
        self._trusted_until = self.renewed_at + self.ttl * LEASE_TRUST

    def let_go(self, why: str) -> None:
        """One of those that keep it needs it no more; without the last it is over, not lost."""
        if self._keeper.home.inherited:
            return  # the parent keeps it
        self._kept_by -= 1
        if not self._kept_by and not self._why:
            self._end(why)
            self._keeper.drop(self)

    def lose(self, why: str) -> None:
        """Renew and trust it no more, and tell everybody."""
        if self._why:
            return
        self._end(why)
        self.lost.set()
        self._report_loss()
        self._keeper.drop(self)

    def _end(self, why: str) -> None:
        self._why = why
        self._timer.cancel()

    def _look(self) -> None:
        # One timer per TTL, not one per renewal: it sees how far the trust reaches by now.
        if self._trusted_until - self.loop.time() > TIMER_TOLERANCE_S:
            self._timer = self.loop.call_at(self._trusted_until, self._look)
        else:
            self.lose(NOT_RENEWED)


class KeptLeases:
    """All leases that one client keeps: those due at about the same time share one command.

    Its commands run outside any session: a grant that was run twice leaves a lease that expires,
    a renewal or revocation does no harm.
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
        # Kept here, for uvloop's handle of what is due within its millisecond does not know it.
        self._renewal_at = 0.0

    async def grant(self, ttl_ms: int, timeout_s: float) -> KeptLease:
        """A new lease, kept alive from now on and revoked when it is over."""
        sent_at = self.loop.time()
        grant = kv_pb2.Command(lease_grant=kv_pb2.LeaseGrant(ttl_ms=ttl_ms))
        result: LeaseResult = await self.granted(self._submit(grant, lease_result, timeout_s))
        self._granted.add(result.lease)
        return self.keep(result.lease, result.ttl_s, sent_at)

    def keep(self, lease: int, ttl_s: float, sent_at: float) -> KeptLease:
        """Keep a lease that a command sent at `sent_at` has granted or renewed.

        Whoever calls this has to `let_go`, and what it got may be kept by others as well.
        """
        kept = self._kept.get(lease)
        if kept is None:
            kept = self._kept[lease] = KeptLease(self, lease, ttl_s, sent_at)
            self._renew_at(_due_at(kept))
        else:
            kept.trust_from(sent_at)
        kept.keep_too()
        return kept

    async def granted(self, submitted: asyncio.Future[GrantResult]) -> GrantResult:
        """The result of a command that grants a lease to its caller.

        If the caller is cancelled, the command goes on, and the lease that it grants is revoked:
        nobody else knows of it.
        """
        try:
            return await asyncio.shield(submitted)
        except asyncio.CancelledError:
            self._pipeline.unattended(submitted)
            self._revocations.add(submitted)
            submitted.add_done_callback(self._take_back)
            raise

    def drop(self, kept: KeptLease) -> None:
        """It is over: renew it no more. Revoking it is kind to who waits; else its TTL ends it."""
        self._kept.pop(kept.id, None)
        if kept.id in self._granted:
            self._granted.remove(kept.id)
            self._revoke(kept.id, kept.ttl)

    async def settle(self) -> None:
        """Wait until what was dropped is revoked, but not for long."""
        if self.home.inherited:
            return
        until = self.loop.time() + CLOSE_GRACE_S
        # A grant that is taken back becomes a revocation.
        while self._revocations and (left_s := until - self.loop.time()) > TIMER_TOLERANCE_S:
            await asyncio.wait(list(self._revocations), timeout=left_s)

    def lose_all(self, why: str) -> None:
        """None of those that are kept now is renewed from here on, and their owners stop."""
        for kept in list(self._kept.values()):
            kept.lose(why)
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
        due = [kept for kept in self._resting() if _due_at(kept, EARLY_SHARE) <= now]
        for begin in range(0, len(due), LEASES_PER_COMMAND):
            self._send(due[begin : begin + LEASES_PER_COMMAND], now)
        self._renew_next()

    def _renew_next(self) -> None:
        times = [_due_at(kept) for kept in self._resting()]
        if times:
            self._renew_at(min(times))

    def _resting(self) -> list[KeptLease]:
        """Those that no renewal is under way for."""
        return [kept for lease, kept in self._kept.items() if lease not in self._renewing]

    def _send(self, due: list[KeptLease], now: float) -> None:
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
            # It has waited for its whole time, unless the error came at once.
            if self._kept:
                self._renew_at(max(self.loop.time(), sent_at + timeout_s * PAUSE_SHARE))
            return
        ended = answer.result()
        for kept in due:
            if kept.id in ended:
                self._granted.discard(kept.id)
                kept.lose("the store has ended the lease")
            else:
                kept.trust_from(sent_at)
        self._renew_next()

    def _revoke(self, lease: int, timeout_s: float) -> None:
        revoke = kv_pb2.Command(lease_revoke=kv_pb2.LeaseRevoke(lease=lease))
        revoked = self._submit(revoke, lease_result, timeout_s)
        self._revocations.add(revoked)
        revoked.add_done_callback(self._revoked)

    def _take_back(self, submitted: asyncio.Future[GrantResult]) -> None:
        self._revoked(submitted)
        if not submitted.cancelled() and submitted.exception() is None:
            result = submitted.result()
            if result.lease:
                self._revoke(result.lease, result.ttl_s)

    def _revoked(self, revocation: asyncio.Future[Any]) -> None:
        self._revocations.discard(revocation)
        if not revocation.cancelled():
            revocation.exception()

    def _submit(
        self, command: kv_pb2.Command, decode: Callable[[kv_pb2.Result], Any], timeout_s: float
    ) -> asyncio.Future[Any]:
        piece = kv_pb2.CommandBatch(commands=[command]).SerializeToString()
        try:
            return self._pipeline.submit(self._pipeline.control, piece, decode, timeout_s)
        except Unavailable as closed:
            # Most callers are timers and losses, which nobody could tell of it.
            failed: asyncio.Future[Any] = self.loop.create_future()
            failed.set_exception(closed)
            return failed

"""The queue of each lock and election: joining it, waiting to be its first entry, and leaving it.

An entry is a key under a lease that this client keeps; the owner of the first entry holds the name.
All entries of one TTL share one lease, or several once a lease has as many keys as it may have. A
lease is ended when it has had no entry for its TTL.

No key may be left behind that this client does not know of: its lease is kept alive, so the key
would hold the name for ever. Hence a join whose caller was cancelled goes on, and the entry is
abandoned as soon as it is known; and if it can't be known whether there is an entry, the lease is
ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias

from raftkv.client.connection.home import Home
from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.connection.unary import UnaryRequests
from raftkv.client.coordination.lease import NOT_RENEWED, KeptLease, KeptLeases
from raftkv.client.coordination.loss import CancelOnLoss
from raftkv.client.coordination.owners import LockOwners, Owners
from raftkv.client.coordination.queue_entry import EntryWatches, QueueEntry
from raftkv.client.model.results import AcquireResult, DeleteResult, acquire_result, delete_result
from raftkv.client.requests import Fences, WriteOptions, command_piece
from raftkv.client.settings import TIMER_TOLERANCE_S, ClientSettings
from raftkv.client.watch.connection import WatchConnection
from raftkv.errors import (
    DeadlineExceeded,
    LeaseNotFound,
    Outcome,
    PermissionDenied,
    RaftkvError,
    TooManyKeys,
    Unauthenticated,
)
from raftkv.rpc.v1 import api_pb2, kv_pb2

WAIT: Final = "/raftkv.rpc.v1.Lock/Wait"
# A node is asked again after this long, in case its answer was lost.
WAIT_S: Final = 5.0
REMOVAL_RETRY_S: Final = 0.05
DENIED_RETRY_S: Final = 1.0  # where the user has lost the right to remove it
JOIN_UNKNOWN: Final = "it is unknown whether the lease has got a queue entry"

OnWait: TypeAlias = Callable[[], object]
"""Called when another entry is known to be before the caller's."""


class _LeaseGrant(NamedTuple):
    """The task that grants the lease of one TTL; a caller's cancellation does not end it."""

    begun_at: float
    once: bool
    lease: asyncio.Task[KeptLease]


@dataclass(slots=True)
class _Use:
    """How many entries a lease has, or may get by a join in flight; if none, since when."""

    idle_since: float
    entries: int = 0


class Queues(Protocol):
    """What a lock needs of the queues. `LockQueues` grants a lock to the first entry alone;
    recipes have other rules.
    """

    @property
    def owners(self) -> Owners: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def answer_s_max(self) -> float: ...
    @property
    def home(self) -> Home: ...
    async def enter(
        self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait
    ) -> QueueEntry: ...
    async def enter_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, *, once: bool = False
    ) -> QueueEntry | None: ...
    def abandon(self, entry: QueueEntry) -> asyncio.Future[bool]: ...


class LockQueues:
    """The queue entries of one client, and the leases that they share."""

    def __init__(
        self,
        pipeline: Pipeline,
        unary: UnaryRequests,
        leases: KeptLeases,
        watches: WatchConnection,
        settings: ClientSettings,
        timeout_s: float,
    ) -> None:
        self.owners = LockOwners()
        self.home = leases.home
        self.timeout_s = timeout_s  # of commands for which the caller gave none
        self.answer_s_max = settings.silence_s_max  # how long one attempt waits for its answer
        self.client: object = None  # a lock keeps its client alive by this reference
        self._pipeline = pipeline
        self._unary = unary
        self._leases = leases
        self._settings = settings
        self._loop = leases.loop
        self._watches = EntryWatches(pipeline, watches, leases.loop)
        self._shared: dict[int, _LeaseGrant] = {}  # by TTL in ms
        self._uses: dict[KeptLease, _Use] = {}

    async def enter(self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait) -> QueueEntry:
        """Join the queue and wait until the entry is the first. If cancelled, abandon the entry.

        `on_wait` is called once another entry is known to be before it. Raises `LockLost` if the
        entry was lost during the wait.
        """
        entry, held = await self._join(name, ttl_ms, value)
        try:
            if not held:
                on_wait()
                await self._wait_until_first(entry)  # its node checks the key meanwhile
            entry.check()
        except BaseException:
            self.abandon(entry)
            raise
        self._watches.add(entry)
        return entry

    async def enter_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, *, once: bool = False
    ) -> QueueEntry | None:
        """An entry that is the first at once, or None. `once`: one attempt, see `_acquire`."""
        lease, result = await self._acquire(name, ttl_ms, value, only_if_free=True, once=once)
        if not result.held:
            return None
        entry = QueueEntry(name, result.key, result.token, lease)
        if entry.remaining():
            self._watches.add(entry)
            return entry
        self.abandon(entry)
        return None

    async def join(
        self, name: bytes, ttl_ms: int, value: bytes, *, fence: Fences = None, once: bool = False
    ) -> QueueEntry:
        """A new entry, whether it is the first or not, which the caller has to abandon.

        `once`: one attempt, see `_acquire`.
        """
        entry, _ = await self._join(name, ttl_ms, value, fence, once)
        self._watches.add(entry)
        return entry

    def abandon(self, entry: QueueEntry) -> asyncio.Future[bool]:
        """Remove the entry in the background, however long that takes.

        The future's result says whether the entry was still there.
        """
        entry.remove_callbacks()
        self._watches.discard(entry)
        removed: asyncio.Future[bool] = self._loop.create_future()
        removed.add_done_callback(lambda _: self._end_use(entry.lease))
        self._remove(entry, removed, False)
        return removed

    async def close(self) -> None:
        """Cancel the grants under way; to be called once the leases are revoked."""
        tasks = [grant.lease for grant in self._shared.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # ---- joining ---------------------------------------------------------------------

    async def _join(
        self, name: bytes, ttl_ms: int, value: bytes, fence: Fences = None, once: bool = False
    ) -> tuple[QueueEntry, bool]:
        """A new entry, and whether it is the first."""
        lease, result = await self._acquire(name, ttl_ms, value, fence=fence, once=once)
        return QueueEntry(name, result.key, result.token, lease), result.held

    async def _acquire(
        self,
        name: bytes,
        ttl_ms: int,
        value: bytes,
        *,
        only_if_free: bool = False,
        fence: Fences = None,
        once: bool = False,
    ) -> tuple[KeptLease, AcquireResult]:
        """The result of the command that joins the queue, and the lease of the entry.

        A token of 0 (only with `only_if_free`): there is no entry, as the name is not free. `once`:
        the command is tried once, and so is the grant of the lease if there is none yet; their
        answers are still awaited.
        """
        while True:
            grant, lease = await self._shared_lease(ttl_ms, once)
            acquire = kv_pb2.Acquire(
                name=name, lease=lease.id, value=value, only_if_free=only_if_free
            )
            command = kv_pb2.Command(acquire=acquire)
            piece = command_piece(self._settings, command, WriteOptions(fence))
            # The session makes it run once, however often it is sent. It is sent again for as long
            # as the lease is trusted.
            joining = self._pipeline.submit(
                self._pipeline.writes, piece, acquire_result, lease.remaining(), once=once
            )
            use = self._use_of(lease)
            empty = not use.entries
            use.entries += 1
            joining.add_done_callback(partial(self._joined, lease))
            try:
                result = await asyncio.shield(joining)
            except asyncio.CancelledError:
                joining.add_done_callback(partial(self._abandon_joined, name, lease))
                self._pipeline.unattended(joining)
                raise
            except TooManyKeys:
                if empty:
                    raise
                # The lease is full: it is kept for its entries, and later joins get another lease.
                self._forget(ttl_ms, grant)
            except LeaseNotFound:
                lease.mark_lost("the store has ended the lease")
            except RaftkvError as error:
                if error.outcome is Outcome.MAYBE_APPLIED:
                    lease.mark_lost(JOIN_UNKNOWN)
                raise
            else:
                return lease, result

    def _joined(self, lease: KeptLease, joined: asyncio.Future[AcquireResult]) -> None:
        if joined.cancelled() or joined.exception() is not None or not joined.result().token:
            self._end_use(lease)  # else the entry uses the lease until it is removed

    def _abandon_joined(
        self, name: bytes, lease: KeptLease, joined: asyncio.Future[AcquireResult]
    ) -> None:
        """A join whose caller was cancelled is answered."""
        error = None if joined.cancelled() else joined.exception()
        if joined.cancelled() or getattr(error, "outcome", None) is Outcome.MAYBE_APPLIED:
            lease.mark_lost(JOIN_UNKNOWN)
        elif error is None and joined.result().token:
            self.abandon(QueueEntry(name, joined.result().key, joined.result().token, lease))

    async def _shared_lease(self, ttl_ms: int, once: bool) -> tuple[_LeaseGrant, KeptLease]:
        called_at = self._loop.time()
        while True:
            grant = self._shared.get(ttl_ms) or self._begin_grant(ttl_ms, once)
            try:
                lease = await asyncio.shield(grant.lease)
            except RaftkvError:
                # A grant that was begun for another caller may have had little time left, or only
                # one attempt.
                if once or (grant.begun_at >= called_at and not grant.once):
                    raise
                continue
            if lease.remaining():
                return grant, lease
            self._forget(ttl_ms, grant)

    def _begin_grant(self, ttl_ms: int, once: bool) -> _LeaseGrant:
        timeout_s = 0.0 if once else self.timeout_s
        lease = self._loop.create_task(self._leases.grant(ttl_ms, timeout_s))
        grant = self._shared[ttl_ms] = _LeaseGrant(self._loop.time(), once, lease)
        lease.add_done_callback(partial(self._granted, ttl_ms, grant))
        return grant

    def _granted(self, ttl_ms: int, grant: _LeaseGrant, lease: asyncio.Task[KeptLease]) -> None:
        if lease.cancelled() or lease.exception() is not None:
            self._forget(ttl_ms, grant)
        else:
            self._end_if_idle(ttl_ms, grant, lease.result())

    def _forget(self, ttl_ms: int, grant: _LeaseGrant) -> None:
        if self._shared.get(ttl_ms) is grant:
            del self._shared[ttl_ms]

    def _use_of(self, lease: KeptLease) -> _Use:
        return self._uses.setdefault(lease, _Use(self._loop.time()))

    def _end_use(self, lease: KeptLease) -> None:
        use = self._uses.get(lease)
        if use is not None:
            use.entries -= 1
            use.idle_since = self._loop.time()

    def _end_if_idle(self, ttl_ms: int, grant: _LeaseGrant, lease: KeptLease) -> None:
        """End the lease if it has had no entry for its TTL, else check again when that may be.

        One timer per TTL, not one per entry that is removed.
        """
        now, use = self._loop.time(), self._use_of(lease)
        idle_until = (now if use.entries else use.idle_since) + lease.ttl
        if not lease.lost.is_set() and idle_until - now > TIMER_TOLERANCE_S:
            self._loop.call_at(idle_until, self._end_if_idle, ttl_ms, grant, lease)
            return
        self._forget(ttl_ms, grant)
        del self._uses[lease]
        lease.remove_user("no lock has used it for its TTL")

    # ---- waiting ---------------------------------------------------------------------

    async def _wait_until_first(self, entry: QueueEntry) -> None:
        """Wait until the entry is the first in the store's queue."""
        request = api_pb2.LockWaitRequest(name=entry.name, token=entry.token)
        with CancelOnLoss(entry, str(entry)):
            while True:
                try:
                    await self._unary.call(WAIT, request, api_pb2.LockWaitReply, WAIT_S)
                except DeadlineExceeded:
                    continue
                return

    # ---- removing an entry -----------------------------------------------------------

    def _remove(self, entry: QueueEntry, removed: asyncio.Future[bool], unknown: bool) -> None:
        """Delete the key; `unknown` says that an earlier attempt may have done so."""
        if entry.is_removed:
            removed.set_result(False)
            return
        left_s = entry.lease.remaining()
        if not left_s:
            # For good: a renewal that is answered at this moment would keep the key for ever.
            entry.lease.mark_lost(NOT_RENEWED)
            removed.set_result(False)
            return
        deletion = kv_pb2.Command(delete_range=kv_pb2.DeleteRange(key=entry.key))
        piece = command_piece(self._settings, deletion)
        deleted = self._pipeline.submit(self._pipeline.writes, piece, delete_result, left_s)
        self._pipeline.unattended(deleted)  # if it fails, the lease's end does the same
        deleted.add_done_callback(partial(self._on_deleted, entry, removed, unknown))

    def _on_deleted(
        self,
        entry: QueueEntry,
        removed: asyncio.Future[bool],
        unknown: bool,
        deleted: asyncio.Future[DeleteResult],
    ) -> None:
        error = deleted.exception()
        if error is None:
            entry.is_removed = not (unknown or deleted.result().deleted)
            removed.set_result(not entry.is_removed)
        else:
            unknown |= isinstance(error, RaftkvError) and error.outcome is Outcome.MAYBE_APPLIED
            denied = isinstance(error, PermissionDenied | Unauthenticated)
            retry_s = DENIED_RETRY_S if denied else REMOVAL_RETRY_S
            self._loop.call_later(retry_s, self._remove, entry, removed, unknown)

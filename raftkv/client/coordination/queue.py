"""Joining, waiting in and leaving the queue of a name. Knows places, not what they are held for.

A place is a key under a lease that this client keeps; the first place holds the name. All places
of equal TTL share one lease, or several once one has as many keys as a lease may have; it ends once
there has been none for that long. Nothing here may
leave a key behind that nobody knows of: its lease is kept alive, so it would hold the name for
ever. Hence a join goes on when its caller has given up, and is taken back; and if nobody can say
whether it happened, the lease is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

from raftkv.client.connection.home import Home
from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.connection.unary import UnaryRequests
from raftkv.client.coordination.entry_watches import EntryWatches, QueueEntry
from raftkv.client.coordination.lease import (
    NOT_RENEWED,
    CancelOnLoss,
    KeptLease,
    KeptLeases,
)
from raftkv.client.model.results import AcquireResult, DeleteResult, acquire_result, delete_result
from raftkv.client.requests import Fences, command_piece
from raftkv.client.settings import TIMER_TOLERANCE_S, ClientSettings
from raftkv.client.watch.connection import WatchConnection
from raftkv.errors import (
    DeadlineExceeded,
    LeaseNotFound,
    LockReentered,
    OutcomeUnknown,
    RaftkvError,
    TooManyKeys,
    printable,
)
from raftkv.rpc.v1 import api_pb2, kv_pb2

WAIT: Final = "/raftkv.rpc.v1.Lock/Wait"
# A node is asked again after this long, in case the answer got lost on its way.
WAIT_S: Final = 5.0
LEAVE_PAUSE_S: Final = 0.05

OnWait: TypeAlias = Callable[[], object]
"""Called when somebody is known to be in front."""


class _Grant(NamedTuple):
    """A lease that locks of one TTL share, or will; it goes on when nobody waits for it."""

    begun_at: float
    once: bool
    lease: asyncio.Task[KeptLease]


@dataclass(slots=True)
class _Use:
    """How many places stand on a lease, or are being joined; if none, since when."""

    idle_since: float
    places: int = 0


class Owners(Protocol):
    """Who has which name, so that none waits for itself."""

    def add(self, name: bytes, owner: object) -> None: ...
    def remove(self, name: bytes, owner: object) -> None: ...


class Queues(Protocol):
    """What a lock needs: places that are entered when it is their turn, and left.

    See `LockQueues`, for which the first place is the one whose turn it is.
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
    def leave(self, place: QueueEntry) -> asyncio.Future[bool]: ...


class LockQueues:
    """The places of one client."""

    def __init__(
        self,
        pipeline: Pipeline,
        unary: UnaryRequests,
        kept: KeptLeases,
        watches: WatchConnection,
        settings: ClientSettings,
        timeout_s: float,
    ) -> None:
        self.owners = LockOwners()
        self.home = kept.home
        self.timeout_s = timeout_s  # of commands whose caller gave none
        self.answer_s_max = settings.silence_s_max  # how long one attempt waits for its answer
        self.client: object = None  # that they belong to
        self._pipeline = pipeline
        self._unary = unary
        self._kept = kept
        self._settings = settings
        self._loop = kept.loop
        self._watches = EntryWatches(pipeline, watches, kept.loop)
        self._shared: dict[int, _Grant] = {}  # by TTL in ms
        self._uses: dict[KeptLease, _Use] = {}

    async def enter(self, name: bytes, ttl_ms: int, value: bytes, on_wait: OnWait) -> QueueEntry:
        """Join the queue and wait until the place is the first. Cancelled, it leaves the queue.

        `on_wait` is called once somebody is known to be in front. Raises `LockLost` if the place
        was lost while it waited.
        """
        place, held = await self._join(name, ttl_ms, value)
        try:
            if not held:
                on_wait()
                await self._wait(place)  # the node looks out for its key meanwhile
            place.check()
        except BaseException:
            self.leave(place)
            raise
        self._watches.add(place)
        return place

    async def enter_if_free(
        self, name: bytes, ttl_ms: int, value: bytes, *, once: bool = False
    ) -> QueueEntry | None:
        """Become the first at once, or None. `once`: in one attempt, see `_ask_to_join`."""
        lease, result = await self._ask_to_join(name, ttl_ms, value, only_if_free=True, once=once)
        if not result.held:
            return None
        place = QueueEntry(name, result.key, result.token, lease)
        if place.remaining():
            self._watches.add(place)
            return place
        self.leave(place)
        return None

    async def join(
        self, name: bytes, ttl_ms: int, value: bytes, *, fence: Fences = None, once: bool = False
    ) -> QueueEntry:
        """A new place, whether it is the first or not. Nobody else leaves it: its caller has to.

        `once`: in one attempt, see `_ask_to_join`.
        """
        place, _ = await self._join(name, ttl_ms, value, fence, once)
        self._watches.add(place)
        return place

    def leave(self, place: QueueEntry) -> asyncio.Future[bool]:
        """Leave the queue, however long it takes; whether the place was still there."""
        place.leave()
        self._watches.discard(place)
        left: asyncio.Future[bool] = self._loop.create_future()
        left.add_done_callback(lambda _: self._vacate(place.lease))
        self._leave(place, left, False)
        return left

    async def close(self) -> None:
        """The leases have been revoked, and all places with them."""
        tasks = [grant.lease for grant in self._shared.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # ---- in --------------------------------------------------------------------------

    async def _join(
        self, name: bytes, ttl_ms: int, value: bytes, fence: Fences = None, once: bool = False
    ) -> tuple[QueueEntry, bool]:
        """A new place and whether it is the first."""
        lease, result = await self._ask_to_join(name, ttl_ms, value, fence=fence, once=once)
        return QueueEntry(name, result.key, result.token, lease), result.held

    async def _ask_to_join(
        self,
        name: bytes,
        ttl_ms: int,
        value: bytes,
        *,
        only_if_free: bool = False,
        fence: Fences = None,
        once: bool = False,
    ) -> tuple[KeptLease, AcquireResult]:
        """What the store says. A token of 0: there is no place, as it is not free.

        `once`: the command and, if there is none yet, that for the lease are tried once; their
        answers are still waited for.
        """
        while True:
            grant, lease = await self._shared_lease(ttl_ms, once)
            acquire = kv_pb2.Acquire(
                name=name, lease=lease.id, value=value, only_if_free=only_if_free
            )
            command = kv_pb2.Command(acquire=acquire)
            piece = command_piece(self._settings, command, fence=fence)
            # The session makes it happen once, however often it is sent; and for as long as the
            # lease is trusted there is a point in sending it.
            joining: asyncio.Future[AcquireResult] = self._pipeline.submit(
                self._pipeline.writes, piece, acquire_result, lease.remaining(), once=once
            )
            use = self._use_of(lease)
            empty = not use.places
            use.places += 1
            joining.add_done_callback(partial(self._joined, lease))
            try:
                result = await asyncio.shield(joining)
            except asyncio.CancelledError:
                joining.add_done_callback(self._taking_back(name, lease))
                self._pipeline.unattended(joining)
                raise
            except TooManyKeys:
                if empty:
                    raise
                # It is full: it lives on for its places, and who joins from now on gets another.
                self._forget(ttl_ms, grant)
            except LeaseNotFound:
                lease.lose("the store has ended the lease")
            except OutcomeUnknown:
                lease.lose("nobody knows whether a place was taken under the lease")
                raise
            else:
                return lease, result

    def _joined(self, lease: KeptLease, joined: asyncio.Future[AcquireResult]) -> None:
        if joined.cancelled() or joined.exception() is not None or not joined.result().token:
            self._vacate(lease)  # else it is the place's from now on, until that is left

    def _taking_back(
        self, name: bytes, lease: KeptLease
    ) -> Callable[[asyncio.Future[AcquireResult]], None]:
        def take_back(joined: asyncio.Future[AcquireResult]) -> None:
            if joined.cancelled() or isinstance(joined.exception(), OutcomeUnknown):
                lease.lose("nobody knows whether a place was taken under the lease")
            elif joined.exception() is None and joined.result().token:
                self.leave(QueueEntry(name, joined.result().key, joined.result().token, lease))

        return take_back

    async def _shared_lease(self, ttl_ms: int, once: bool) -> tuple[_Grant, KeptLease]:
        came_at = self._loop.time()
        while True:
            grant = self._shared.get(ttl_ms) or self._begin_grant(ttl_ms, once)
            try:
                lease = await asyncio.shield(grant.lease)
            except RaftkvError:
                # The time of one that was begun for somebody else may have been nearly over, or it
                # was tried only once.
                if once or (grant.begun_at >= came_at and not grant.once):
                    raise
                continue
            if lease.remaining():
                return grant, lease
            self._forget(ttl_ms, grant)

    def _begin_grant(self, ttl_ms: int, once: bool) -> _Grant:
        timeout_s = 0.0 if once else self.timeout_s
        lease = self._loop.create_task(self._kept.grant(ttl_ms, timeout_s))
        grant = self._shared[ttl_ms] = _Grant(self._loop.time(), once, lease)
        lease.add_done_callback(partial(self._granted, ttl_ms, grant))
        return grant

    def _granted(self, ttl_ms: int, grant: _Grant, lease: asyncio.Task[KeptLease]) -> None:
        if lease.cancelled() or lease.exception() is not None:
            self._forget(ttl_ms, grant)
        else:
            self._end_if_idle(ttl_ms, grant, lease.result())

    def _forget(self, ttl_ms: int, grant: _Grant) -> None:
        if self._shared.get(ttl_ms) is grant:
            del self._shared[ttl_ms]

    def _use_of(self, lease: KeptLease) -> _Use:
        return self._uses.setdefault(lease, _Use(self._loop.time()))

    def _vacate(self, lease: KeptLease) -> None:
        use = self._uses.get(lease)
        if use is not None:
            use.places -= 1
            use.idle_since = self._loop.time()

    def _end_if_idle(self, ttl_ms: int, grant: _Grant, lease: KeptLease) -> None:
        """Or look again when that may be so: a timer per TTL, not one per place that is left."""
        now, use = self._loop.time(), self._use_of(lease)
        idle_until = (now if use.places else use.idle_since) + lease.ttl
        if not lease.lost.is_set() and idle_until - now > TIMER_TOLERANCE_S:
            self._loop.call_at(idle_until, self._end_if_idle, ttl_ms, grant, lease)
            return
        self._forget(ttl_ms, grant)
        del self._uses[lease]
        lease.let_go("no lock has stood on it for its TTL")

    # ---- waiting ---------------------------------------------------------------------

    async def _wait(self, place: QueueEntry) -> None:
        """Until the place is the first, as the store sees it."""
        request = api_pb2.LockWaitRequest(name=place.name, token=place.token)
        with CancelOnLoss(place, str(place)):
            while True:
                try:
                    await self._unary.call(WAIT, request, api_pb2.LockWaitReply, WAIT_S)
                except DeadlineExceeded:
                    continue
                return

    # ---- out -------------------------------------------------------------------------

    def _leave(self, place: QueueEntry, left: asyncio.Future[bool], unknown: bool) -> None:
        """Delete the key; `unknown` says that an earlier attempt may have done so."""
        if place.is_removed:
            left.set_result(False)
            return
        left_s = place.lease.remaining()
        if not left_s:
            # For good: a renewal that is answered at this moment would keep the key for ever.
            place.lease.lose(NOT_RENEWED)
            left.set_result(False)
            return
        deletion = kv_pb2.Command(delete_range=kv_pb2.DeleteRange(key=place.key))
        piece = command_piece(self._settings, deletion)
        deleted = self._pipeline.submit(self._pipeline.writes, piece, delete_result, left_s)
        self._pipeline.unattended(deleted)  # if it fails, the lease's end does the same
        deleted.add_done_callback(partial(self._left, place, left, unknown))

    def _left(
        self,
        place: QueueEntry,
        left: asyncio.Future[bool],
        unknown: bool,
        deleted: asyncio.Future[DeleteResult],
    ) -> None:
        error = deleted.exception()
        if error is None:
            place.is_removed = not (unknown or deleted.result().deleted)
            left.set_result(not place.is_removed)
        else:
            unknown |= isinstance(error, OutcomeUnknown)
            self._loop.call_later(LEAVE_PAUSE_S, self._leave, place, left, unknown)


T = TypeVar("T")


def calling_task() -> asyncio.Task[object] | None:
    """The task that calls, None outside of any.

    Asked for when a coroutine is made, not when it runs: `asyncio.wait_for` of Python 3.11 and
    `create_task` run it in a task of its own, which ends at once and can't own anything.
    """
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def leave_block(blocks: dict[object, T], task: object) -> T:
    """Take out what the block of this task is under.

    `wait_for(stack.enter_async_context(lock))` of Python 3.11 enters it in a task of its own, which
    has ended by then.
    """
    if task not in blocks:
        ended = (each for each in blocks if isinstance(each, asyncio.Task) and each.done())
        task = next(ended, task)
    return blocks.pop(task)


class LockOwners:
    """Who holds which name or waits for it."""

    def __init__(self) -> None:
        self._owners: set[tuple[bytes, object]] = set()

    def add(self, name: bytes, owner: object) -> None:
        """Raises `LockReentered` if it is in already."""
        if (name, owner) in self._owners:
            raise LockReentered(
                f"this task or thread holds {printable(name)} already, or waits for it: it would"
                " wait for itself; release the lock first",
                name=name,
            )
        self._owners.add((name, owner))

    def remove(self, name: bytes, owner: object) -> None:
        """It waits no more and holds nothing."""
        self._owners.discard((name, owner))

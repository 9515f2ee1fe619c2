"""Finds out that somebody else has removed the key of a place: deleted it, or revoked its lease.

    young -- held for WATCHED_AFTER_S --> read: is the key there? -- yes --> watched from then on
      ^                                    ^                                   |
      |                                    +------------ compacted ------------+
      +------------------- refused: another one is tried each second ----------+

Most places are left while they are young, and cost an entry in a dict. A deletion is told by the
client's watch stream within milliseconds, after a failure of its node within seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.coordination.lease import KeptLease, Losable, loss_message
from raftkv.client.model.read_levels import ReadLevel
from raftkv.client.model.results import RangeResult, range_reading
from raftkv.client.requests import range_piece
from raftkv.client.settings import TIMER_TOLERANCE_S
from raftkv.client.watch.connection import WatchConnection
from raftkv.client.watch.watcher import EventBatch, WatchState
from raftkv.errors import LockLost, Overloaded, RaftkvError, RevisionCompacted, printable
from raftkv.rpc.v1 import api_pb2, kv_pb2

WATCHED_AFTER_S: Final = 0.3
# Of the 10,000 that a server allows by default on a client's stream; the rest is for the caller's.
WATCHES_MAX: Final = 5_000
READS_PER_TURN_MAX: Final = 200
RETRY_S: Final = 1.0


class EntryWatches:
    """The watches of the places of one client.

    While there are `WATCHES_MAX`, or the server refuses more, another place is only covered by its
    lease: the removal of its key shows when it is left, a revocation at the next renewal.
    """

    def __init__(
        self, pipeline: Pipeline, stream: WatchConnection, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._pipeline = pipeline
        self._stream = stream
        self._loop = loop
        self._young: dict[QueueEntry, float] = {}  # when it was taken, in that order
        self._timer: asyncio.TimerHandle | None = None
        self._watches: dict[
            QueueEntry, _DeletionWatcher | None
        ] = {}  # None: it is read, or will be
        self._bound = WATCHES_MAX  # less where the server refuses them

    def add(self, place: QueueEntry) -> None:
        """`QueueEntry.remove` is called once its key is gone, until `discard`."""
        self._young[place] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(WATCHED_AFTER_S, self._watch_due)

    def discard(self, place: QueueEntry) -> None:
        """Its owner leaves it, or it is lost."""
        self._young.pop(place, None)
        watch = self._watches.pop(place, None)
        if watch is not None:
            self._stream.remove(watch)

    def _watch_due(self) -> None:
        """One timer for all: it rings for the oldest of those that are young."""
        self._timer = None
        now = self._loop.time()
        old = now - WATCHED_AFTER_S + TIMER_TOLERANCE_S
        is_full = len(self._watches) >= self._bound
        if is_full and self._bound < WATCHES_MAX:
            self._bound = len(self._watches) + 1  # perhaps the server has room again
        room = max(0, min(self._bound - len(self._watches), READS_PER_TURN_MAX))
        due = [place for place, since in islice(self._young.items(), room) if since <= old]
        for place in due:
            del self._young[place]
            self._watches[place] = None
            self._read(place)
        if self._young:
            oldest = next(iter(self._young.values()))
            at = now + RETRY_S if is_full else oldest + WATCHED_AFTER_S
            self._timer = self._loop.call_at(at, self._watch_due)

    def _read(self, place: QueueEntry) -> None:
        """See whether its key is there, and from which revision on it has to be watched."""
        if place not in self._watches:
            return
        left_s = place.remaining()
        if not left_s:
            self.discard(place)
            return
        piece = range_piece(kv_pb2.Range(key=place.key, keys_only=True))
        lane = self._pipeline.reads(ReadLevel.SESSION)
        try:
            reading = self._pipeline.submit(lane, piece, range_reading, left_s)
        except RaftkvError:  # the client is closed, and its leases end
            self.discard(place)
            return
        self._pipeline.unattended(reading)
        reading.add_done_callback(partial(self._was_read, place))

    def _was_read(self, place: QueueEntry, reading: asyncio.Future[RangeResult]) -> None:
        failed = reading.cancelled() or reading.exception() is not None
        if place not in self._watches:
            return
        if failed:
            self._loop.call_later(RETRY_S, self._read, place)
            return
        found = reading.result()
        if not any(kv.create_revision == place.token for kv in found.kvs):
            self._removed(place)
            return
        watch = self._watches[place] = _DeletionWatcher(
            self._stream,
            place.key,
            found.revision + 1,
            self._pipeline.saw,
            partial(self._removed, place),
            partial(self._watch_ended, place),
        )
        try:
            self._stream.add(watch)
        except RaftkvError:  # as above
            self.discard(place)

    def _removed(self, place: QueueEntry) -> None:
        self.discard(place)
        place.remove()

    def _watch_ended(self, place: QueueEntry, error: RaftkvError) -> None:
        if place not in self._watches:
            return
        if isinstance(error, Overloaded):
            del self._watches[place]
            self._bound = len(self._watches)
            self.add(place)
            return
        self._watches[place] = None
        delay_s = 0.0 if isinstance(error, RevisionCompacted) else RETRY_S
        self._loop.call_later(delay_s, self._read, place)


class _DeletionWatcher(WatchState):
    """Watches one key for its deletion, without a task: what a consumer would do is called."""

    def __init__(
        self,
        stream: WatchConnection,
        key: bytes,
        start_revision: int,
        saw: Callable[[int], None],
        on_deletion: Callable[[], None],
        on_end: Callable[[RaftkvError], None],
    ) -> None:
        request = api_pb2.WatchCreate(key=key, start_revision=start_revision, no_put=True)
        super().__init__(stream, request, 0, saw)
        self._on_deletion = on_deletion
        self._on_end = on_end

    def deliver(self, parcel: EventBatch) -> None:
        """Its key was deleted: nothing else is watched for."""
        self._on_deletion()

    def fail(self, error: RaftkvError) -> None:
        """It can't go on."""
        self._on_end(error)


REMOVED: Final = "its key was deleted or its lease was revoked by somebody else"


class QueueEntry(Losable):
    """A place in the queue of `name`: lost when `lease` is, or when its key is removed.

    Other places stand on the same lease; the removal of one key is no loss of theirs.
    """

    def __init__(self, name: bytes, key: bytes, token: int, lease: KeptLease) -> None:
        super().__init__(lease.loop)
        self.name = name
        self.key = key
        self.token = token
        self.lease = lease
        self.is_removed = False
        self._on_lease = lease.listen(self._report_loss)

    def remaining(self) -> float:
        """For how many seconds it can be trusted if no renewal succeeds; 0 once it is lost."""
        return 0.0 if self.is_removed else self.lease.remaining()

    def check(self, what: str = "") -> None:
        """Raise `LockLost`, as `error` makes it, if it can't be trusted now."""
        if not self.remaining():
            raise self.error(what)

    def error(self, what: str = "") -> LockLost:
        """What to tell an owner that has lost it; `what` stood on it, if that has a name."""
        what = what or str(self)
        if self.is_removed:
            return LockLost(loss_message(what, REMOVED), name=self.name, lease=self.lease.id)
        return self.lease.error(what)

    def remove(self) -> None:
        """Its key is gone, and its owner has not left it; no news if its lease was lost before."""
        if self.remaining():
            self.is_removed = True
            self._report_loss()

    def leave(self) -> None:
        """Its owner leaves it: nothing that happens from here on is a loss."""
        self.lease.forget(self._on_lease)
        self._listeners.clear()

    def __str__(self) -> str:
        return f"the place in the queue of {printable(self.name)}"

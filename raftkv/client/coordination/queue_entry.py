"""An entry in a lock's queue, and how its owner notices that another client has removed it.

A removal deletes the entry's key or revokes its lease. The states of an entry that is held:

    young -- held for WATCHED_AFTER_S --> read: is the key there? -- yes --> watched from then on
      ^                                    ^                                   |
      |                                    +------------ compacted ------------+
      +------------------- refused: another one is tried each second ----------+

Most entries are released while they are young, and cost an item of a dict. The client's watch
stream reports a deletion within milliseconds, after a failure of its node within seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from raftkv.client.connection.pipeline import Pipeline
from raftkv.client.coordination.lease import KeptLease
from raftkv.client.coordination.loss import LossNotifier, loss_message
from raftkv.client.model.read_levels import ReadLevel
from raftkv.client.model.results import RangeResult, range_reading
from raftkv.client.requests import range_piece
from raftkv.client.settings import TIMER_TOLERANCE_S
from raftkv.client.watch.connection import WatchConnection
from raftkv.client.watch.watcher import EventBatch, WatchState
from raftkv.errors import LockLost, Overloaded, RaftkvError, RevisionCompacted, printable
from raftkv.rpc.v1 import api_pb2, kv_pb2

WATCHED_AFTER_S: Final = 0.3
# Of the 10,000 that a server allows by default on a client's stream; the caller has the rest.
WATCHES_MAX: Final = 5_000
READS_PER_TURN_MAX: Final = 200
RETRY_S: Final = 1.0
REMOVED: Final = "its key was deleted or its lease was revoked by another client"


class QueueEntry(LossNotifier):
    """An entry in the queue of `name`: lost when `lease` is, or when its key is removed.

    Other entries share the lease; the removal of this key is no loss of theirs.
    """

    def __init__(self, name: bytes, key: bytes, token: int, lease: KeptLease) -> None:
        super().__init__(lease.loop)
        self.name = name
        self.key = key
        self.token = token
        self.lease = lease
        self.is_removed = False
        self._lease_callback = lease.add_loss_callback(self._report_loss)

    def remaining(self) -> float:
        """For how many seconds it can be trusted if no renewal succeeds; 0 once it is lost."""
        return 0.0 if self.is_removed else self.lease.remaining()

    def check(self, what: str = "") -> None:
        """Raise `LockLost`, as `error` makes it, if it can't be trusted now."""
        if not self.remaining():
            raise self.error(what)

    def error(self, what: str = "") -> LockLost:
        """The error of an owner that has lost it; `what` names that which depended on it."""
        what = what or str(self)
        if self.is_removed:
            return LockLost(loss_message(what, REMOVED), name=self.name, lease=self.lease.id)
        return self.lease.error(what)

    def on_removed(self) -> None:
        """Its key is gone before its owner has released it: a loss, unless it was lost before."""
        if self.remaining():
            self.is_removed = True
            self._report_loss()

    def remove_callbacks(self) -> None:
        """Its owner releases it: what happens from here on is no loss."""
        self.lease.remove_loss_callback(self._lease_callback)
        self._loss_callbacks.clear()

    def __str__(self) -> str:
        return f"the entry in the queue of {printable(self.name)}"


class EntryWatches:
    """Watches the keys of a client's queue entries.

    At most `WATCHES_MAX` are watched, or fewer if the server refuses more. Another entry depends on
    its lease alone: the deletion of its key is noticed at the release, a revocation of its lease at
    the next renewal.
    """

    def __init__(
        self, pipeline: Pipeline, stream: WatchConnection, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._pipeline = pipeline
        self._stream = stream
        self._loop = loop
        self._young: dict[QueueEntry, float] = {}  # when it was added, in that order
        self._timer: asyncio.TimerHandle | None = None
        # None: the key is being read, or will be.
        self._watches: dict[QueueEntry, _DeletionWatcher | None] = {}
        self._bound = WATCHES_MAX  # less where the server refuses them

    def add(self, entry: QueueEntry) -> None:
        """Call `QueueEntry.on_removed` once its key is gone, until `discard`."""
        self._young[entry] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(WATCHED_AFTER_S, self._watch_due)

    def discard(self, entry: QueueEntry) -> None:
        """Its owner releases it, or it is lost."""
        self._young.pop(entry, None)
        watch = self._watches.pop(entry, None)
        if watch is not None:
            self._stream.remove(watch)

    def _watch_due(self) -> None:
        """One timer for all: it is set for the oldest of the young entries."""
        self._timer = None
        now = self._loop.time()
        old = now - WATCHED_AFTER_S + TIMER_TOLERANCE_S
        is_full = len(self._watches) >= self._bound
        if is_full and self._bound < WATCHES_MAX:
            self._bound = len(self._watches) + 1  # the server may accept one more by now
        free = max(0, min(self._bound - len(self._watches), READS_PER_TURN_MAX))
        due = [entry for entry, since in islice(self._young.items(), free) if since <= old]
        for entry in due:
            del self._young[entry]
            self._watches[entry] = None
            self._read(entry)
        if self._young:
            oldest = next(iter(self._young.values()))
            at = now + RETRY_S if is_full else oldest + WATCHED_AFTER_S
            self._timer = self._loop.call_at(at, self._watch_due)

    def _read(self, entry: QueueEntry) -> None:
        """Check that its key is there, and from which revision on it has to be watched."""
        if entry not in self._watches:
            return
        left_s = entry.remaining()
        if not left_s:
            self.discard(entry)
            return
        piece = range_piece(kv_pb2.Range(key=entry.key, keys_only=True))
        queue = self._pipeline.reads(ReadLevel.SESSION)
        try:
            reading = self._pipeline.submit(queue, piece, range_reading, left_s)
        except RaftkvError:  # the client is closed, and its leases end
            self.discard(entry)
            return
        self._pipeline.unattended(reading)
        reading.add_done_callback(partial(self._on_read, entry))

    def _on_read(self, entry: QueueEntry, reading: asyncio.Future[RangeResult]) -> None:
        failed = reading.cancelled() or reading.exception() is not None
        if entry not in self._watches:
            return
        if failed:
            self._loop.call_later(RETRY_S, self._read, entry)
            return
        found = reading.result()
        if not any(kv.create_revision == entry.token for kv in found.kvs):
            self._on_removed(entry)
            return
        watch = self._watches[entry] = _DeletionWatcher(
            self._stream,
            entry.key,
            found.revision + 1,
            self._pipeline.saw,
            partial(self._on_removed, entry),
            partial(self._on_watch_end, entry),
        )
        try:
            self._stream.add(watch)
        except RaftkvError:  # as above
            self.discard(entry)

    def _on_removed(self, entry: QueueEntry) -> None:
        self.discard(entry)
        entry.on_removed()

    def _on_watch_end(self, entry: QueueEntry, error: RaftkvError) -> None:
        if entry not in self._watches:
            return
        if isinstance(error, Overloaded):
            del self._watches[entry]
            self._bound = len(self._watches)
            self.add(entry)
            return
        self._watches[entry] = None
        delay_s = 0.0 if isinstance(error, RevisionCompacted) else RETRY_S
        self._loop.call_later(delay_s, self._read, entry)


class _DeletionWatcher(WatchState):
    """Watches one key for its deletion. It has callbacks instead of a consumer and its task."""

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

    def deliver(self, batch: EventBatch) -> None:
        """The key was deleted: the watch asks for no other event."""
        self._on_deletion()

    def fail(self, error: RaftkvError) -> None:
        """The watch can't go on."""
        self._on_end(error)

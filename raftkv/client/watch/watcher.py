"""What a client keeps of one watch while it runs it: the request, how far it is, what has arrived.

Etcd's word for it. The consumer holds a `Watch`; nothing here refers to that, so a watch that its
consumer has dropped is collected.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from raftkv.client.connection.home import Home
from raftkv.client.model.results import EventKind, WatchEvent
from raftkv.errors import InvalidRequest, RaftkvError, printable
from raftkv.rpc.v1 import api_pb2


class EventBatch:
    """Events of whole revisions, shared by all the watches that they are for."""

    __slots__ = ("_growing", "events", "revision", "size_bytes")

    def __init__(self) -> None:
        self._growing: list[WatchEvent] = []
        self.events: tuple[WatchEvent, ...] = ()  # once it is sealed
        self.revision = 0  # everything up to here is in it or came before
        self.size_bytes = 0

    def add(self, events: Sequence[WatchEvent], revision: int) -> None:
        """Put more in. Not once it is sealed."""
        self._growing.extend(events)
        self.revision = revision
        self.size_bytes += sum(event.size_bytes for event in events)

    def seal(self) -> None:
        """That is all."""
        self.events = tuple(self._growing)
        self._growing = []


class WatchRunner(Protocol):
    """Who runs the watches of a client."""

    trouble: str
    """The last refusal since a node has served; empty: there was none."""
    home: Home
    """Where the watches are iterated."""

    @property
    def runs(self) -> bool:
        """Whether watches go on: neither their client is closed nor its loop at rest."""

    def resume(self, watcher: WatchState) -> None:
        """A watcher that was paused has handed everything out."""

    def remove(self, watcher: WatchState) -> None:
        """A watch is closed."""

    def remove_dropped(self, watcher: WatchState) -> None:
        """A watch was dropped by its consumer. Called on any thread."""


class WatchState:
    """One watch as a `WatchRunner` runs it."""

    def __init__(
        self,
        keeper: WatchRunner,
        request: api_pb2.WatchCreate,
        bytes_max: int,
        saw: Callable[[int], None],
    ) -> None:
        self.keeper = keeper
        self.saw = saw  # called with the revisions that the consumer gets to know
        self.received = request.start_revision - 1  # -1: where it starts is not known yet
        self.started = asyncio.Event()
        self.error: RaftkvError | None = None
        self.closed = False
        self.queue: deque[EventBatch] = deque()
        self.watch_id = 0
        self.paused = False
        self.open_parcel: tuple[int, ...] | None = None
        self._request = request
        self._bytes_max = bytes_max
        self._queue_bytes = 0
        # While a consumer waits, this future keeps the consumer's task alive, and that its `Watch`.
        self._waiter: asyncio.Future[None] | None = None

    def __str__(self) -> str:
        start, end = (printable(key) for key in (self._request.key, self._request.range_end))
        return f"the watch of {start} to {end}" if end else f"the watch of {start}"

    # ---- for its `Watch` -----------------------------------------------------------------

    async def next_parcel(self) -> EventBatch:
        """Take the next parcel with events, once there is one.

        Raises `StopAsyncIteration` once the watch is closed.
        """
        while not self.queue:
            if self.closed:
                raise StopAsyncIteration
            if self.error is not None:
                raise self.error
            if self._waiter is not None:
                raise InvalidRequest("two tasks iterate one watch; open one for each")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        parcel = self.queue.popleft()
        self._queue_bytes -= parcel.size_bytes
        self.saw(parcel.revision)
        if self.paused and not self.queue:
            self.keeper.resume(self)
        return parcel

    def close(self) -> None:
        """Receive no more."""
        self.closed = True
        self.keeper.remove(self)
        self.queue.clear()
        self._queue_bytes = 0
        self.started.set()
        self._wake()

    @property
    def goes_on(self) -> bool:
        """Whether it is neither closed nor at its end."""
        return not self.closed and self.error is None and self.keeper.runs

    # ---- for its keeper ------------------------------------------------------------------

    def request(self) -> api_pb2.WatchCreate:
        """What to ask of a node, from where it stopped."""
        self._request.watch_id = self.watch_id
        self._request.start_revision = self.received + 1
        return self._request

    @property
    def is_started(self) -> bool:
        return self.started.is_set()

    def start(self, revision: int) -> None:
        """A node hears it; everything up to `revision` is not its concern or has been told."""
        self.progress(revision)
        self.started.set()

    def progress(self, revision: int) -> bool:
        """Everything up to `revision` has arrived; whether that is news."""
        if revision <= self.received:
            return False
        self.received = revision
        self.saw(revision)  # the bookmark shows it
        return True

    def deliver(self, parcel: EventBatch) -> None:
        """Queue a parcel and wake the consumer."""
        self.queue.append(parcel)
        self._queue_bytes += parcel.size_bytes
        if parcel.revision > self.received:
            self.received = parcel.revision
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def tell_progress(self) -> None:
        """Hand out a notice of progress, if the consumer wants it."""
        if self._request.progress_notify:
            parcel = EventBatch()
            parcel.add([WatchEvent(EventKind.PROGRESS, self.received)], self.received)
            parcel.seal()
            self.deliver(parcel)

    @property
    def overfull(self) -> bool:
        """Whether the consumer is too slow for what arrives."""
        return self._queue_bytes > self._bytes_max and len(self.queue) > 1

    def fail(self, error: RaftkvError) -> None:
        """It can't go on: raised once everything that has arrived is handed out."""
        self.error = error
        self.started.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

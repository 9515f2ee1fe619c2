"""The state of one running watch: its request, its progress, and the events not yet consumed.

The consumer has a `Watch`. Nothing here refers to that, so a watch that its consumer has dropped is
collected.
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

    __slots__ = ("_open", "events", "revision", "size_bytes")

    def __init__(self) -> None:
        self._open: list[WatchEvent] = []
        self.events: tuple[WatchEvent, ...] = ()  # once it is sealed
        self.revision = 0  # everything up to here is in it or in an earlier batch
        self.size_bytes = 0

    def add(self, events: Sequence[WatchEvent], revision: int) -> None:
        """Add events; not allowed once it is sealed."""
        self._open.extend(events)
        self.revision = revision
        self.size_bytes += sum(event.size_bytes for event in events)

    def seal(self) -> None:
        """No more events will be added."""
        self.events = tuple(self._open)
        self._open = []


class WatchRunner(Protocol):
    """Runs the watches of a client."""

    trouble: str
    """The last refusal since a node has served; empty: there was none."""
    home: Home
    """The process and event loop in which the watches are iterated."""

    @property
    def runs(self) -> bool:
        """Whether watches go on: their client is open and its loop runs."""

    def resume(self, watch: WatchState) -> None:
        """The consumer of a paused watch has taken all its events: run it again."""

    def remove(self, watch: WatchState) -> None:
        """Run this watch no longer: it is closed."""

    def remove_dropped(self, watch: WatchState) -> None:
        """As `remove`, of a watch that its consumer has dropped. May be called on any thread."""


class WatchState:
    """One watch of a client, from when it is added to its runner until it is closed or fails."""

    def __init__(
        self,
        runner: WatchRunner,
        request: api_pb2.WatchCreate,
        bytes_max: int,
        saw: Callable[[int], None],
    ) -> None:
        self.runner = runner
        self.saw = saw  # called with each revision that the consumer sees
        self.received = request.start_revision - 1  # -1: the start is not known yet
        self.started = asyncio.Event()
        self.error: RaftkvError | None = None
        self.closed = False
        self.queue: deque[EventBatch] = deque()
        self.watch_id = 0
        self.paused = False
        self.open_batch: tuple[int, ...] | None = None  # its key in the dispatcher
        self._request = request
        self._bytes_max = bytes_max
        self._queue_bytes = 0
        # While a consumer waits, this future keeps its task alive, and the task keeps its `Watch`.
        self._waiter: asyncio.Future[None] | None = None

    def __str__(self) -> str:
        start, end = (printable(key) for key in (self._request.key, self._request.range_end))
        return f"the watch of {start} to {end}" if end else f"the watch of {start}"

    # ---- for its `Watch` -----------------------------------------------------------------

    async def next_batch(self) -> EventBatch:
        """Take the next batch of events, once there is one.

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
        batch = self.queue.popleft()
        self._queue_bytes -= batch.size_bytes
        self.saw(batch.revision)
        if self.paused and not self.queue:
            self.runner.resume(self)
        return batch

    def close(self) -> None:
        """End the watch: nothing more is received."""
        self.closed = True
        self.runner.remove(self)
        self.queue.clear()
        self._queue_bytes = 0
        self.started.set()
        self._wake()

    @property
    def goes_on(self) -> bool:
        """Whether it is neither closed nor at its end."""
        return not self.closed and self.error is None and self.runner.runs

    # ---- for its runner ------------------------------------------------------------------

    def request(self) -> api_pb2.WatchCreate:
        """The request to a node, from after the last event that was received."""
        self._request.watch_id = self.watch_id
        self._request.start_revision = self.received + 1
        return self._request

    @property
    def is_started(self) -> bool:
        return self.started.is_set()

    def start(self, revision: int) -> None:
        """A node runs the watch, and sends every event after `revision`."""
        self.progress(revision)
        self.started.set()

    def progress(self, revision: int) -> bool:
        """Everything up to `revision` has arrived; returns False if that was known."""
        if revision <= self.received:
            return False
        self.received = revision
        self.saw(revision)  # the bookmark shows it
        return True

    def deliver(self, batch: EventBatch) -> None:
        """Queue a batch and wake the consumer."""
        self.queue.append(batch)
        self._queue_bytes += batch.size_bytes
        if batch.revision > self.received:
            self.received = batch.revision
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def deliver_progress(self) -> None:
        """Deliver a progress notification, if the consumer asked for them."""
        if self._request.progress_notify:
            batch = EventBatch()
            batch.add([WatchEvent(EventKind.PROGRESS, self.received)], self.received)
            batch.seal()
            self.deliver(batch)

    @property
    def overfull(self) -> bool:
        """Whether the consumer is too slow for what arrives."""
        return self._queue_bytes > self._bytes_max and len(self.queue) > 1

    def fail(self, error: RaftkvError) -> None:
        """The watch can't go on: raised once all events that have arrived are consumed."""
        self.error = error
        self.started.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

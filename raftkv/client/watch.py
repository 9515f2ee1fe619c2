"""A watch as its consumer holds it: what has arrived, what was handed out. Knows no network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from raftkv.client.home import Home
from raftkv.client.watch_events import EventKind, WatchEvent
from raftkv.errors import DeadlineExceeded, InvalidRequest, RaftkvError
from raftkv.rpc import api_pb2


class Parcel:
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


class Keeper(Protocol):
    """Who runs the watches of a client."""

    trouble: str
    """The last refusal since a node has served; empty: there was none."""
    home: Home
    """Where the watches are iterated."""

    def resume(self, watch: Watch) -> None:
        """A watch that was paused has handed everything out."""

    def remove(self, watch: Watch) -> None:
        """A watch is closed."""


class _Batches:
    """Iterates a watch by batches. Not a generator: there may be a thousand of them at work."""

    def __init__(self, watch: Watch) -> None:
        self._next_batch = watch.next_batch

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Sequence[WatchEvent]]:
        return self._next_batch()


class Watch:
    """Changes of some keys, in order: `async for event in watch`.

    Ordered: revision by revision, as they were made. Unique: each once. Atomic: `batches()` never
    splits a revision. Reliable and resumable: when a node fails another one goes on where it
    stopped, until the watch is closed. Bookmarkable: `revision`.

        async with client.watch(prefix="jobs/") as watch:
            async for event in watch:
                ...

    Inside the block everything is told that is put from then on. A consumer that is too slow delays
    nobody else: what does not fit its buffer is read from the cluster's history later on.
    Iterating raises `RevisionCompacted` if that, or the start, is compacted, and `WrongCluster` if
    nobody of its cluster is left.

    It is told from what its node has applied: a node that is behind tells late, never wrongly. One
    that can't confirm with a majority for `watch_heartbeat_s` + `silence_s_max` (3 s) that it is
    not behind is left for another.
    """

    def __init__(
        self,
        keeper: Keeper,
        request: api_pb2.WatchCreate,
        bytes_max: int,
        start_timeout_s: float,
        saw: Callable[[int], None],
    ) -> None:
        self._keeper = keeper
        self._request = request
        self._bytes_max = bytes_max
        self._start_timeout_s = start_timeout_s
        self._saw = saw  # told of the revisions that the consumer gets to know
        self._received = request.start_revision - 1  # -1: where it starts is not known yet
        self._handed_out = max(0, self._received)
        self._started = asyncio.Event()
        self._error: RaftkvError | None = None
        self._closed = False
        self._queue: deque[Parcel] = deque()
        self._queue_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._events: Sequence[WatchEvent] = ()  # of the parcel that is being handed out
        self._position = 0
        self._end_revision = self._handed_out  # of that parcel
        # Of those who run it:
        self.watch_id = 0
        self.paused = False
        self.open_parcel: tuple[int, ...] | None = None

    # ---- for the consumer --------------------------------------------------------------

    async def started(self) -> None:
        """Wait until it is heard: changes made from now on will be told.

        Raises `DeadlineExceeded` after the client's timeout, and what iterating would raise.
        """
        self._keeper.home.check()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._started.wait()
        except TimeoutError:
            said = self._keeper.trouble
            why = f" (the last answer: {said})" if said else "; is there a majority?"
            raise DeadlineExceeded(
                f"no node took the watch within {self._start_timeout_s} s{why}"
            ) from None
        if self._error is not None:
            raise self._error

    @property
    def revision(self) -> int:
        """The bookmark: everything up to here was handed out; another watch goes on at + 1."""
        if self._position < len(self._events) or self._queue:
            return self._handed_out
        return max(self._handed_out, self._received)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        if self._position >= len(self._events):
            await self._next_parcel()
        events, position = self._events, self._position
        event = events[position]
        self._position = position = position + 1
        if position == len(events):
            self._handed_out = self._end_revision
        elif events[position].revision == event.revision:
            self._handed_out = event.revision - 1
        else:
            self._handed_out = event.revision
        return event

    def batches(self) -> AsyncIterator[Sequence[WatchEvent]]:
        """All events of one or more revisions at a time, as many as have gathered."""
        return _Batches(self)

    async def next_batch(self) -> Sequence[WatchEvent]:
        """The next of `batches`. Raises `StopAsyncIteration` once the watch is closed."""
        if self._position >= len(self._events):
            await self._next_parcel()
        events = self._events[self._position :] if self._position else self._events
        self._position = len(self._events)
        self._handed_out = self._end_revision
        return events

    async def close(self) -> None:
        """Hear no more; iterating ends. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._keeper.remove(self)
            self._forget()

    async def __aenter__(self) -> Self:
        try:
            await self.started()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _next_parcel(self) -> None:
        """Wait for a parcel with events and begin to hand it out."""
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            if self._waiter is not None:
                raise InvalidRequest("two tasks iterate one watch; open one for each")
            self._keeper.home.check()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        parcel = self._queue.popleft()
        self._queue_bytes -= parcel.size_bytes
        self._events, self._position = parcel.events, 0
        self._end_revision = parcel.revision
        self._saw(parcel.revision)
        if self.paused and not self._queue:
            self._keeper.resume(self)

    # ---- for those who run it ----------------------------------------------------------

    def request(self) -> api_pb2.WatchCreate:
        """What to ask of a node, from where it stopped."""
        self._request.watch_id = self.watch_id
        self._request.start_revision = self._received + 1
        return self._request

    @property
    def is_started(self) -> bool:
        return self._started.is_set()

    def start(self, revision: int) -> None:
        """A node hears it; everything up to `revision` is not its concern or has been told."""
        self.progress(revision)
        self._started.set()

    def progress(self, revision: int) -> bool:
        """Everything up to `revision` has arrived; whether that is news."""
        if revision <= self._received:
            return False
        self._received = revision
        self._saw(revision)  # the bookmark shows it
        return True

    def deliver(self, parcel: Parcel) -> None:
        """Queue a parcel and wake the consumer."""
        self._queue.append(parcel)
        self._queue_bytes += parcel.size_bytes
        if parcel.revision > self._received:
            self._received = parcel.revision
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def tell_progress(self) -> None:
        """Hand out a notice of progress, if the consumer wants it."""
        if self._request.progress_notify:
            parcel = Parcel()
            parcel.add([WatchEvent(EventKind.PROGRESS, self._received)], self._received)
            parcel.seal()
            self.deliver(parcel)

    @property
    def overfull(self) -> bool:
        """Whether the consumer is too slow for what arrives."""
        return self._queue_bytes > self._bytes_max and len(self._queue) > 1

    def fail(self, error: RaftkvError) -> None:
        """It can't go on: raised once everything that has arrived is handed out."""
        self._error = error
        self._started.set()
        self._wake()

    def _forget(self) -> None:
        self._queue.clear()
        self._queue_bytes = 0
        self._events, self._position = (), 0
        self._started.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

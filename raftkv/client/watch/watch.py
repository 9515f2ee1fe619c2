"""A watch as its consumer uses it: iterated, bookmarked, closed."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from raftkv.client.model.results import WatchEvent
from raftkv.client.watch.watcher import WatchState
from raftkv.errors import DeadlineExceeded


class _Batches:
    """Iterates a watch by batches. Not a generator, which would cost more per batch."""

    def __init__(self, watch: Watch) -> None:
        self._next_batch = watch.next_batch

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Sequence[WatchEvent]]:
        return self._next_batch()


class Watch:
    """Changes of some keys, in order: `async for event in watch`.

        async with client.watch(prefix="jobs/") as watch:
            async for event in watch:
                ...

    Events come revision by revision, in the order of the changes, each once. `batches()` never
    splits a revision. When a node fails, another one goes on where it stopped, until the watch is
    closed. `revision` is the bookmark at which another watch may go on.

    Within the block every change is delivered that is made from then on. A slow consumer delays no
    other watch: events beyond its buffer (4 MiB) are read from the cluster's history later.
    Iterating raises `RevisionCompacted` if that history, or the start, is compacted, and
    `WrongCluster` if no node of its cluster answers.

    A node delivers what it has applied. A lagging node delivers events late, but never wrong or out
    of order. A node that can't confirm with a majority for `watch_heartbeat_s` + `silence_s_max` (3
    s) that it is not behind is replaced by another one.
    """

    def __init__(self, state: WatchState, start_timeout_s: float, client: object) -> None:
        self._client = client  # a watch keeps its client alive
        self._state = state
        self._start_timeout_s = start_timeout_s
        self._events: Sequence[WatchEvent] = ()  # of the batch that is being handed out
        self._position = 0
        self._end_revision = self._handed_out = max(0, state.received)  # of that batch

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        state = self._state
        if state.goes_on:
            state.runner.remove_dropped(state)
            warn(
                f"{state} was dropped without being closed, and its events from then on are lost;"
                " write `async with client.watch(...) as watch`, or close it",
                ResourceWarning,
                source=self,
            )

    async def started(self) -> None:
        """Wait until a node has the watch: changes made from now on will be delivered.

        Raises `DeadlineExceeded` after the client's timeout, and what iterating would raise.
        """
        self._state.runner.home.check()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._state.started.wait()
        except TimeoutError:
            trouble = self._state.runner.trouble
            why = f" (the last answer: {trouble})" if trouble else "; is there a majority?"
            raise DeadlineExceeded(
                f"no node took the watch within {self._start_timeout_s} s{why}"
            ) from None
        if self._state.error is not None:
            raise self._state.error

    @property
    def revision(self) -> int:
        """The bookmark: every event up to this revision was handed out; another watch goes on at +
        1.
        """
        if self._position < len(self._events) or self._state.queue:
            return self._handed_out
        return max(self._handed_out, self._state.received)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        if self._position >= len(self._events):
            await self._next_events()
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
        """All events of one or more whole revisions at a time, as many as have arrived."""
        return _Batches(self)

    async def next_batch(self) -> Sequence[WatchEvent]:
        """The next of `batches`. Raises `StopAsyncIteration` once the watch is closed."""
        if self._position >= len(self._events):
            await self._next_events()
        events = self._events[self._position :] if self._position else self._events
        self._position = len(self._events)
        self._handed_out = self._end_revision
        return events

    async def close(self) -> None:
        """Receive no more events; iterating ends. Calling it again does nothing."""
        if not self._state.closed:
            self._state.close()
            self._events, self._position = (), 0

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

    async def _next_events(self) -> None:
        """Wait for a batch of events and begin to hand it out."""
        self._state.runner.home.check()
        batch = await self._state.next_batch()
        self._events, self._position = batch.events, 0
        self._end_revision = batch.revision

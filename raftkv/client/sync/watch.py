"""The synchronous twin of a watch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from raftkv.client.model.results import WatchEvent
from raftkv.client.sync.portal import shared_portal
from raftkv.client.watch.watch import Watch


class SyncWatch:
    """Changes of some keys, in order: `for event in watch`. See `Watch` for what it promises.

    One thread iterates it; another one may close it, which ends the iteration.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._portal = shared_portal()
        self._given_back: deque[WatchEvent] = deque()  # by a thread that was interrupted

    def __enter__(self) -> Self:
        try:
            self.started()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def started(self) -> None:
        """Wait until it is heard: changes made from now on will be told.

        Raises `DeadlineExceeded` after the client's timeout, and what iterating would raise.
        """
        self._portal.call(self._watch.started)

    @property
    def revision(self) -> int:
        """The bookmark: everything up to here was handed out; another watch goes on at + 1."""
        return self._portal.call(self._bookmark)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> WatchEvent:
        event = self._portal.take(self._give_back, self._next)
        if event is None:
            raise StopIteration
        return event

    def batches(self) -> Iterator[Sequence[WatchEvent]]:
        """All events of one or more revisions at a time, as many as have gathered."""
        while batch := self._portal.take(self._give_back_batch, self._next_batch):
            yield batch

    def close(self) -> None:
        """Hear no more; iterating ends. Calling it again does nothing."""
        self._portal.close(self._watch.close)

    @property
    def asynchronous(self) -> Watch:
        """What does the work, on the portal's loop."""
        return self._watch

    async def _bookmark(self) -> int:
        # On the loop: another thread may find the queue empty, and what arrives then counted in.
        if self._given_back:
            return self._given_back[0].revision - 1
        return self._watch.revision

    async def _next(self) -> WatchEvent | None:
        if self._given_back:
            return self._given_back.popleft()
        # A coroutine that raises StopAsyncIteration can't hand it to a thread.
        return await anext(self._watch, None)

    def _give_back(self, event: WatchEvent | None) -> None:
        if event is not None:
            self._given_back.appendleft(event)

    def _give_back_batch(self, batch: Sequence[WatchEvent]) -> None:
        self._given_back.extendleft(reversed(batch))

    async def _next_batch(self) -> Sequence[WatchEvent]:
        if self._given_back:
            batch = tuple(self._given_back)
            self._given_back.clear()
            return batch
        try:
            return await self._watch.next_batch()
        except StopAsyncIteration:
            return ()

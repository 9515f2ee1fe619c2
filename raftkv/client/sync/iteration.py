"""The hand-written half of the twins that are iterated: an interruption loses no element."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from types import TracebackType
from typing import Self

from raftkv.client.api.paging import PagedDeletion, Scan
from raftkv.client.coordination.election import Election, LeaderInfo
from raftkv.client.model.results import DeleteResult, KeyValue, RangeResult, WatchEvent
from raftkv.client.sync.base import Twin
from raftkv.client.sync.portal import Portal
from raftkv.client.watch.watch import Watch


class ScanTwin(Twin[Scan]):
    """Iterates the keys of a scan. Pages cross to the portal's thread, not single keys."""

    def __init__(self, scan: Scan) -> None:
        super().__init__(scan)
        self._page: Sequence[KeyValue] = ()
        self._position = 0  # on the page
        self._given_back: list[RangeResult] = []  # by a thread that was interrupted

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> KeyValue:
        while self._position >= len(self._page):
            page = self._take_page()
            if page is None:
                raise StopIteration
            self._page, self._position = page.kvs, 0
        position = self._position
        self._position = position + 1
        return self._page[position]

    def _take_page(self) -> RangeResult | None:
        return self._portal.take(self._give_back, self._next_page)

    async def _next_page(self) -> RangeResult | None:
        if self._given_back:
            return self._given_back.pop()
        return await self._asynchronous.next_page()

    def _give_back(self, page: RangeResult | None) -> None:
        if page is not None:
            self._given_back.append(page)


class PagedDeletionTwin(Twin[PagedDeletion]):
    """Iterates a deletion page by page."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> DeleteResult:
        page = self._portal.call(self._next)
        if page is None:
            raise StopIteration
        return page

    async def _next(self) -> DeleteResult | None:
        # A coroutine that raises StopAsyncIteration can't hand it to a thread.
        return await anext(self._asynchronous, None)


class WatchTwin(Twin[Watch]):
    """Iterates a watch. Another thread may close it, which ends the iteration."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._given_back: deque[WatchEvent] = deque()  # by a thread that was interrupted

    def __enter__(self) -> Self:
        try:
            self._portal.call(self._asynchronous.started)
        except BaseException:
            self._portal.close(self._asynchronous.close)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.close(self._asynchronous.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> WatchEvent:
        event = self._portal.take(self._give_back, self._next)
        if event is None:
            raise StopIteration
        return event

    def _batches(self) -> Iterator[Sequence[WatchEvent]]:
        while batch := self._portal.take(self._give_back_batch, self._next_batch):
            yield batch

    async def _bookmark(self) -> int:
        # On the loop: another thread may find the queue empty, and what arrives then counted in.
        if self._given_back:
            return self._given_back[0].revision - 1
        return self._asynchronous.revision

    async def _next(self) -> WatchEvent | None:
        if self._given_back:
            return self._given_back.popleft()
        # A coroutine that raises StopAsyncIteration can't hand it to a thread.
        return await anext(self._asynchronous, None)

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
            return await self._asynchronous.next_batch()
        except StopAsyncIteration:
            return ()


def iterate_leaders(portal: Portal, election: Election) -> Iterator[LeaderInfo | None]:
    """The leaders of `election.observe()`, on a thread."""
    leaders = _Leaders(election.observe())
    try:
        while True:
            try:
                yield portal.call(leaders.next)
            except StopAsyncIteration:
                return
    finally:
        portal.finish_later(leaders.close)  # garbage collection may end it, on any thread


class _Leaders:
    """A generator that is closed only after an interrupted `next` has ended."""

    def __init__(self, leaders: AsyncGenerator[LeaderInfo | None, None]) -> None:
        self._leaders = leaders
        self._in_use = asyncio.Lock()

    async def next(self) -> LeaderInfo | None:
        async with self._in_use:
            return await anext(self._leaders)

    async def close(self) -> None:
        async with self._in_use:
            await self._leaders.aclose()

"""The synchronous twins of a scan and of a deletion in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from raftkv.client.api.paging import PagedDeletion, Scan
from raftkv.client.model.results import DeleteResult, KeyValue, RangeResult
from raftkv.client.sync.portal import shared_portal, twin_of


class SyncScan:
    """The keys of a range in order, all as they were at one revision: `for kv in scan`.

    See `Scan` for what it promises. One thread iterates it.
    """

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._page: Sequence[KeyValue] = ()
        self._position = 0  # on the page
        self._given_back: list[RangeResult] = []
        self._portal = shared_portal()

    @property
    def revision(self) -> int:
        """The revision that it shows; 0 while that is not known, before the first page."""
        return self._scan.revision

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> KeyValue:
        # A page at a time crosses to the portal's thread, not a key.
        while self._position >= len(self._page):
            page = self.next_page()
            if page is None:
                raise StopIteration
            self._page, self._position = page.kvs, 0
        position = self._position
        self._position = position + 1
        return self._page[position]

    @twin_of(Scan.next_page)
    def next_page(self) -> RangeResult | None:
        return self._portal.take(self._give_back, self._next_page)

    @twin_of(Scan.count)
    def count(self) -> int:
        return self._portal.call(self._scan.count)

    async def _next_page(self) -> RangeResult | None:
        return self._given_back.pop() if self._given_back else await self._scan.next_page()

    def _give_back(self, page: RangeResult | None) -> None:
        if page is not None:
            self._given_back.append(page)


class SyncPagedDeletion:
    """Deletes a page with each iteration, in the order of the keys: `for page in deletion`.

    See `PagedDeletion` for what it promises. One thread iterates it.
    """

    def __init__(self, deletion: PagedDeletion) -> None:
        self._deletion = deletion
        self._portal = shared_portal()

    @property
    def deleted(self) -> int:
        """How many keys are certainly gone."""
        return self._deletion.deleted

    @property
    def pages(self) -> int:
        """How many pages they were, each of at least one key."""
        return self._deletion.pages

    @property
    def first_revision(self) -> int:
        """That of the first page; 0: nothing is deleted yet."""
        return self._deletion.first_revision

    @property
    def last_revision(self) -> int:
        """That of the last page."""
        return self._deletion.last_revision

    @property
    def complete(self) -> bool:
        """Whether the whole range is deleted."""
        return self._deletion.complete

    @property
    def outcome_unknown(self) -> bool:
        """Whether one more page may be gone: no answer came."""
        return self._deletion.outcome_unknown

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> DeleteResult:
        page = self._portal.call(self._next)
        if page is None:
            raise StopIteration
        return page

    @twin_of(PagedDeletion.finish)
    def finish(self) -> Self:
        self._portal.call(self._deletion.finish)
        return self

    async def _next(self) -> DeleteResult | None:
        # A coroutine that raises StopAsyncIteration can't hand it to a thread.
        return await anext(self._deletion, None)

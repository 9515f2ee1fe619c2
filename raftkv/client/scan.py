"""A walk through a range of any size, that holds one page of it at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Self

from raftkv.client.paging import Pages
from raftkv.client.results import KeyValue, RangeResult

SCAN_PAGE_KEYS: Final = 1_000
"""Larger pages were no faster: measured, 13 to 17 µs a key with 1,000, 4,000 and 10,000."""


class Scan:
    """The keys of a range in order, all as they were at one revision: `async for kv in scan`.

    An error skips nothing: whoever goes on iterating gets the page that it has cut off. Raises
    `RevisionCompacted` once the revision is compacted; another scan then has to begin.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._page: Iterator[KeyValue] = iter(())

    @property
    def revision(self) -> int:
        """The revision that it shows; 0 while that is not known, before the first page."""
        return self._pages.revision

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> KeyValue:
        while (kv := next(self._page, None)) is None:
            page = await self.next_page()
            if page is None:
                raise StopAsyncIteration
            self._page = iter(page.kvs)
        return kv

    async def next_page(self) -> RangeResult | None:
        """A whole page at once, None after the last.

        It may have no keys; `count` is of this page. With its `next_key` and the scan's `revision`
        another scan, elsewhere or later, goes on behind it.
        """
        return await self._pages.next() if self._pages.more else None

    async def count(self) -> int:
        """How many keys are on the pages that are left; they are counted where they are.

        After an error it goes on with the page that was cut off, and counts from there.
        """
        return await self._pages.count()

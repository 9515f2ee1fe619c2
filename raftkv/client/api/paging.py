"""The pages of a range: read as a whole, scanned key by key, or deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final, Self

from raftkv.client.model.op import Sort
from raftkv.client.model.results import DeleteResult, KeyValue, RangeResult
from raftkv.errors import (
    DeadlineExceeded,
    Outcome,
    RaftkvError,
    RevisionCompacted,
    TooLarge,
    TooManyKeys,
)
from raftkv.rpc.v1 import kv_pb2

ReadPage = Callable[[kv_pb2.Range], Awaitable[RangeResult]]

SCAN_PAGE_KEYS: Final = 1_000
"""Larger pages were no faster: measured, 13 to 17 µs a key with 1,000, 4,000 and 10,000."""

DELETE_PAGE_KEYS: Final = 10_000
"""The most keys that the store deletes in one revision; of a larger page it deletes these only."""

SORTED_MIN: Final = 1_000
"""Beyond twice the limit, so many keys are read before they are sorted and cut."""

_SORT_KEYS: dict[Sort, Callable[[KeyValue], int | bytes]] = {
    Sort.KEY: lambda kv: kv.key,
    Sort.VERSION: lambda kv: kv.version,
    Sort.CREATE_REVISION: lambda kv: kv.create_revision,
    Sort.MOD_REVISION: lambda kv: kv.mod_revision,
    Sort.VALUE: lambda kv: kv.value,
}


class Pages:
    """The pages of a range, in the order of its keys. After an error the same page is read again.

    All are of one revision: that of the request, or else that of `first`, the first page.
    """

    def __init__(self, read_page: ReadPage, message: kv_pb2.Range, page_keys: int) -> None:
        self.first: RangeResult | None = None
        self.more = True
        self.keys = 0  # on the pages so far
        self._read_page = read_page
        self._page_keys = page_keys
        self._request = kv_pb2.Range()
        self._request.CopyFrom(message)
        self._request.page = True
        for field in ("sort_order", "sort_target"):
            self._request.ClearField(field)

    @property
    def revision(self) -> int:
        """The revision that all pages show; 0 while it is not known."""
        return self._request.revision

    async def next(self, keys_max: int = 0) -> RangeResult:
        """The next page, of at most `keys_max` keys (0: as many as a page has).

        A page may have no keys although `more` is true, as a node scans a limited number of keys.
        """
        while True:
            self._request.limit = min(keys_max or self._page_keys, self._page_keys)
            try:
                return await self._next()
            except TooLarge:
                if self._page_keys == 1:
                    raise
                self._page_keys = max(1, self._page_keys // 2)

    async def count(self) -> int:
        """How many keys there are on the pages that are left."""
        self._request.count_only = True
        self._request.limit = 0
        keys_before = self.keys
        while self.more:
            await self._next()
        return self.keys - keys_before

    async def _next(self) -> RangeResult:
        page = await self._read_page(self._request)
        self.first = self.first or page
        self.keys += page.count
        self.more = page.more
        self._request.key = page.next_key
        self._request.revision = self._request.revision or page.revision
        return page


async def read_range(
    read_page: ReadPage, message: kv_pb2.Range, sort: Sort, descending: bool, page_keys_max: int
) -> RangeResult:
    """The whole range in one reply if it is small enough for that, else joined from its pages.

    `read_page` raises when the caller's time is up, which bounds the number of pages.
    """
    with suppress(TooLarge, TooManyKeys):
        return await read_page(message)
    # The order by value needs the values, also if the caller wants the keys only.
    hidden_values = sort is Sort.VALUE and message.keys_only
    request = _with_values(message) if hidden_values else message
    while True:
        pages = Pages(read_page, request, page_keys_max)
        try:
            found = await _read_pages(pages, request, sort, descending)
        except RevisionCompacted:
            if message.revision:
                raise
            # The revision of the pages was compacted meanwhile: begin again at a new one.
        except DeadlineExceeded as error:
            if not pages.keys:
                raise
            raise DeadlineExceeded(
                f"{pages.keys} keys were read in time, and the range has more; give it a longer"
                " timeout, or scan it"
            ) from error
        else:
            if hidden_values:
                found = replace(found, kvs=tuple(replace(kv, value=b"") for kv in found.kvs))
            return found


async def _read_pages(
    pages: Pages, message: kv_pb2.Range, sort: Sort, descending: bool
) -> RangeResult:
    if message.count_only:
        kvs = []
    elif sort is Sort.KEY and not descending:
        kvs = await _in_natural_order(pages, message.limit)
    else:
        kvs = await _sorted(pages, sort, descending, message.limit)
    # The count of the whole range is promised; it costs less than reading beyond the limit.
    await pages.count()
    assert pages.first is not None
    more = not message.count_only and 0 < message.limit < pages.keys
    return replace(pages.first, kvs=tuple(kvs), count=pages.keys, more=more, next_key=b"")


async def _in_natural_order(pages: Pages, limit: int) -> list[KeyValue]:
    kvs: list[KeyValue] = []
    while pages.more and not (limit and len(kvs) >= limit):
        kvs.extend((await pages.next(limit - len(kvs) if limit else 0)).kvs)
    return kvs


async def _sorted(pages: Pages, sort: Sort, descending: bool, limit: int) -> list[KeyValue]:
    """The first `limit` (0: all) in this order."""
    kvs: list[KeyValue] = []
    while pages.more:
        kvs.extend((await pages.next()).kvs)
        if not pages.more or (limit and len(kvs) > 2 * limit + SORTED_MIN):
            kvs.sort(key=_SORT_KEYS[sort], reverse=descending)
            del kvs[limit or len(kvs) :]
    return kvs


def _with_values(message: kv_pb2.Range) -> kv_pb2.Range:
    whole = kv_pb2.Range()
    whole.CopyFrom(message)
    whole.keys_only = False
    return whole


class Scan:
    """The keys of a range in order, all as they were at one revision: `async for kv in scan`.

    After an error, iterating goes on with the page that was cut off, so no key is left out. Raises
    `RevisionCompacted` once the revision is compacted; a new scan has to begin then.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._page: Iterator[KeyValue] = iter(())

    @property
    def revision(self) -> int:
        """The revision of all pages; 0 before the first page, unless it was given."""
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
        """The next page, None after the last.

        A page may have no keys; its `count` is that of the page. Its `next_key` and the scan's
        `revision` are where another scan, elsewhere or later, goes on. Costs one read. Raises what
        `range` does.
        """
        return await self._pages.next() if self._pages.more else None

    async def count(self) -> int:
        """How many keys are on the pages that are left. The nodes count them, and send no keys.

        After an error it goes on with the page that was cut off, and counts from there. Costs one
        read for each page that is left. Raises what `range` does.
        """
        return await self._pages.count()


class PagedDeletion:
    """Deletes a page with each iteration, in the order of the keys: `async for page in deletion`.

    Each page is one revision, and applied once at most. An error or a cancellation leaves the
    earlier pages deleted. The numbers count what is certainly gone. To go on iterating deletes the
    rest.
    """

    deleted: int
    """How many keys are certainly gone."""

    pages: int
    """How many pages were deleted, each of at least one key."""

    first_revision: int
    """The revision of the first page; 0: nothing is deleted yet."""

    last_revision: int
    """The revision of the last page; 0: no page was asked for yet."""

    complete: bool
    """Whether the whole range is deleted."""

    outcome_unknown: bool
    """Whether one more page may be gone, because no answer came."""

    def __init__(self, delete_page: Callable[[], Awaitable[DeleteResult]]) -> None:
        self.deleted = 0
        self.pages = 0
        self.first_revision = 0
        self.last_revision = 0
        self.complete = False
        self.outcome_unknown = False
        self._delete_page = delete_page

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DeleteResult:
        if self.complete:
            raise StopAsyncIteration
        unknown_before = self.outcome_unknown
        self.outcome_unknown = True  # until there is an answer; a cancellation may come first
        try:
            page = await self._delete_page()
        except RaftkvError as error:
            self.outcome_unknown = unknown_before or error.outcome is Outcome.MAYBE_APPLIED
            raise
        self.outcome_unknown = unknown_before
        self.complete = not page.more
        if page.deleted:
            self.deleted += page.deleted
            self.pages += 1
            self.first_revision = self.first_revision or page.revision
        self.last_revision = page.revision
        return page

    async def finish(self) -> Self:
        """Delete all that is left; returns itself, for its numbers. Raises what `delete_range`
        does.
        """
        async for _ in self:
            pass
        return self

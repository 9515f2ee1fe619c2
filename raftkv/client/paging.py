"""Reads a range in as many pages as it takes, all of them at the revision of the first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from raftkv.client.op import Sort
from raftkv.client.results import KeyValue, RangeResult
from raftkv.errors import RevisionCompacted, TooLarge, TooManyKeys
from raftkv.rpc import kv_pb2

ReadPage = Callable[[kv_pb2.Range], Awaitable[RangeResult]]

_SORT_KEYS: dict[Sort, Callable[[KeyValue], int | bytes]] = {
    Sort.KEY: lambda kv: kv.key,
    Sort.VERSION: lambda kv: kv.version,
    Sort.CREATE_REVISION: lambda kv: kv.create_revision,
    Sort.MOD_REVISION: lambda kv: kv.mod_revision,
    Sort.VALUE: lambda kv: kv.value,
}


SORTED_MIN: Final = 1_000
"""Beyond twice the limit, so many keys are gathered before they are sorted and cut."""


class Pages:
    """The pages of a range, in the order of its keys. One that failed is asked for again.

    All are from one revision: that which is asked for, or that of `first`, the first page.
    """

    def __init__(self, read_page: ReadPage, message: kv_pb2.Range, page_keys: int) -> None:
        self.first: RangeResult | None = None
        self.more = True
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

        It may have none although there are more: then so many rows were looked at.
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
        counted = 0
        while self.more:
            counted += (await self._next()).count
        return counted

    async def _next(self) -> RangeResult:
        page = await self._read_page(self._request)
        self.first = self.first or page
        self.more = page.more
        self._request.key = page.next_key
        self._request.revision = self._request.revision or page.revision
        return page


async def read_range(
    read_page: ReadPage, message: kv_pb2.Range, sort: Sort, descending: bool, page_keys_max: int
) -> RangeResult:
    """The whole range in one reply if it is small enough for that, else put together from pages.

    `read_page` raises when the caller's time is up, which bounds the number of pages.
    """
    try:
        return await read_page(message)
    except (TooLarge, TooManyKeys):
        while True:
            try:
                return await _read_pages(read_page, message, sort, descending, page_keys_max)
            except RevisionCompacted:
                if message.revision:
                    raise
                # The revision that the pages were pinned to was compacted meanwhile: start afresh.


async def _read_pages(
    read_page: ReadPage, message: kv_pb2.Range, sort: Sort, descending: bool, page_keys_max: int
) -> RangeResult:
    # An order by values that nobody wants to see: only the values tell it.
    hidden_values = sort is Sort.VALUE and message.keys_only
    if hidden_values:
        message = _with_values(message)
    pages = Pages(read_page, message, page_keys_max)
    if message.count_only:
        kvs, count = [], await pages.count()
    elif sort is Sort.KEY and not descending:
        kvs = await _in_natural_order(pages, message.limit)
        # Promised is the count of the whole range, and it costs less than reading all of it.
        count = len(kvs) + await pages.count()
    else:
        kvs, count = await _sorted(pages, sort, descending, message.limit)
    if hidden_values:
        kvs = [replace(kv, value=b"") for kv in kvs]
    assert pages.first is not None
    more = bool(message.limit) and not message.count_only and count > message.limit
    return replace(pages.first, kvs=tuple(kvs), count=count, more=more, next_key=b"")


async def _in_natural_order(pages: Pages, limit: int) -> list[KeyValue]:
    kvs: list[KeyValue] = []
    while pages.more and not (limit and len(kvs) >= limit):
        kvs.extend((await pages.next(limit - len(kvs) if limit else 0)).kvs)
    return kvs


async def _sorted(
    pages: Pages, sort: Sort, descending: bool, limit: int
) -> tuple[list[KeyValue], int]:
    """The first `limit` (0: all) in this order, and how many there are in all."""
    kvs: list[KeyValue] = []
    count = 0
    while pages.more:
        page = await pages.next()
        count += page.count
        kvs.extend(page.kvs)
        if not pages.more or (limit and len(kvs) > 2 * limit + SORTED_MIN):
            kvs.sort(key=_SORT_KEYS[sort], reverse=descending)
            del kvs[limit or count :]
    return kvs, count


def _with_values(message: kv_pb2.Range) -> kv_pb2.Range:
    whole = kv_pb2.Range()
    whole.CopyFrom(message)
    whole.keys_only = False
    return whole

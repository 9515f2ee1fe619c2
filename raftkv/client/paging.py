"""Reads a range in as many pages as it takes, all of them at the revision of the first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from raftkv.client.op import Sort
from raftkv.client.results import KeyValue, RangeResult
from raftkv.errors import DeadlineExceeded, RevisionCompacted, TooLarge, TooManyKeys
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
    """The whole range in one reply if it is small enough for that, else put together from pages.

    `read_page` raises when the caller's time is up, which bounds the number of pages.
    """
    with suppress(TooLarge, TooManyKeys):
        return await read_page(message)
    # An order by values that nobody wants to see: only the values tell it.
    hidden_values = sort is Sort.VALUE and message.keys_only
    request = _with_values(message) if hidden_values else message
    while True:
        pages = Pages(read_page, request, page_keys_max)
        try:
            found = await _read_pages(pages, request, sort, descending)
        except RevisionCompacted:
            if message.revision:
                raise
            # The revision that the pages were pinned to was compacted meanwhile: start afresh.
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
    # Promised is the count of the whole range; it costs less than reading what the limit cuts off.
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

"""Reads a range in as many pages as it takes, all of them at the revision of the first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from raftkv.client.op import Sort
from raftkv.client.results import KeyValue, RangeResult
from raftkv.errors import RevisionCompacted, TooLarge
from raftkv.rpc import kv_pb2

ReadPage = Callable[[kv_pb2.Range], Awaitable[RangeResult]]

_SORT_KEYS: dict[Sort, Callable[[KeyValue], int | bytes]] = {
    Sort.KEY: lambda kv: kv.key,
    Sort.VERSION: lambda kv: kv.version,
    Sort.CREATE_REVISION: lambda kv: kv.create_revision,
    Sort.MOD_REVISION: lambda kv: kv.mod_revision,
    Sort.VALUE: lambda kv: kv.value,
}


async def read_range(
    read_page: ReadPage, message: kv_pb2.Range, sort: Sort, descending: bool, page_keys_max: int
) -> RangeResult:
    """The whole range in one reply if it fits, else put together from pages.

    `read_page` raises when the caller's time is up, which bounds the number of pages.
    """
    while True:
        try:
            return await _read_once(read_page, message, sort, descending, page_keys_max)
        except RevisionCompacted:
            if message.revision:
                raise
            # The revision that the pages were pinned to was compacted meanwhile: start afresh.


async def _read_once(
    read_page: ReadPage, message: kv_pb2.Range, sort: Sort, descending: bool, page_keys_max: int
) -> RangeResult:
    page_keys = page_keys_max
    try:
        first = await read_page(message)
        if not first.more or (message.limit and len(first.kvs) >= message.limit):
            return first
        page_keys = len(first.kvs) or page_keys_max
    except TooLarge:
        first = None
    if sort is not Sort.KEY or descending:
        whole = kv_pb2.Range()
        whole.CopyFrom(message)
        whole.ClearField("limit")
        whole.ClearField("sort_order")
        whole.ClearField("sort_target")
        return _sorted(
            await _read_pages(read_page, whole, page_keys, None), sort, descending, message.limit
        )
    return await _read_pages(read_page, message, page_keys, first)


async def _read_pages(
    read_page: ReadPage, message: kv_pb2.Range, page_keys: int, first: RangeResult | None
) -> RangeResult:
    """Pages in the order of the keys, halved when one is still too large for a reply."""
    kvs: list[KeyValue] = []
    page = first
    request = kv_pb2.Range()
    request.CopyFrom(message)
    while True:
        if page is not None:
            first = first or page
            kvs.extend(page.kvs)
            full = bool(message.limit) and len(kvs) >= message.limit
            if full or not page.more or not page.kvs:
                return replace(first, kvs=tuple(kvs), more=page.more)
            request.revision = first.revision
            request.key = kvs[-1].key + b"\x00"
        left = message.limit - len(kvs) if message.limit else page_keys
        request.limit = min(left, page_keys)
        try:
            page = await read_page(request)
        except TooLarge:
            if page_keys == 1:
                raise
            page, page_keys = None, max(1, page_keys // 2)


def _sorted(whole: RangeResult, sort: Sort, descending: bool, limit: int) -> RangeResult:
    kvs = sorted(whole.kvs, key=_SORT_KEYS[sort], reverse=descending)
    cut = bool(limit) and len(kvs) > limit
    return replace(whole, kvs=tuple(kvs[:limit] if cut else kvs), more=cut)

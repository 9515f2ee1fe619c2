"""Ranges of any size: read and deleted page by page."""

from __future__ import annotations

from functools import partial

from raftkv.arguments import to_int64
from raftkv.client import requests
from raftkv.client.api.kv import KvMethods
from raftkv.client.api.paging import DELETE_PAGE_KEYS, SCAN_PAGE_KEYS, PagedDeletion, Pages, Scan
from raftkv.client.model.op import Sort
from raftkv.client.model.read_levels import Level, ReadLevel, to_level
from raftkv.client.requests import Fences, deletion_bounds, range_bounds, set_fences, to_key
from raftkv.rpc.v1 import kv_pb2


class PagedMethods(KvMethods):
    """What neither fits into a reply nor into a revision. `timeout` is that of each page."""

    def scan(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        revision: int = 0,
        keys_only: bool = False,
        page_keys: int = SCAN_PAGE_KEYS,
        level: Level = ReadLevel.LINEARIZABLE,
        timeout: float | None = None,
    ) -> Scan:
        """The keys from `start` up to and without `end`, or those that begin with `prefix`, in
        order and one at a time.

            async for kv in client.scan("logs/", "logs0"):
                print(kv.key)

        All are from one revision, that of the first page unless `revision` is given; only the
        first page is read at `level`. No more than `page_keys` are held at a time.
        """
        start, end = range_bounds(start, end, prefix)
        message = requests.range_message(
            self._settings,
            start,
            end,
            limit=0,
            revision=revision,
            sort=Sort.KEY,
            descending=False,
            keys_only=keys_only,
            count_only=False,
        )
        timeout_s = self._timeout(timeout)
        read_page = self._page_reader(to_level(level), revision, lambda: timeout_s)
        return Scan(Pages(read_page, message, to_int64(page_keys, "page_keys", 1)))

    def scan_prefix(
        self,
        prefix: str | bytes,
        *,
        revision: int = 0,
        keys_only: bool = False,
        page_keys: int = SCAN_PAGE_KEYS,
        level: Level = ReadLevel.LINEARIZABLE,
        timeout: float | None = None,
    ) -> Scan:
        """The keys that start with `prefix`, all keys if it is empty. Otherwise as `scan`."""
        return self.scan(
            prefix=prefix,
            revision=revision,
            keys_only=keys_only,
            page_keys=page_keys,
            level=level,
            timeout=timeout,
        )

    def delete_range_in_pages(
        self,
        start: str | bytes | None = None,
        end: str | bytes | None = None,
        *,
        prefix: str | bytes | None = None,
        page_keys: int = DELETE_PAGE_KEYS,
        fence: Fences = None,
        timeout: float | None = None,
    ) -> PagedDeletion:
        """Delete the keys from `start` up to and without `end`, or those that begin with `prefix`,
        however many, over several revisions; nothing is deleted before it is iterated.

            deletion = client.delete_range_in_pages("logs/", "logs0")
            async for page in deletion:
                print(deletion.deleted, "keys so far")

        Each page deletes at most `page_keys` of the keys that the range has then: others see it
        half deleted, and what they put there meanwhile may be deleted, too. `fence` guards each.
        """
        start, end = deletion_bounds(start, end, prefix)
        set_fences(kv_pb2.Command(), fence, self._settings)  # what is no fence is refused now
        return PagedDeletion(
            partial(
                self.delete_range,
                to_key(start, self._settings, "start"),
                to_key(end, self._settings, "end"),
                limit=to_int64(page_keys, "page_keys", 1),
                fence=fence,
                timeout=self._timeout(timeout),
            )
        )

    def delete_prefix_in_pages(
        self,
        prefix: str | bytes,
        *,
        page_keys: int = DELETE_PAGE_KEYS,
        fence: Fences = None,
        timeout: float | None = None,
    ) -> PagedDeletion:
        """The keys that start with `prefix`, which must not be empty. Otherwise as
        `delete_range_in_pages`.
        """
        return self.delete_range_in_pages(
            prefix=prefix, page_keys=page_keys, fence=fence, timeout=timeout
        )

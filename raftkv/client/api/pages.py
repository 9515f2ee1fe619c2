"""The client's methods that read and delete ranges of any size, page by page."""

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
    """Ranges of any size, read and deleted page by page. `timeout` is that of each page."""

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
        """The keys of a range in order and one at a time, all from one revision.

            async for kv in client.scan("logs/", "logs0"):
                print(kv.key)

        - `start`, `end`: the first key, and the key before which the range ends; b"\\0" as `end`:
          without end. Or `prefix`: the keys that begin with it.
        - `revision`: a revision of the history; 0: that of the first page.
        - `keys_only`: without values.
        - `page_keys`: at most so many keys are fetched and held at a time, at least 1.
        - `level`: how fresh the first page is, as in `range`; the others are read at its revision.
        - `timeout`: seconds for each page; None: the client's default, 0: one attempt for each.

        Raises `InvalidRequest` for a wrong argument. Iterating raises what `range` does: after an
        error it goes on where it was cut off, but not after `RevisionCompacted`. Costs one read for
        each page.
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
        """The keys that start with `prefix`, in order and one at a time, all from one revision; all
        keys if it is empty.

        - `revision`: a revision of the history; 0: that of the first page.
        - `keys_only`: without values.
        - `page_keys`: at most so many keys are fetched and held at a time, at least 1.
        - `level`: how fresh the first page is, as in `range`; the others are read at its revision.
        - `timeout`: seconds for each page; None: the client's default, 0: one attempt for each.

        Raises `InvalidRequest` for a wrong argument. Iterating raises what `range` does. Otherwise
        as `scan`.
        """
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
        """Delete any number of keys of a range, over several revisions. Nothing is deleted before
        it is iterated.

            deletion = client.delete_range_in_pages("logs/", "logs0")
            async for page in deletion:
                print(deletion.deleted, "keys so far")

        - `start`, `end`: the first key, and the key before which the range ends; b"\\0" as `end`:
          without end. Or `prefix`: the keys that begin with it. An empty prefix is refused.
        - `page_keys`: at most so many keys are deleted in one revision, at least 1; the store
          deletes at most 10,000.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these; checked
          with each page.
        - `timeout`: seconds for each page; None: the client's default, 0: one attempt for each.

        Other clients see the range half deleted, and keys that they put there meanwhile may be
        deleted, too. Raises `InvalidRequest` for a wrong argument. Iterating raises what
        `delete_range` does. Costs one write for each page.
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
        """Delete any number of keys that start with `prefix`, over several revisions. An empty
        prefix is refused.

        - `page_keys`: at most so many keys are deleted in one revision, at least 1; the store
          deletes at most 10,000.
        - `fence`: a lock, a leadership, a grant or `(name, token)`, or a list of these; checked
          with each page.
        - `timeout`: seconds for each page; None: the client's default, 0: one attempt for each.

        Nothing is deleted before it is iterated. Raises `InvalidRequest` for a wrong argument.
        Iterating raises what `delete_range` does. Otherwise as `delete_range_in_pages`.
        """
        return self.delete_range_in_pages(
            prefix=prefix, page_keys=page_keys, fence=fence, timeout=timeout
        )

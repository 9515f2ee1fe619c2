"""A deletion of more keys than one revision may delete, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Self

from raftkv.client.results import DeleteResult
from raftkv.errors import Outcome, RaftkvError

DELETE_PAGE_KEYS: Final = 10_000
"""As many as the store deletes in one revision; of a larger page it deletes no more than these."""


class PagedDeletion:
    """Deletes a page with each iteration, in the order of the keys: `async for page in deletion`.

    Each page is one revision, and applied once at most. What was deleted stays deleted, also if
    an error or a cancellation cuts it off: then the numbers say what is certainly gone, and
    whoever goes on iterating, or deletes the range anew, deletes the rest.
    """

    def __init__(self, delete_page: Callable[[], Awaitable[DeleteResult]]) -> None:
        self.deleted = 0  # keys that are certainly gone
        self.pages = 0  # each of at least one key
        self.first_revision = 0  # of the first page; 0: nothing is deleted yet
        self.last_revision = 0
        self.complete = False
        self.outcome_unknown = False  # one more page may be gone: no answer came
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
        """Delete all that is left; returns itself, for its numbers."""
        async for _ in self:
            pass
        return self

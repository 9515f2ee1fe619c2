"""Ranges of many keys: filled at one revision, read and deleted at one revision or page by page."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen_lite.checkers import ranges
from jepsen_lite.clients.protocol import OperationError
from jepsen_lite.history import History
from jepsen_lite.verdicts import Finding
from jepsen_lite.workloads.base import Invocation, Session

PREFIX = "ranges/"
FILL_MAX = 30
REACH = 150
"""Operations are on the elements that were put last, so many of them."""
PAGES = (1, 7, 50)


class RangeWorkload:
    """Long ranges: every element is a key of its own, put once by a fill of many."""

    name = "ranges"
    reads = frozenset({"read"})

    def __init__(self) -> None:
        self._next = 1
        self._revisions: list[int] = []

    def next(self, rng: Random, worker: int) -> Invocation:
        draw = rng.random()
        if draw < 0.3 or self._next == 1:
            first = self._next
            self._next += rng.choice((1, 5, FILL_MAX))
            return Invocation("fill", PREFIX, [first, self._next])
        first, end = self._range(rng)
        if draw < 0.75:
            revision = rng.choice(self._revisions) if self._revisions and rng.random() < 0.3 else 0
            return Invocation("read", PREFIX, [first, end, revision, rng.choice((0, *PAGES))])
        if draw < 0.93:
            return Invocation("delete", PREFIX, [first, end, rng.choice((0, 0, *PAGES))])
        return Invocation("delete-pages", PREFIX, [first, end, rng.choice(PAGES[1:])])

    def _range(self, rng: Random) -> tuple[int, int]:
        oldest = max(1, self._next - REACH)
        if rng.random() < 0.3:
            return oldest, self._next
        first = rng.randrange(oldest, self._next)
        return first, min(self._next, first + rng.choice((1, 20, 100)))

    async def run(self, session: Session, invocation: Invocation, timeout_s: float) -> Any:
        commands, value = session.client.commands, invocation.value
        first, end = value[:2]
        if invocation.function == "fill":
            puts = [["put", _key(element), ""] for element in range(first, end)]
            transaction = {"compare": [], "success": puts, "failure": []}
            revision, _ = await commands.transact(transaction, timeout_s=timeout_s)
            self._revisions = [*self._revisions[-9:], revision]
            return revision
        start, stop = _key(first), _key(end)
        if invocation.function == "delete":
            done = await commands.delete_range(start, stop, limit=value[2], timeout_s=timeout_s)
            return [done.revision, [_element(row[0]) for row in done.rows], done.more]
        if invocation.function == "delete-pages":
            return await self._delete_pages(session, start, stop, value[2], timeout_s)
        found = await commands.read_range(
            start, stop, revision=value[2], page_keys=value[3], timeout_s=timeout_s
        )
        rows = [[_element(row[0]), row[3]] for row in found.rows]
        return [value[2] or found.revision, rows]

    async def _delete_pages(
        self, session: Session, start: str, stop: str, page_keys: int, timeout_s: float
    ) -> dict[str, Any]:
        """What was deleted before an error counts: then the operation has happened in part."""
        pages: list[list[int]] = []
        deletion = session.client.commands.delete_in_pages(
            start, stop, page_keys=page_keys, timeout_s=timeout_s
        )
        try:
            async for revision, count in deletion:
                pages.append([revision, count])
        except OperationError:
            if not pages:
                raise
            return {"pages": pages, "whole": False}
        return {"pages": pages, "whole": True}

    def final(self) -> Sequence[Invocation]:
        return [Invocation("read", PREFIX, [1, self._next, 0, 50])]

    def check(self, history: History) -> list[Finding]:
        return [ranges.check(list(history.operations(self.name)))]


def _key(element: int) -> str:
    return f"{PREFIX}{element:06}"


def _element(key: str) -> int:
    return int(key.removeprefix(PREFIX))

"""Reads and deletions of ranges that lack, invent or repeat elements are found."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_lite.checkers import ranges
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import INFO, assert_valid, operation, texts

FILL = operation(1, 0, 1, "fill", [1, 4], 2)


def read(
    began: int, revision: int, *rows: tuple[int, int], reach: int = 9, at: int = 0
) -> Operation:
    value = [1, reach, at, 2]
    return operation(2, began, began + 1, "read", value, [revision, [list(row) for row in rows]])


def delete(
    began: int, revision: int, *gone: int, more: bool = False, limit: int = 0, kind: Any = None
) -> Operation:
    value, answer = [1, 9, limit], [revision, list(gone), more]
    if kind is not None:
        return operation(3, began, began + 1, "delete", value, None, kind)
    return operation(3, began, began + 1, "delete", value, answer)


def in_pages(began: int, *pages: list[int], whole: bool = True) -> Operation:
    answer = {"pages": list(pages), "whole": whole}
    return operation(4, began, began + 1, "delete-pages", [1, 9, 2], answer)


ALL = ((1, 2), (2, 2), (3, 2))


@pytest.mark.parametrize(
    "history",
    [
        [FILL, read(4, 2, *ALL)],
        [FILL, delete(2, 3, 1, 2, more=True, limit=2), read(4, 3, (3, 2))],
        [FILL, delete(2, 3, 1, 2, 3), read(4, 2, *ALL, at=2), read(6, 3)],
        [FILL, in_pages(2, [3, 2], [4, 1]), read(4, 4), read(6, 3, (3, 2), at=3)],
        [FILL, delete(2, 0, kind=INFO), read(4, 3), read(6, 4)],
        [operation(1, 0, 1, "fill", [1, 4], None, INFO), read(4, 2, *ALL)],
        [operation(1, 0, 1, "fill", [1, 4], None, INFO), read(4, 2)],
    ],
)
def test_what_can_be_is_valid(history: list[Operation]) -> None:
    assert_valid(ranges.check(history))


@pytest.mark.parametrize(
    ("history", "text"),
    [
        ([FILL, read(4, 2, *ALL[:2])], "lacks 3"),
        ([FILL, read(4, 2, *ALL, (5, 2))], "which are not to be there"),
        ([FILL, read(4, 1, *ALL)], "put later"),
        ([FILL, read(4, 2, *reversed(ALL))], "not in order"),
        ([FILL, read(4, 2, *ALL[:2], (3, 5))], "which was put at 2"),
        ([FILL, delete(2, 3, 1, 2, 3), read(4, 3, (1, 2))], "which were deleted before"),
        ([FILL, delete(2, 3, 1, 3), read(4, 3, (2, 2))], "lacks 2"),
        ([FILL, delete(2, 3, 1, limit=1), read(4, 3, *ALL[1:])], "returned more=False wrongly"),
        ([FILL, delete(2, 3, 1, 2, 3, more=True), read(4, 3)], "returned more=True wrongly"),
        ([FILL, delete(2, 3, 1, 2, 3), delete(4, 4, 3), read(6, 4)], "both deleted 3"),
        ([FILL, in_pages(2, [3, 2], [4, 1]), read(4, 4, (3, 2))], "which were deleted before"),
        ([FILL, in_pages(2, [3, 3]), read(4, 3)], "more than a page"),
        (
            [
                operation(1, 0, 1, "fill", [1, 4], None, INFO),
                read(4, 2, *ALL),
                read(6, 3, *ALL[1:]),
            ],
            "lacks 1",
        ),
    ],
)
def test_what_can_not_be_is_found(history: list[Operation], text: str) -> None:
    found = ranges.check(history)
    assert found.validity is Validity.INVALID
    assert text in texts(found)
